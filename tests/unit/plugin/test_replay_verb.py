"""`kubectl embeddings replay` replays what was named or selected, no faster than it was told, and says what happened to each."""

import sys
from typing import Any

import pytest

from embedding_operator.api_errors import (
    ApiServerUnavailable,
    ApiServerUnreachable,
    Invalid,
    RequestRefused,
    Unauthorized,
)
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.failures import DONE, FAILED, NOT_FOUND, WrongUse
from kubectl_embeddings.replay import Pace, Selection, check_use, rate, show_replay
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_requests import FakeRequests, Printed
from tests.support.jobs import job_body, name_of
from tests.support.manifests import Json

PENDING = {"status": {"phase": "Pending"}}
ALL = Selection(everything=True)
NONE = Selection()


def dead(business: str, reason: str = "RetriesExhausted", *, at: str = "11:50", **changes: Any) -> Json:
    return job_body(business, Phase.DEAD_LETTERED, reason=reason, completionTime=f"2026-03-01T{at}:00.000Z", **changes)


async def replayed(
    cluster: FakeRequests, *names: str, selection: Selection = NONE, dry_run: bool = False
) -> tuple[int, Printed]:
    clock, printed = FakeClock(), Printed()
    work = show_replay(cluster, names, selection, printed.screen, pace=Pace(10.0, dry_run, clock))
    return await let_time_pass(clock, work), printed


def written(cluster: FakeRequests) -> list[str]:
    return [name for name, patch in cluster.writes if patch == PENDING]


async def test_the_named_jobs_are_replayed() -> None:
    cluster = FakeRequests(jobs=[dead("1"), dead("2")])
    code, printed = await replayed(cluster, name_of("2"))
    assert (code, written(cluster)) == (DONE, [name_of("2")])
    assert printed.lines == [f"✓ {name_of('2')}: replayed, after RetriesExhausted"]
    assert printed.notes == ["1 of 1 replayed"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (ALL, ["3", "1", "2"]),
        (Selection(reason="TextTooLong"), ["2"]),
        (Selection(source="others"), ["3"]),
        (Selection(source=""), []),
        (Selection(reason=""), []),
        (Selection(since="2h"), ["1", "2"]),
        (Selection(since="1d", reason="RetriesExhausted"), ["3", "1"]),
    ],
)
async def test_the_selected_dead_letters_are_replayed_the_oldest_first(
    selection: Selection, expected: list[str]
) -> None:
    cluster = FakeRequests(
        jobs=[
            dead("1", at="11:40"),
            dead("2", "TextTooLong"),
            dead("3", at="08:00", source="others"),
            job_body("4", Phase.RETRYING, reason="RetriesExhausted"),
        ]
    )
    assert (await replayed(cluster, selection=selection))[0] == DONE
    assert [name.split("-")[1] for name in written(cluster)] == expected


async def test_replays_follow_each_other_at_the_rate() -> None:
    cluster, clock = FakeRequests(jobs=[dead(str(number)) for number in range(5)]), FakeClock()
    began = clock.monotonic()
    await let_time_pass(clock, show_replay(cluster, (), ALL, Printed().screen, pace=Pace(0.5, False, clock)))
    assert len(written(cluster)) == 5
    assert clock.monotonic() - began == 8.0


async def test_with_a_progress_bar_in_the_terminal_the_outcomes_still_go_where_the_output_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, printed = await replayed(FakeRequests(jobs=[dead("1"), dead("2")]), selection=ALL)
    assert printed.lines == [f"✓ {name_of(one)}: replayed, after RetriesExhausted" for one in ("1", "2")]


async def test_a_dry_run_writes_nothing_and_waits_for_nothing() -> None:
    cluster, clock, printed = FakeRequests(jobs=[dead("1"), dead("2")]), FakeClock(), Printed()
    code = await show_replay(cluster, (), ALL, printed.screen, pace=Pace(0.1, True, clock))
    assert (code, cluster.writes, clock.slept) == (DONE, [], [])
    assert printed.lines[0] == f"✓ {name_of('1')}: would be replayed (DeadLettered, RetriesExhausted)"
    assert printed.notes == ["2 of 2 would be replayed"]


