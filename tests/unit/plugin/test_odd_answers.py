"""What answers in the place of an API server, and lists that expire, end in a sentence or go on; never in a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from typer.testing import CliRunner

from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.app import app
from kubectl_embeddings.failures import DONE, FAILED
from tests.support.fake_requests import source_body
from tests.support.jobs import job_body
from tests.support.scripted_api_server import Reply, ScriptedApiServer, a_list, as_json, scripted_api_server

LOGIN_PAGE = (200, b"<!doctype html><title>Log in</title>")
VERBS = ["status", "watch", "jobs", "dead-letters", "replay --all", "explain a", "approve a", "remove a", "report"]
EXPIRED = as_json({"message": "The provided continue parameter is too old"}, 410)


def ran(arguments: str, folder: Path, reply: Callable[[str, str], Reply]) -> tuple[int, str, ScriptedApiServer]:
    with scripted_api_server(folder, reply) as server:
        given = [*arguments.split(), *(["-o", str(folder / "r.tar.gz")] if arguments == "report" else [])]
        done = CliRunner().invoke(app, given, env={"KUBECONFIG": str(server.kubeconfig)})
        return done.exit_code, done.output, server


@pytest.mark.parametrize("verb", VERBS)
def test_a_login_page_in_place_of_the_api_server_is_said_with_the_servers_address(verb: str, tmp_path: Path) -> None:
    code, said, server = ran(verb, tmp_path, lambda *_: LOGIN_PAGE)
    assert code == FAILED
    assert said.splitlines()[-1] == (
        f"kubectl embeddings: {server.url} has answered no JSON: a login page or another server may be in its place: "
        "look with `kubectl cluster-info`"
    )


@pytest.mark.parametrize("body", [[], {}, {"items": {}}, {"items": [], "metadata": []}, "text", None])
def test_json_of_another_server_is_said_too(body: object, tmp_path: Path) -> None:
    code, said, _ = ran("status", tmp_path, lambda *_: as_json(body))
    assert code == FAILED
    assert "another server may be in its place" in said


class Pages:
    """A list of two pages, whose second page has expired so often."""

    def __init__(self, expired: int) -> None:
        self.left = expired

    def __call__(self, path: str, query: str) -> Reply:
        if "continue" not in parse_qs(query):
            return a_list(source_body("first"), following="token")
        self.left -= 1
        return EXPIRED if self.left >= 0 else a_list(source_body("second"))


@pytest.mark.parametrize("expired", [0, 1, 2])
def test_a_list_that_expires_before_its_end_is_begun_again(expired: int, tmp_path: Path) -> None:
    code, said, server = ran("status -o json", tmp_path, Pages(expired))
    assert (code, len(server.requests)) == (DONE, 2 * (expired + 1))
    assert [one["metadata"]["name"] for one in json.loads(said)["items"]] == ["first", "second"]


def test_a_list_that_expires_each_time_is_given_up_with_the_reason(tmp_path: Path) -> None:
    code, said, server = ran("status", tmp_path, Pages(99))
    assert (code, len(server.requests)) == (FAILED, 6)
    assert "the list of embeddingsources was 3 times too old before it was read to its end" in said


def test_a_report_with_a_login_that_has_ended_is_not_written(tmp_path: Path) -> None:
    code, said, _ = ran("report", tmp_path, lambda *_: as_json({"message": "Unauthorized"}, 401))
    assert code == FAILED
    assert said.splitlines()[-1].endswith("does not accept the kubeconfig's credentials (Unauthorized): log in again")
    assert not (tmp_path / "r.tar.gz").exists()


@pytest.mark.parametrize("last_answered", ["version", "embeddingsources"])
def test_a_login_that_ends_before_anything_useful_is_read_ends_the_report(last_answered: str, tmp_path: Path) -> None:
    """Every user may read the version, even without a login."""
    answered = []

    def reply(path: str, query: str) -> Reply:
        if last_answered in answered:
            return as_json({"message": "Unauthorized"}, 401)
        answered.append(path.rpartition("/")[2])
        return as_json({"items": [], "metadata": {"resourceVersion": "1"}})

    assert ran("report", tmp_path, reply)[0] == FAILED


def namespace_with_a_dead_letter(path: str, query: str) -> Reply:
    dead = job_body("1", Phase.DEAD_LETTERED, reason="InputRejected")
    if path.endswith("embeddingsources"):
        return a_list(source_body("shops", suspend=True))
    return a_list(dead) if path.endswith("embeddingjobs") else as_json(dead)


@pytest.mark.parametrize(
    ("verb", "command"),
    [
        ("status", "kubectl embeddings resume shops"),
        ("dead-letters", "kubectl embeddings replay --reason InputRejected"),
        ("explain a", "kubectl embeddings replay shops-1-"),
    ],
)
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("", ""),
        ("-n shops", " -n shops"),
        ("--namespace shops --context x", " -n shops --context x"),
        ("--kubeconfig {path}", " --kubeconfig {path}"),
    ],
)
def test_a_command_to_copy_has_the_options_that_the_user_gave_and_no_others(
    verb: str, command: str, given: str, shown: str, tmp_path: Path
) -> None:
    path = tmp_path / "kubeconfig"
    code, said, _ = ran(f"{verb} {given.format(path=path)}", tmp_path, namespace_with_a_dead_letter)
    assert code == DONE
    (line,) = [line.strip() for line in said.splitlines() if line.strip().startswith(command)]
    tail = line.removeprefix(command).partition(" ")
    assert f"{tail[1]}{tail[2]}" == shown.format(path=path)


def test_a_failed_requests_command_has_them_too(tmp_path: Path) -> None:
    assert "`kubectl cluster-info --context x`" in ran("status --context x", tmp_path, lambda *_: LOGIN_PAGE)[1]
