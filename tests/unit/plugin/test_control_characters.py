"""What the cluster's texts contain does not change what a terminal shows or does; `-o json|yaml` stay as they are."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedding_operator.api_errors import Invalid
from embedding_operator.resources.embedding_job import Phase
from hack.processes.environment import program_environment
from kubectl_embeddings.app import app
from kubectl_embeddings.layout import paragraph, printable, table
from kubectl_embeddings.live_state import LiveState
from kubectl_embeddings.replay import Pace, Selection, show_replay
from kubectl_embeddings.source_watch import Change, Kind
from kubectl_embeddings.terminal import screen
from kubectl_embeddings.watching import Lines, drawn
from tests.support.fake_clock import START, FakeClock, let_time_pass
from tests.support.fake_requests import FakeRequests, Printed, condition, source_body
from tests.support.jobs import job_body, name_of
from tests.support.scripted_api_server import Reply, a_list, as_json, scripted_api_server

EVIL = "\x1b]0;owned\x07\x9b31m\u202e\u200b\x00\r"
ESCAPED = r"\x1b]0;owned\x07\x9b31m\u202e\u200b\x00"
AWAY = condition("Stalled", "True", f"Reason{EVIL}", f"message {EVIL}")


def harmless(text: str) -> bool:
    return not set(text) & (set(EVIL) - set("]0;owned31m"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (EVIL, rf"{ESCAPED}\r"),
        ("two\nlines", "two\nlines"),
        ("日本\u3000語, ü, 1\u00a0000, ✓ …", "日本\u3000語, ü, 1\u00a0000, ✓ …"),
        ("\t\x7f\x85\u2028\ufeff\U000e0041\ud800", r"\t\x7f\x85\u2028\ufeff\U000e0041\ud800"),
        (r"a \ b '\''", r"a \ b '\''"),
    ],
)
def test_what_is_not_shown_is_written_as_in_python(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_columns_and_lines_are_as_wide_as_what_is_shown() -> None:
    lines = table(("A", "B"), [["\x1b", "x"], ["longer", "y"]]).splitlines()
    assert lines == ["A       B", r"\x1b    x", "longer  y"]
    assert max(map(len, paragraph("\x1b\x1b \x1b\x1b \x1b\x1b", width=20).splitlines())) <= 20


def test_every_verb_prints_to_people_by_a_screen_that_shows_no_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen().emit(f"a\n{EVIL}")
    screen().note(EVIL)
    shown = capsys.readouterr()
    assert shown.out.startswith("a\n")
    assert harmless(shown.out)
    assert harmless(shown.err)


def namespace(path: str, query: str) -> Reply:
    if path.endswith("embeddingsources"):
        return a_list(source_body("shops", table=f"public.{EVIL}", status={"conditions": [AWAY], "summary": EVIL}))
    if path.endswith("embeddingjobs"):
        return a_list(job_body(EVIL, Phase.DEAD_LETTERED, source=EVIL, reason=f"R{EVIL}", message=EVIL))
    if "/embeddingjobs/" in path:
        history = [{"time": "2026-03-01T11:00:00Z", "reason": EVIL, "code": EVIL}]
        return as_json(job_body("1", Phase.DEAD_LETTERED, source=EVIL, reason=EVIL, message=EVIL, history=history))
    if path.endswith("approved"):
        return as_json(source_body("approved", table=EVIL, status={"pendingFingerprint": EVIL, "reembed": {}}))
    return as_json({"message": f"it is refused: {EVIL}"}, 403)


@pytest.mark.parametrize(
    "verb",
    ["status", "jobs", "dead-letters", "explain a", "replay --all --dry-run", "approve approved --yes", "remove a"],
)
def test_no_verb_prints_what_the_cluster_says_as_it_is(verb: str, tmp_path: Path) -> None:
    with scripted_api_server(tmp_path, namespace) as server:
        done = CliRunner().invoke(app, verb.split(), env={"KUBECONFIG": str(server.kubeconfig)})
    assert "owned" in done.output
    assert harmless(done.output)


def test_json_has_the_texts_as_they_are(tmp_path: Path) -> None:
    with scripted_api_server(tmp_path, namespace) as server:
        done = CliRunner().invoke(app, ["status", "-o", "json"], env={"KUBECONFIG": str(server.kubeconfig)})
    (source,) = json.loads(done.output)["items"]
    assert source["status"]["summary"] == EVIL


def test_the_lines_and_the_live_view_of_watch_show_no_control_characters() -> None:
    clock, printed, state = FakeClock(), Printed(), LiveState()
    body = source_body("shops", status={"conditions": [AWAY], "summary": EVIL})
    Lines(printed.screen).show(Change(Kind.ADDED, body), clock)
    state.apply(Change(Kind.ADDED, body), START)
    state.problem = f"refused {EVIL}"
    shown = drawn(state, clock).plain
    assert "refused" in shown
    assert harmless(shown)
    assert harmless(printed.text)


async def test_an_outcome_above_the_progress_bar_shows_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    cluster, clock = FakeRequests(jobs=[job_body(one, Phase.DEAD_LETTERED) for one in "12"]), FakeClock()
    cluster.refusals[name_of("1")] = Invalid(EVIL)
    pace = Pace(10.0, False, clock)
    await let_time_pass(clock, show_replay(cluster, (), Selection(everything=True), screen(), pace=pace))
    shown = capsys.readouterr().out
    assert r"\x1b]0;owned\x07" in shown
    assert "\x1b]0;" not in shown


def test_a_real_terminal_gets_none_of_them(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("kubectl-embeddings")
    ours, its = pty.openpty()
    with scripted_api_server(tmp_path, namespace) as server:
        given = program_environment() | {"KUBECONFIG": str(server.kubeconfig), "COLUMNS": "200"}
        command = [str(program), "dead-letters"]
        done = subprocess.run(command, stdin=its, stdout=its, stderr=its, env=given, timeout=60, check=False)
    os.close(its)
    shown = os.read(ours, 65_536).decode().replace("\r\n", "\n")
    os.close(ours)
    assert done.returncode == 0
    assert r"\x1b]0;owned\x07" in shown
    assert harmless(shown)
