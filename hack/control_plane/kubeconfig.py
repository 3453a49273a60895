"""Reads the given kubeconfig, and writes those of the administrator and of service accounts.

Called by the control plane, by the choice of the cluster, and by tests and demo for a service account's credentials.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.control_plane.build import kubectl_path
from hack.errors import ToolError, WrongSetting
from hack.processes.run import run_to_end

# The fields that say how to reach a server and which certificates to trust. The others of a cluster's entry are not copied.
CONNECTION_FIELDS = (
    "server",
    "certificate-authority-data",
    "certificate-authority",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "proxy-url",
    "disable-compression",
)

TOKEN_WITHIN_S = 30.0


@dataclass(frozen=True)
class CurrentContext:
    """The current context of a kubeconfig. `cluster` is the entry of its cluster, with absolute paths."""

    name: str
    cluster: dict[str, Any]
    namespace: str


def current_context(path: Path) -> CurrentContext:
    """Read the current context. Raises WrongSetting, with what is wrong with the file, if it names no server."""
    if not path.is_file():
        raise WrongSetting(f"{path} does not exist")
    try:
        content = yaml.safe_load(path.read_text())
        contexts = {entry["name"]: entry["context"] for entry in content["contexts"]}
        clusters = {entry["name"]: entry["cluster"] for entry in content["clusters"]}
        context = contexts[content["current-context"]]
        cluster = {field: value for field, value in clusters[context["cluster"]].items() if field in CONNECTION_FIELDS}
        if "server" not in cluster:
            raise KeyError("server")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise WrongSetting(f"{path} is no kubeconfig with a current context ({type(exc).__name__}: {reason})") from exc
    if "certificate-authority" in cluster:
        cluster["certificate-authority"] = str(path.parent.absolute() / cluster["certificate-authority"])
    return CurrentContext(content["current-context"], cluster, context.get("namespace") or "default")


def write_kubeconfig(out: Path, *, name: str, cluster: dict[str, Any], token: str, namespace: str = "default") -> Path:
    """Write a kubeconfig with one context, readable by its owner only, atomically."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    write_private(out, yaml.safe_dump(content, sort_keys=False))
    return out


def write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(text)
    unfinished.replace(path)


def service_account_kubeconfig(
    admin_kubeconfig: Path, namespace: str, name: str, out: Path, *, kubectl: Path | None = None
) -> Path:
    """Write to `out` a kubeconfig whose user is the service account, with a token of 24 h, and return `out`.

    The service account must exist. The current context has `namespace`, and reaches the server as `admin_kubeconfig`
    does. Raises ToolError with the output of kubectl if the token is refused.
    """
    context = current_context(admin_kubeconfig)
    where = ["--kubeconfig", admin_kubeconfig, "--namespace", namespace]
    command = [str(kubectl or kubectl_path()), *map(str, where), "create", "token", name, "--duration=24h"]
    created = run_to_end(command, within_s=TOKEN_WITHIN_S)
    if created.returncode != 0:
        raise ToolError(f"no token for service account {namespace}/{name}: {created.stderr.strip()}")
    return write_kubeconfig(
        out, name=f"{namespace}-{name}", cluster=context.cluster, token=created.stdout.strip(), namespace=namespace
    )
