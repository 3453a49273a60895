"""Runs the program that a kubeconfig names as its exec plugin, and reads the credentials that it prints.

Called by credentials.py when there are none yet, when they expire, and when the API server has refused them. The program gets
no settings of the operator, and a terminal only where a person runs a command. What it prints is never part of a message, because
it may contain credentials.
"""

import asyncio
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from embedding_operator.api_access.access import AccessRefused, ClientCertificate, ExecPlugin
from embedding_operator.settings import environment_of_a_program

ENDS_WITHIN_S = 30.0
ENDS_WITH_A_PERSON_WITHIN_S = 300.0
"""Where the program asks its user, who may have to look for a code or a key."""


@dataclass(frozen=True)
class ExecCredential:
    authorization: str | None = field(default=None, repr=False)
    certificate: ClientCertificate | None = None
    expires: datetime | None = None


async def run_plugin(plugin: ExecPlugin) -> ExecCredential:
    """Raises AccessRefused where the program cannot be run, fails, takes too long, or prints no credentials."""
    said = f"the exec plugin {plugin.command!r}"
    try:
        process = await asyncio.create_subprocess_exec(
            _program(plugin),
            *plugin.arguments,
            env=_environment(plugin),
            stdin=None if plugin.terminal else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if plugin.terminal else asyncio.subprocess.DEVNULL,
        )
    except OSError as exc:
        raise AccessRefused(f"{said} cannot be run ({exc.strerror}): install it, or correct its command") from None
    printed = await _output(process, said, ENDS_WITH_A_PERSON_WITHIN_S if plugin.terminal else ENDS_WITHIN_S)
    if process.returncode:
        raise AccessRefused(f"{said} has failed with exit code {process.returncode}: run it by hand to see why")
    try:
        return credential(json.loads(printed), plugin.api_version)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise AccessRefused(f"{said} has printed no ExecCredential of {plugin.api_version}: correct it") from None


async def _output(process: asyncio.subprocess.Process, said: str, within_s: float) -> bytes:
    try:
        async with asyncio.timeout(within_s):
            return (await process.communicate())[0]
    except TimeoutError:
        raise AccessRefused(f"{said} has not ended within {within_s:g} s: run it by hand to see why") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _program(plugin: ExecPlugin) -> str:
    return str(plugin.folder / plugin.command) if os.sep in plugin.command else plugin.command


def _environment(plugin: ExecPlugin) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": plugin.terminal}
    if plugin.cluster is not None:
        spec["cluster"] = dict(plugin.cluster)
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return environment_of_a_program() | dict(plugin.variables) | {"KUBERNETES_EXEC_INFO": json.dumps(info)}


def credential(printed: Any, api_version: str) -> ExecCredential:
    """The credentials in what the program has printed. Raises ValueError, TypeError or KeyError where there are none."""
    if (printed["apiVersion"], printed["kind"]) != (api_version, "ExecCredential"):
        raise ValueError("another version or kind")
    status = printed["status"]
    token, certificate, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if not token and not (certificate and key):
        raise ValueError("neither a token nor a certificate")
    moment = status.get("expirationTimestamp")
    expires = datetime.fromisoformat(moment) if moment else None
    return ExecCredential(
        f"Bearer {token}" if token else None,
        ClientCertificate(certificate, key) if certificate and key else None,
        expires.replace(tzinfo=expires.tzinfo or UTC) if expires else None,
    )