async def test_a_job_that_does_not_exist_does_not_stop_the_others_and_is_exit_code_3() -> None:
    cluster = FakeRequests(jobs=[dead("1")])
    code, printed = await replayed(cluster, "shops-9", name_of("1"))
    assert (code, written(cluster)) == (NOT_FOUND, [name_of("1")])
    assert printed.lines[0] == "✗ shops-9: namespace shops has no shops-9"


async def test_a_pause_is_ended_and_a_pending_job_is_left_as_it_is() -> None:
    cluster = FakeRequests(jobs=[job_body("1", Phase.RETRYING, reason="RowLocked"), job_body("2", Phase.PENDING)])
    code, printed = await replayed(cluster, name_of("1"), name_of("2"))
    assert (code, written(cluster)) == (DONE, [name_of("1")])
    assert printed.lines[1] == f"✓ {name_of('2')}: it is Pending already"
    assert printed.notes == ["1 of 2 replayed, and 1 was Pending already"]


async def test_a_dry_run_counts_a_pending_job_apart_too() -> None:
    cluster = FakeRequests(jobs=[dead("1"), *(job_body(one, Phase.PENDING) for one in "23")])
    _, printed = await replayed(cluster, *(name_of(one) for one in "123"), dry_run=True)
    assert printed.notes == ["1 of 3 would be replayed, and 2 are Pending already"]


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
async def test_a_job_in_a_final_phase_fails_without_a_request(phase: Phase) -> None:
    cluster = FakeRequests(jobs=[job_body("1", phase)])
    code, printed = await replayed(cluster, name_of("1"))
    assert (code, cluster.writes) == (FAILED, [])
    assert printed.lines == [
        f"✗ {name_of('1')}: its phase is {phase}, which is final: edit the row, and it gets a new job"
    ]


@pytest.mark.parametrize("refusal", [Invalid("phases are final"), ApiServerUnavailable("overloaded")])
async def test_one_replay_that_fails_does_not_stop_the_others(refusal: Exception) -> None:
    cluster = FakeRequests(jobs=[dead("1"), dead("2")])
    cluster.refusals[name_of("1")] = refusal
    code, printed = await replayed(cluster, selection=ALL)
    assert (code, written(cluster)) == (FAILED, [name_of("2")])
    assert printed.lines[0] == f"✗ {name_of('1')}: {refusal}"
    assert printed.notes == ["1 of 2 replayed"]


@pytest.mark.parametrize(
    "refusal", [RequestRefused("forbidden"), ApiServerUnreachable("it is away"), Unauthorized("log in")]
)
async def test_what_holds_for_every_job_is_said_once_and_not_for_each_job(refusal: Exception) -> None:
    cluster = FakeRequests(jobs=[dead("1"), dead("2")])
    cluster.refusals[name_of("1")] = refusal
    with pytest.raises(type(refusal)):
        await replayed(cluster, selection=ALL)
    assert cluster.writes == []


@pytest.mark.parametrize(
    ("names", "selection"),
    [
        ((), NONE),
        (("a",), ALL),
        (("a",), Selection(reason="TextTooLong")),
        ((), Selection(everything=True, source="shops")),
    ],
)
def test_what_is_replayed_is_never_guessed(names: tuple[str, ...], selection: Selection) -> None:
    with pytest.raises(WrongUse, match="--all"):
        check_use(names, selection)


async def test_a_time_that_is_none_is_a_wrong_use() -> None:
    with pytest.raises(WrongUse, match=r"--since: 'yesterday' is no duration"):
        await replayed(FakeRequests(), selection=Selection(since="yesterday"))


@pytest.mark.parametrize(("text", "expected"), [("10/s", 10.0), ("5", 5.0), ("30/m", 0.5), ("0.5/s", 0.5)])
def test_a_rate_is_read_in_several_units(text: str, expected: float) -> None:
    assert rate(text) == expected


@pytest.mark.parametrize("text", ["", "fast", "0/s", "-1/s", "1/d"])
def test_a_rate_of_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(WrongUse, match="write 10/s, 30/m or 100/h"):
        rate(text)
