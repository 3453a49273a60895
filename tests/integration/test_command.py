"""The installed `embedding-operator` command: what it says when it cannot begin, and that it never says a secret."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hack.control_plane.kubeconfig import write_kubeconfig
from hack.processes.environment import program_environment

PROGRAM = Path(sys.executable).with_name("embedding-operator")
MARKER = "s3cr3t-Marker"
URL = f"postgresql://operator:{MARKER}@192.0.2.1/never"


def command(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [PROGRAM, *arguments],
        env=program_environment() | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )


def errors(log: str) -> list[str]:
    """The messages of the log's lines of level error; every line of it is a JSON object."""
    events = [json.loads(line) for line in log.splitlines()]
    return [event["message"] for event in events if event["level"] == "error"]


def test_each_wrong_setting_is_said_on_a_line_of_its_own() -> None:
    wrong = {
        "DATABASE_URL": f"postgresql://operator:{MARKER}@[::1/never",
        "EMBEDDING_INTERVAL_SECONDS": "often",
        "EMBEDDING_LOG_LEVEL": "loud",
        "EMBEDDING_MAX_OPEN_JOB": "5",
    }
    done = command("run", **wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split()[:2] for line in done.stderr.splitlines()] == [["embedding-operator:", name] for name in wrong]
    assert MARKER not in done.stderr


def test_without_any_setting_the_one_that_is_needed_is_named() -> None:
    done = command("run")
    assert done.returncode == 2
    assert done.stderr == "embedding-operator: DATABASE_URL is not set: it is needed, or DATABASE_URL_FILE\n"


def test_a_kubeconfig_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    done = command("run", DATABASE_URL=URL, KUBECONFIG=str(missing))
    assert (done.returncode, done.stdout) == (2, "")
    (message,) = errors(done.stderr)
    assert message == f"KUBECONFIG is '{missing}', and there is no such file: set it to the path of a kubeconfig"
    assert MARKER not in done.stderr


def test_outside_of_a_cluster_and_without_a_kubeconfig_it_says_so() -> None:
    done = command("run", DATABASE_URL=URL, KUBERNETES_SERVICE_HOST="", KUBERNETES_SERVICE_PORT="")
    assert done.returncode == 2
    (message,) = errors(done.stderr)
    assert message == (
        "KUBECONFIG is not set, and this process does not run in a pod: set KUBECONFIG to the path of a kubeconfig"
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"hello", b"\xff\xfe", b"{", b"apiVersion: v1\nkind: Config\n"],
    ids=["empty", "list", "word", "bytes", "broken", "bare"],
)
def test_a_kubeconfig_that_is_none_is_said_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(content)
    done = command("run", DATABASE_URL=URL, KUBECONFIG=str(file))
    assert done.returncode == 2, done.stderr
    (message,) = errors(done.stderr)
    assert message.startswith(f"KUBECONFIG is '{file}', and it cannot be used to connect: ")


def test_a_kubeconfig_whose_server_is_no_url_is_refused(tmp_path: Path) -> None:
    file = write_kubeconfig(tmp_path / "kubeconfig", name="odd", cluster={"server": "nowhere"}, token=MARKER)
    done = command("run", DATABASE_URL=URL, KUBECONFIG=str(file))
    assert done.returncode == 2
    (message,) = errors(done.stderr)
    assert "and its server 'nowhere' is not a URL: correct the file" in message
    assert MARKER not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--help", "Run the operator in its namespace"),
        ("run --help", "Run the operator in its namespace"),
        ("check --help", "Check everything that the operator needs"),
    ],
)
def test_help_needs_no_setting(arguments: str, said: str) -> None:
    done = command(*arguments.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


@pytest.mark.parametrize("arguments", [["walk"], ["run", "--nonsense"]], ids=" ".join)
def test_what_it_does_not_know_is_a_usage_error(arguments: list[str]) -> None:
    done = command(*arguments, DATABASE_URL=URL)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr
    assert "Traceback" not in done.stderr
