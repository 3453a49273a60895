"""Finished jobs expire, in parallel, until none is left that is to expire, or until other work has waited long enough."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable
from embedding_operator.resources.embedding_job import Phase
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import let_time_pass
from tests.support.housekeeping_system import HousekeepingSystem
from tests.support.operator_parts import job_of

AWAY = ApiServerUnreachable("no route")


@pytest.fixture
def system() -> HousekeepingSystem:
    return HousekeepingSystem()


class CountsDeletes(FakeApiServer):
    """Answers a deletion after a turn of the event loop; records how many of them were sent at once."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.most_running = 0

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        await super().delete_jobs(labels=labels, fields=fields)
        self.running -= 1


async def test_finished_jobs_expire_when_they_are_old_enough(system: HousekeepingSystem) -> None:
    system.finish("1")
    await system.clock.advance(599)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["1"]
    await system.clock.advance(1)
    assert system.sources.gained == 0
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)
    assert system.sources.gained == 1, "sources that waited for room create jobs now"


async def test_the_oldest_finished_jobs_expire_where_there_are_too_many() -> None:
    system = HousekeepingSystem(max_finished=2)
    for n in range(4):
        system.finish(str(n), cohort=f"c0-{n}")
        await system.clock.advance(1)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["2", "3"]
    assert system.parts.finished.count == 2


async def test_only_finished_jobs_of_a_cohort_are_deleted() -> None:
    system = HousekeepingSystem(max_finished=0)
    system.finish("1")
    for row_id, phase in (("2", Phase.PENDING), ("3", Phase.RETRYING), ("4", Phase.DEAD_LETTERED)):
        system.parts.track(job_of(row_id, "Bakery", phase))
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["2", "3", "4"]


async def test_a_finished_job_that_a_person_created_never_expires() -> None:
    system = HousekeepingSystem(max_finished=0)
    system.finish("1", cohort="")
    await system.clock.advance(100_000)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["1"]


async def test_cohorts_are_deleted_in_parallel_but_four_at_once() -> None:
    server = CountsDeletes()
    system = HousekeepingSystem(max_finished=0, server=server)
    for n in range(12):
        system.finish(str(n), cohort=f"c0-{n}")
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), server.most_running) == ([], 4)


async def test_expiry_goes_on_until_nothing_is_left_that_is_to_expire() -> None:
    server = FinishesDuringDeletes()
    system = HousekeepingSystem(max_finished=0, server=server)
    server.finish_one = lambda: system.finish("late", cohort="c0-2")
    system.finish("1")
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)


class FinishesDuringDeletes(FakeApiServer):
    """Another job finishes while the first deletion is carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.finish_one: Callable[[], None] = lambda: None

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        await super().delete_jobs(labels=labels, fields=fields)
        if self.count("delete_jobs") == 1:
            self.finish_one()


class FinishesDuringEachDelete(FakeApiServer):
    """A deletion takes a second, and another job finishes meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.finish_one: Callable[[], Awaitable[None]] | None = None

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        await super().delete_jobs(labels=labels, fields=fields)
        assert self.finish_one is not None
        await self.finish_one()


async def test_jobs_that_finish_as_fast_as_they_are_deleted_delay_other_work_for_ten_seconds_at_most() -> None:
    server = FinishesDuringEachDelete()
    system = HousekeepingSystem(max_finished=0, server=server)

    async def finish_one() -> None:
        await system.clock.sleep(1)
        system.finish(str(server.count("delete_jobs")), cohort=f"c0-{server.count('delete_jobs')}")

    server.finish_one = finish_one
    system.finish("0", cohort="c0-0")
    await let_time_pass(system.clock, system.housekeeping.expire(), within_s=60)
    assert system.clock.monotonic() == 1_010
    assert system.parts.finished.count == 1


async def test_finished_jobs_that_could_not_be_deleted_are_deleted_in_the_next_turn(system: HousekeepingSystem) -> None:
    system.finish("1")
    await system.clock.advance(600)
    system.server.fail("delete_jobs", AWAY)
    await system.housekeeping.turn()
    assert (system.rows_with_jobs(), system.parts.finished.count) == (["1"], 1)
    await system.housekeeping.turn()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)


async def test_one_cohort_that_cannot_be_deleted_keeps_no_other_one_alive() -> None:
    system = HousekeepingSystem(max_finished=0)
    for n in range(3):
        system.finish(str(n), cohort=f"c0-{n}")
    system.server.fail("delete_jobs", ApiServerUnavailable("overloaded"))
    with pytest.raises(ApiServerUnavailable):
        await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["0"]
