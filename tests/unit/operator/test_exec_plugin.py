"""The exec plugin of a kubeconfig is run as kubectl runs it, and a failure is said without what it prints."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embedding_operator.api_access.access import AccessRefused, ExecPlugin
from embedding_operator.api_access.exec_plugin import ExecCredential, credential, run_plugin

V1 = "client.authentication.k8s.io/v1"
MARKER = "secret-that-must-not-be-shown"


def answer(**status: Any) -> dict[str, Any]:
    return {"apiVersion": V1, "kind": "ExecCredential", "status": status}


def plugin(folder: Path, script: str, **changes: Any) -> ExecPlugin:
    """A plugin in this folder that runs a Python script."""
    program = folder / "login"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys\n{script}\n")
    program.chmod(0o700)
    values = {
        "command": "./login",
        "arguments": (),
        "variables": (),
        "api_version": V1,
        "cluster": None,
        "folder": folder,
    }
    return ExecPlugin(**(values | changes))


def printing(content: Any) -> str:
    return f"print({json.dumps(json.dumps(content))})"


async def test_a_token_and_its_end_are_read(tmp_path: Path) -> None:
    script = printing(answer(token="t", expirationTimestamp="2026-03-01T12:00:00Z"))
    found = await run_plugin(plugin(tmp_path, script))
    assert found == ExecCredential("Bearer t", None, datetime(2026, 3, 1, 12, tzinfo=UTC))


async def test_it_gets_arguments_variables_and_the_cluster_but_none_of_our_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", MARKER)
    monkeypatch.setenv("HOME", "/home/me")
    script = (
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "seen = [sys.argv[1:], os.environ['PROFILE'], os.environ['HOME'], 'DATABASE_URL' in os.environ, info]\n"
        f"print(json.dumps({answer(token='')} | {{'status': {{'token': json.dumps(seen)}}}}))"
    )
    made = plugin(tmp_path, script, arguments=("a", "b"), variables=(("PROFILE", "p"),), cluster=(("server", "s"),))
    found = await run_plugin(made)
    assert found.authorization is not None
    assert json.loads(found.authorization.removeprefix("Bearer ")) == [
        ["a", "b"],
        "p",
        "/home/me",
        False,
        {"apiVersion": V1, "kind": "ExecCredential", "spec": {"interactive": False, "cluster": {"server": "s"}}},
    ]


async def test_a_program_that_may_ask_its_user_gets_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        "print('enter the code ABCD', file=sys.stderr)\n"
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"print(json.dumps({answer(token='')} | {{'status': {{'token': str(info['spec']['interactive'])}}}}))"
    )
    assert (await run_plugin(plugin(tmp_path, script, terminal=True))).authorization == "Bearer True"
    assert capfd.readouterr().err == "enter the code ABCD\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f"sys.exit('{MARKER}')", "has failed with exit code 1"),
        (f"print('{MARKER}')", "has printed no ExecCredential"),
        (printing(answer()), "has printed no ExecCredential"),
        (printing(answer(clientCertificateData="c")), "has printed no ExecCredential"),
        (printing(answer(token=MARKER) | {"apiVersion": "v1beta1"}), "has printed no ExecCredential"),
        (printing([MARKER]), "has printed no ExecCredential"),
        (printing(answer(token=MARKER, expirationTimestamp="tomorrow")), "has printed no ExecCredential"),
    ],
)
async def test_a_failure_is_said_without_what_was_printed(tmp_path: Path, script: str, said: str) -> None:
    with pytest.raises(AccessRefused, match=said) as raised:
        await run_plugin(plugin(tmp_path, script))
    assert MARKER not in str(raised.value)


async def test_a_program_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(AccessRefused, match=r"'no-such-login' cannot be run .*: install it"):
        await run_plugin(plugin(tmp_path, "", command="no-such-login"))


async def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedding_operator.api_access.exec_plugin.ENDS_WITHIN_S", 0.5)
    with pytest.raises(AccessRefused, match=r"has not ended within 0\.5 s"):
        await run_plugin(plugin(tmp_path, "sys.stdin = None\nimport signal\nsignal.pause()"))


def test_a_certificate_is_read_with_its_key() -> None:
    found = credential(answer(clientCertificateData="c", clientKeyData="k"), V1)
    assert found.certificate is not None
    assert (found.certificate.certificate, found.certificate.key, found.authorization) == ("c", "k", None)
