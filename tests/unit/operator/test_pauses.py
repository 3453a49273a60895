"""A job that backs off does not run before its time, and is touched then, so that kopf calls its handler again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION, EmbeddingJob, Phase, parse_job
from embedding_operator.resources.embedding_source import parse_source
from tests.support.fake_clock import settle
from tests.support.jobs import job_body, name_of
from tests.support.manifests import a_source
from tests.support.operator_parts import Parts

AWAY = ApiServerUnreachable("no route")
MOMENT = "2026-03-01T12:01:00.000Z"


class World:
    """The source shops, whose pauses are 110 s at most (100 s and the jitter), and the jobs of its rows."""

    def __init__(self) -> None:
        self.parts = Parts()
        self.server, self.table, self.clock = self.parts.server, self.parts.table, self.parts.clock
        self.limit_pauses(100)
        self.leads = True
        self.pauses = Pauses(self.server, self.table, self.parts.catalog, clock=self.clock, may_work=lambda: self.leads)

    def limit_pauses(self, longest_s: int) -> None:
        retry = {"maxSeconds": longest_s, "initialSeconds": 1}
        self.parts.catalog.put(parse_source(a_source("shops", retry=retry)))

    def back_off(self, business: str = "1", *, seconds: float = 30, phase: Phase = Phase.RETRYING) -> EmbeddingJob:
        """The row's job backs off for so long, and the watch has shown it."""
        until = timestamp(self.clock.now() + timedelta(seconds=seconds))
        job = self.parts.put_job(job_body(business, phase, attempts=1, nextAttemptTime=until))
        self.pauses.holds(job)
        return job

    def touched(self, business: str = "1") -> str | None:
        metadata = self.server.stored_jobs[name_of(business)]["metadata"]
        annotation: str | None = metadata.get("annotations", {}).get(TOUCHED_ANNOTATION)
        return annotation

    @property
    def touches(self) -> int:
        return self.server.count("annotate_job")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    task = asyncio.create_task(made.pauses.run())
    await settle()
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# How long a job waits


