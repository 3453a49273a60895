"""`kubectl embeddings` as it is called: its verbs and options, and the exit code of each kind of failure."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from kubectl_embeddings.app import app
from kubectl_embeddings.cluster import escaped
from kubectl_embeddings.failures import WRONG_USE
from tests.support.kubeconfigs import kubeconfig, write

VERBS = (
    "status",
    "jobs",
    "dead-letters",
    "explain",
    "report",
    "replay",
    "suspend",
    "resume",
    "reconcile",
    "approve",
    "remove",
    "watch",
    "ui",
)
MARKER = "secret-that-must-not-be-shown"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """The command sends the log of the whole process to its errors, which would hold for later tests too."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def run(*arguments: str, kubeconfig: Path | str = "/nowhere") -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), env={"KUBECONFIG": str(kubeconfig), "COLUMNS": "80"})
    return done.exit_code, done.output


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_where_it_works_by_the_same_options(verb: str) -> None:
    code, said = run(verb, "--help")
    assert code == 0
    assert {"--namespace", "--context", "--kubeconfig"} <= set(re.findall(r"--[a-z]+", said))
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    "command",
    ["unknown", "status --nowhere", "suspend", "approve", "remove", "jobs --phase Lost", "jobs -o csv"],
)
def test_wrong_arguments_are_exit_code_2(command: str) -> None:
    assert run(*shlex.split(command))[0] == WRONG_USE


def test_a_kubeconfig_that_is_not_there_is_exit_code_2_and_a_sentence(tmp_path: Path) -> None:
    code, said = run("status", kubeconfig=tmp_path / "missing")
    assert code == WRONG_USE
    assert said == (
        f"kubectl embeddings: the kubeconfig is '{tmp_path}/missing', and there is no such file: "
        "set it to the path of a kubeconfig\n"
    )


def test_the_option_is_used_rather_than_the_variable(tmp_path: Path) -> None:
    assert f"the kubeconfig is '{tmp_path}/other'" in run("status", "--kubeconfig", str(tmp_path / "other"))[1]


def test_a_context_that_does_not_exist_is_answered_by_those_that_do(tmp_path: Path) -> None:
    path = write(tmp_path / "kubeconfig", kubeconfig(user={"token": MARKER}))
    code, said = run("status", "--context", "y", kubeconfig=path)
    assert code == WRONG_USE
    assert "it has no context 'y': it has x" in said
    assert MARKER not in said


def test_a_value_with_a_comma_selects_by_that_value() -> None:
    assert escaped("a,b=c\\d") == "a\\,b\\=c\\\\d"
