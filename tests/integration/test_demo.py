"""The demo, as a new user runs it: with a few businesses to its end, and ended by Ctrl-C."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hack.control_plane.pins import Binaries
from hack.processes.environment import program_environment
from hack.repository import ROOT
from tests.support.deadline import wait_until

COMMAND = [sys.executable, "-m", "hack.demo", "--few"]
# Variables of a production system: the demo must not read them.
PRODUCTION = {
    "DATABASE_URL": "postgresql://nobody:secret@production.invalid/db",
    "KUBECONFIG": "/nonexistent/production",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return program_environment() | PRODUCTION | {"TMPDIR": str(tmp_path)}


def processes_under(folder: Path) -> list[str]:
    """Command lines of this machine's processes that work in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environ = (entry / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in command or f"TMPDIR={folder}" in environ:
            found.append(command)
    return found


def search_in_readme() -> list[str]:
    """The lines of the search that the README shows."""
    _, _, after = (ROOT / "README.md").read_text().partition("    $ curl ")
    shown, _, _ = f"    $ curl {after}".partition("\n\n")
    return [line.removeprefix("    ") for line in shown.splitlines()]


@pytest.mark.timeout(900)
def test_the_demo_shows_every_scene_and_ends_with_exit_code_0(
    programs: Binaries, environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(COMMAND, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in (
        "kubectl wait --for=condition=Fresh embeddingsource/businesses",
        "rows have their embedding",
        "$ kubectl get embeddingsources,embeddingjobs",
        "Embedded",
        "now found in place 1",
        "the trigger marked nothing",
        "Klempnerei Brandt & Söhne",
        "鮨処 まつ葉",
        "Fermata Piano Service",
        "西关牙科诊所",
        "Retrying",
        '{"attempt": 2, "delaySeconds"',
        "DeadLettered   1          InputRejected",
        '--subresource=status --type=merge -p \'{"status":{"phase":"Pending"}}\'',
        "patched",
        "four times, and accepted other texts after each",
        "ProviderReady=False ProviderUnavailable: no call is made since",
        "Pending   0",
        'embedding_operator_circuit_open{circuit="gemini"} 1.0',
        '"event": "circuit opened"',
        "texts of rows: 1, test texts: ",
        "ProviderReady=True ProviderReady: the last call succeeded",
        'embedding_operator_circuit_open{circuit="gemini"} 0.0',
        '"event": "circuit closed"',
        "all that it started has ended",
    ):
        assert shown in done.stdout
    assert "secret" not in done.stdout
    _, _, end = done.stdout.partition("Search by meaning, across languages")
    on_port_8080 = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8080", end)
    for line in search_in_readme():
        assert f"{line}\n" in on_port_8080
    assert processes_under(tmp_path) == []


@pytest.mark.timeout(900)
def test_ctrl_c_ends_the_demo_and_all_that_it_started(
    programs: Binaries, environment: dict[str, str], tmp_path: Path
) -> None:
    demo = subprocess.Popen(
        COMMAND, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "kubectl wait" in line:
            break
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to the demo, and to what runs in its foreground
    printed, _ = demo.communicate(timeout=240)
    assert demo.returncode == 130
    assert "interrupted" in printed
    wait_until(lambda: processes_under(tmp_path) == [], within_s=60, because="the demo has ended")
    assert list(tmp_path.glob("embedding-operator-demo-*")) == []