@pytest.mark.parametrize(
    ("next_attempt", "expected_s"),
    [
        ("2026-03-01T12:01:00Z", 60),
        ("2026-03-01T12:01:50Z", 110),
        ("2026-03-01T12:01:51Z", 110),
        ("2026-03-01T14:00:00Z", 110),
        ("9999-12-31T23:59:59-12:00", 110),
        ("2026-03-01T12:01:00", 60),
        ("2026-03-01T14:00:00+14:00", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-03-01T11:59:59Z", None),
        ("2016-12-31T23:59:60Z", None),
        ("soon", None),
        (None, None),
    ],
)
def test_no_job_waits_longer_than_the_longest_pause_whatever_its_status_says(
    next_attempt: str | None, expected_s: float | None
) -> None:
    world = World()
    job = parse_job(job_body("1", Phase.RETRYING, nextAttemptTime=next_attempt))
    assert max(world.pauses.remaining_s(job), 0) == pytest.approx(expected_s or 0)
    assert world.pauses.holds(job) is (expected_s is not None)


def test_a_locked_row_waits_for_its_own_pause_where_the_policys_are_shorter() -> None:
    world = World()
    world.limit_pauses(1)
    body = job_body("1", Phase.RETRYING, nextAttemptTime="2026-03-01T12:00:45Z", reason="RowLocked")
    assert world.pauses.remaining_s(parse_job(body)) == 45


@pytest.mark.parametrize("status", [{}, {"nextAttemptTime": MOMENT}], ids=str)
@pytest.mark.parametrize("phase", [None, *(phase for phase in Phase if phase is not Phase.RETRYING)], ids=str)
def test_every_other_job_runs_at_once(phase: Phase | None, status: dict[str, Any]) -> None:
    assert World().pauses.holds(parse_job(job_body("1", phase, **(status if phase else {})))) is False


async def test_the_longest_pause_begins_when_the_job_is_first_seen_to_back_off(world: World) -> None:
    job = world.back_off(seconds=7_200)
    await world.clock.advance(60)
    assert world.pauses.remaining_s(job) == pytest.approx(50)
    assert world.pauses.holds(job) is True
    await world.clock.advance(51)
    assert world.pauses.holds(job) is False


def test_a_job_that_the_table_did_not_know_backs_off_there_too() -> None:
    world = World()
    job = world.back_off()
    known = world.table.get(job.name)
    assert known is not None
    assert (known.state, known.not_before) == (JobState.BACKING_OFF, job.status.next_attempt_time)


# The touch at the end


async def test_a_job_is_touched_once_and_within_a_second_of_its_time(world: World) -> None:
    job = world.back_off(seconds=30)
    await world.clock.advance(29.9)
    assert world.touches == 0
    await world.clock.advance(1)
    assert world.touched() is not None
    assert world.pauses.holds(job) is False
    await world.clock.advance(60)
    assert world.touches == 1


async def test_a_pause_of_hours_is_waited_for_without_a_touch_before_its_end(world: World) -> None:
    world.limit_pauses(7_200)
    world.back_off(seconds=7_000)
    await world.clock.advance(6_999)
    assert world.touches == 0
    await world.clock.advance(2)
    assert world.touches == 1


async def test_a_job_whose_time_comes_first_is_touched_first_whenever_it_was_shown(world: World) -> None:
    world.back_off("1", seconds=40)
    world.back_off("2", seconds=20)
    await world.clock.advance(21)
    assert (world.touched("1"), world.touched("2") is not None) == (None, True)


async def test_a_job_that_was_shown_after_a_time_without_any_is_touched_too(world: World) -> None:
    world.back_off("1", seconds=5)
    await world.clock.advance(100)
    world.back_off("2", seconds=5)
    await world.clock.advance(6)
    assert (world.touches, world.touched("2") is not None) == (2, True)


async def test_hundreds_of_jobs_whose_time_comes_at_once_are_all_touched(world: World) -> None:
    for number in range(300):
        world.back_off(str(number), seconds=10)
    await world.clock.advance(10)
    for _ in range(10):
        await world.clock.advance(0.1)
    assert world.touches == 300


async def test_a_job_that_was_replayed_in_its_pause_is_not_touched(world: World) -> None:
    world.back_off()
    replayed = world.parts.put_job(job_body("1", Phase.PENDING, attempts=1))
    assert world.pauses.holds(replayed) is False
    await world.clock.advance(60)
    assert world.touches == 0


async def test_a_job_that_was_deleted_or_finished_in_its_pause_is_not_touched(world: World) -> None:
    world.table.remove(world.back_off("1").name)
    world.table.finish(world.back_off("2").name)
    await world.clock.advance(60)
    assert world.touches == 0


async def test_a_job_that_a_handler_works_on_is_not_touched(world: World) -> None:
    world.table.start(world.back_off().name)
    await world.clock.advance(60)
    assert world.touches == 0


async def test_a_job_with_another_time_is_touched_at_that_time(world: World) -> None:
    world.back_off(seconds=10)
    world.back_off(seconds=40)
    await world.clock.advance(39)
    assert world.touches == 0
    await world.clock.advance(2)
    assert world.touches == 1


async def test_an_event_from_before_the_jobs_newest_status_neither_waits_nor_touches(world: World) -> None:
    earlier = world.back_off(seconds=10)
    world.table.finish(earlier.name, earlier.metadata.version + 1)
    assert world.pauses.holds(earlier) is False
    await world.clock.advance(60)
    assert world.touches == 0


async def test_an_event_that_is_out_of_date_ends_no_pause(world: World) -> None:
    earlier = world.parts.put_job(job_body("1", Phase.RETRYING, attempts=1, nextAttemptTime=None))
    world.back_off(seconds=10)
    assert world.pauses.holds(earlier) is False
    await world.clock.advance(11)
    assert world.touches == 1


async def test_a_touch_without_an_answer_is_repeated_soon(world: World) -> None:
    world.back_off(seconds=10)
    world.server.fail("annotate_job", AWAY, AWAY)
    await world.clock.advance(11)
    assert (world.touches, world.touched()) == (1, None)
    await world.clock.advance(6)
    assert (world.touches, world.touched() is not None) == (3, True)


async def test_an_outage_costs_a_few_requests_however_many_jobs_wait(world: World) -> None:
    for number in range(300):
        world.back_off(str(number), seconds=10)
    world.server.fail("annotate_job", *[AWAY] * 1_000)
    await world.clock.advance(20)
    assert world.touches <= 40


async def test_a_touch_that_is_refused_is_left_to_housekeeping_and_delays_no_other(world: World) -> None:
    for business in ("1", "2"):
        world.back_off(business, seconds=10)
    world.server.fail("annotate_job", RequestRefused("forbidden"))
    await world.clock.advance(60)
    assert (world.touched("1"), world.touched("2") is not None, world.touches) == (None, True, 2)


async def test_a_job_that_is_gone_when_it_is_touched_is_no_longer_known(world: World) -> None:
    world.back_off(seconds=10)
    world.server.stored_jobs.clear()
    await world.clock.advance(60)
    assert (world.table.jobs(), world.touches) == ([], 1)


async def test_a_job_that_backs_off_again_while_it_is_touched_is_touched_at_its_new_time(world: World) -> None:
    """The event that the touch causes may come before its answer."""
    world.back_off(seconds=10)
    answer = world.server.hold("annotate_job")
    await world.clock.advance(11)
    world.back_off(seconds=20)
    answer.set()
    await world.clock.advance(19)
    assert world.touches == 1
    await world.clock.advance(2)
    assert world.touches == 2


async def test_an_unexpected_error_is_not_repeated_and_delays_no_other_job(world: World) -> None:
    for business in ("1", "2"):
        world.back_off(business, seconds=10)
    world.server.stored_jobs[name_of("1")]["metadata"]["annotations"] = "of an impossible type"
    await world.clock.advance(60)
    assert (world.touches, world.touched("2") is not None) == (2, True)
    world.back_off("3", seconds=10)
    await world.clock.advance(11)
    assert world.touched("3") is not None


async def test_a_process_that_does_not_lead_touches_nothing_until_it_does(world: World) -> None:
    world.back_off(seconds=10)
    world.leads = False
    await world.clock.advance(60)
    assert world.touches == 0
    world.leads = True
    await world.clock.advance(1)
    assert world.touches == 1
