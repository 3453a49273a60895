"""A pending job shows why it waits, when that lasts, and a job that has something else to show keeps it."""

from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable
from embedding_operator.lifecycle.condition import Condition
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.reconciler.waiting_jobs import (
    LOCKED_SHOWN_AFTER_S,
    SHOWN_AFTER_S,
    SHOWN_IN_A_TURN,
    SHOWN_WITHIN_S,
    WaitingJobs,
)
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase
from tests.support.fake_clock import let_time_pass
from tests.support.operator_parts import SOURCE, Parts, job_of

AWAY = Condition("DatabaseReady", False, "DatabaseUnavailable", "the database: connection refused")
LIMITED = Condition("ProviderReady", False, "DayLimitReached", "as many texts were sent as may be")


class System:
    def __init__(self) -> None:
        self.parts = Parts()
        self.clock, self.table, self.server = self.parts.clock, self.parts.table, self.parts.server
        self.waiting = WaitingJobs(SOURCE, server=self.server, table=self.table, clock=self.clock)

    async def turns(self, why: Condition | None, *, seconds: float = SHOWN_AFTER_S + 1) -> None:
        for _ in range(round(seconds)):
            await self.waiting.show(why)
            await self.clock.advance(1)

    def status(self, job: EmbeddingJob) -> dict[str, Any]:
        found: dict[str, Any] = self.server.stored_jobs[job.name]["status"]
        return found


@pytest.fixture
def system() -> System:
    return System()


async def test_a_job_that_waits_for_long_shows_the_reason_and_stays_pending(system: System) -> None:
    job = system.parts.track(job_of("1", "one"))
    await system.turns(AWAY, seconds=SHOWN_AFTER_S - 1)
    assert "reason" not in system.status(job)
    await system.turns(AWAY, seconds=5)
    shown = system.status(job)
    assert (shown["phase"], shown["reason"], shown["message"]) == (Phase.PENDING, AWAY.reason, AWAY.message)
    assert system.server.count("patch_job_status") == 1


async def test_another_reason_is_shown_in_its_place(system: System) -> None:
    job = system.parts.track(job_of("1", "one"))
    await system.turns(AWAY)
    await system.turns(LIMITED)
    assert system.status(job)["reason"] == LIMITED.reason


async def test_a_problem_that_ends_soon_costs_no_request(system: System) -> None:
    system.parts.track(job_of("1", "one"))
    for _ in range(5):
        await system.turns(AWAY, seconds=SHOWN_AFTER_S - 1)
        await system.turns(None, seconds=1)
    assert system.server.count("patch_job_status") == 0


@pytest.mark.parametrize("phase", [Phase.RETRYING, Phase.DEAD_LETTERED])
async def test_a_job_that_has_failed_keeps_the_reason_of_its_failure(system: System, phase: Phase) -> None:
    body = job_of("1", "one", phase)
    body["status"] |= {"reason": "ProviderError", "attempts": 1}
    job = system.parts.track(body)
    await system.turns(AWAY)
    assert system.status(job)["reason"] == "ProviderError"


async def test_a_job_whose_next_attempt_waits_keeps_the_reason_of_the_last_one(system: System) -> None:
    body = job_of("1", "one", Phase.RETRYING)
    body["status"] |= {"reason": "ProviderError", "attempts": 1}
    job = system.parts.track(body)
    system.table.start(job.name)
    await system.turns(AWAY)
    assert system.status(job)["reason"] == "ProviderError"


async def test_a_job_that_has_another_status_meanwhile_keeps_it(system: System) -> None:
    job = system.parts.track(job_of("1", "one"))
    await system.server.patch_job_status(job.name, {"phase": Phase.RETRYING, "reason": "ProviderError"})
    await system.turns(AWAY)
    assert system.status(job)["reason"] == "ProviderError"


async def test_hundreds_of_jobs_are_written_in_several_turns(system: System) -> None:
    for number in range(3 * SHOWN_IN_A_TURN):
        system.parts.track(job_of(str(number), "one"))
    await system.turns(AWAY, seconds=SHOWN_AFTER_S + 1)
    assert system.server.count("patch_job_status") == SHOWN_IN_A_TURN
    await system.turns(AWAY, seconds=10)
    assert system.server.count("patch_job_status") == 3 * SHOWN_IN_A_TURN
    assert system.table.count({JobState.QUEUED}) == 3 * SHOWN_IN_A_TURN


async def test_jobs_of_other_sources_are_left_alone(system: System) -> None:
    system.parts.track(job_of("1", "one", of="others"))
    await system.turns(AWAY)
    assert system.server.count("patch_job_status") == 0


async def test_a_row_that_several_attempts_have_found_locked_is_told(system: System) -> None:
    name = system.parts.track(job_of("1", "one")).name

    def attempt(reason: str) -> bool:
        system.table.start(name)
        system.table.settle(name)
        system.table.back_off(name, None, reason=reason)
        return system.waiting.are_locked

    assert not attempt("RowLocked")
    await system.clock.advance(LOCKED_SHOWN_AFTER_S)
    assert attempt("RowLocked")
    assert not attempt("ProviderUnavailable")
    assert not attempt("RowLocked")


async def test_an_api_server_that_is_away_is_asked_once_in_a_turn(system: System) -> None:
    for number in range(SHOWN_IN_A_TURN):
        system.parts.track(job_of(str(number), "one"))
    system.server.fail("patch_job_status", *[ApiServerUnreachable("away")] * SHOWN_IN_A_TURN)
    await system.turns(AWAY, seconds=SHOWN_AFTER_S + 1)
    assert system.server.count("patch_job_status") == 1


async def test_a_slow_api_server_does_not_hold_up_the_turn(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(SHOWN_IN_A_TURN):
        system.parts.track(job_of(str(number), "one"))
    patch = system.server.patch_job_status

    async def slow(*args: Any, **kwargs: Any) -> int:
        await system.clock.sleep(1.5)
        return await patch(*args, **kwargs)

    monkeypatch.setattr(system.server, "patch_job_status", slow)
    await system.waiting.show(AWAY)
    await system.clock.advance(SHOWN_AFTER_S)
    began = system.clock.monotonic()
    await let_time_pass(system.clock, system.waiting.show(AWAY))
    assert system.clock.monotonic() - began <= SHOWN_WITHIN_S + 1.5


async def test_after_a_restart_a_pending_job_shows_what_it_waits_for_now(system: System) -> None:
    body = job_of("1", "one")
    body["status"] |= {"reason": "ApiKeyInvalid", "message": "the key was refused"}
    job = system.parts.track(body)
    await system.turns(LIMITED)
    assert system.status(job)["reason"] == LIMITED.reason


async def test_a_locked_row_that_is_seen_after_a_restart_is_told_after_some_time(system: System) -> None:
    body = job_of("1", "one", Phase.RETRYING)
    body["status"] |= {"reason": "RowLocked"}
    system.parts.track(body)
    await system.clock.advance(LOCKED_SHOWN_AFTER_S - 1)
    assert not system.waiting.are_locked
    await system.clock.advance(1)
    assert system.waiting.are_locked
