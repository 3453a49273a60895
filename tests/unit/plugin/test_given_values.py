"""Arguments that cannot be meant are refused in one sentence with exit code 2, before anything is requested."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kubectl_embeddings.app import app
from kubectl_embeddings.failures import WRONG_USE, WrongUse
from kubectl_embeddings.given_values import check_given, is_name
from tests.support.kubeconfigs import kubeconfig, write
from tests.support.scripted_api_server import Reply, a_list, scripted_api_server


def answer(path: str, query: str) -> Reply:
    return a_list()


def refused(arguments: str, folder: Path) -> str:
    with scripted_api_server(folder, answer) as server:
        done = CliRunner().invoke(app, shlex.split(arguments), env={"KUBECONFIG": str(server.kubeconfig)})
        assert (done.exit_code, server.requests) == (WRONG_USE, [])
    (sentence,) = done.output.splitlines()
    return sentence


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ('replay --source ""', "--source"),
        ('replay --reason ""', "--reason"),
        ('replay --since ""', "--since"),
        ('replay --all --rate ""', "--rate"),
        ('replay ""', "a name"),
        ('replay a ""', "a name"),
        ('jobs --source ""', "--source"),
        ('jobs --id ""', "--id"),
        ('dead-letters --source ""', "--source"),
        ('dead-letters --reason ""', "--reason"),
        ('explain ""', "a name"),
        ('explain a --operator-namespace ""', "--operator-namespace"),
        ('report --operator-namespace ""', "--operator-namespace"),
        ('approve ""', "a name"),
        ('remove ""', "a name"),
        ('suspend ""', "a name"),
        ('resume a ""', "a name"),
        ('reconcile a --timeout ""', "--timeout"),
        ('status ""', "a name"),
        ('watch ""', "a name"),
        ('status -n ""', "--namespace"),
        ('status --context ""', "--context"),
        ('status --kubeconfig ""', "--kubeconfig"),
        ('ui -n ""', "--namespace"),
    ],
)
def test_an_empty_value_is_what_an_unset_variable_leaves_and_is_refused(
    arguments: str, what: str, tmp_path: Path
) -> None:
    assert refused(arguments, tmp_path) == f"kubectl embeddings: {what} is empty: give it a value, or leave it out"


@pytest.mark.parametrize(
    "arguments",
    [
        "replay a/../../embeddingsources/shops",
        "replay %2e",
        "replay ..",
        "replay good Bad",
        "explain '?'",
        "explain '../1'",
        "approve 'a b'",
        "remove a/b",
        "suspend -- -a",
        "status a_b",
        "watch .",
        "jobs --source 'a,b'",
        "replay --source '#'",
        f"explain {'a' * 254}",
    ],
)
def test_what_no_object_is_called_is_refused(arguments: str, tmp_path: Path) -> None:
    assert "can't be a name in Kubernetes: these have lower-case letters" in refused(arguments, tmp_path)


@pytest.mark.parametrize("arguments", ["status -n ../x", "explain a --operator-namespace 'a?'", "ui -n a.b"])
def test_what_no_namespace_is_called_is_refused(arguments: str, tmp_path: Path) -> None:
    assert "is no name of a namespace" in refused(arguments, tmp_path)


def test_a_namespace_of_the_kubeconfig_that_cannot_be_is_refused_too(tmp_path: Path) -> None:
    path = write(tmp_path / "kubeconfig", kubeconfig(context={"namespace": "a/../b"}))
    done = CliRunner().invoke(app, ["status"], env={"KUBECONFIG": str(path)})
    assert done.exit_code == WRONG_USE
    assert "the context's namespace 'a/../b' is no name of a namespace" in done.output


@pytest.mark.parametrize("name", ["/1", "shops/", "/"])
def test_a_row_without_its_source_or_id_is_refused(name: str, tmp_path: Path) -> None:
    assert refused(f"explain {name}", tmp_path) == f"kubectl embeddings: '{name}' names no row: write SOURCE/ID"


@pytest.mark.parametrize("row_id", ["?#%2e", "../..", "a/b", " ", "日本", "A,b=c\\"])
def test_the_id_of_a_row_may_be_anything(row_id: str) -> None:
    check_given({"job_or_row": f"shops/{row_id}", "id": row_id})


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(WrongUse, match=r"--id '\\udcff' is not written in UTF-8"):
        check_given({"id": "\udcff"})


@pytest.mark.parametrize("name", ["a", "0", "a-b.c-d", "businesses-17-11111111", "a" * 253])
def test_what_objects_are_called_is_a_name(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a\n", "-a", "a-", "a..b", ".a", "Ä", "٣"])
def test_anything_else_is_no_name(name: str) -> None:
    assert not is_name(name)
