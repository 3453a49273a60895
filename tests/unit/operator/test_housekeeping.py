"""Finished jobs expire, orphaned jobs are touched, and what is known agrees with a list once a minute."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Gone, RequestRefused
from embedding_operator.api_server import Json
from embedding_operator.reconciler.housekeeping import Expiry, Housekeeping
from embedding_operator.reconciler.job_table import JobState
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION, Phase
from embedding_operator.resources.embedding_source import EmbeddingSource
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import settle
from tests.support.manifests import a_source, merged
from tests.support.operator_parts import SOURCE, Parts, job_of, source

AWAY = ApiServerUnreachable("no route")
PATIENCE_S = 30


class RecordedSources(Sources):
    """Records what it is notified of, and runs nothing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.observed: list[str] = []
        self.deleted: list[str] = []

    def observe(self, source: EmbeddingSource) -> None:
        self._parts.catalog.put(source)
        self.observed.append(source.name)

    def observe_deleted(self, name: str, *, uid: str | None = None) -> None:
        self._parts.catalog.remove(name)
        self.deleted.append(name)


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


class System:
    def __init__(self, *, max_finished: int = 1_000, age_s: float = 600, server: FakeApiServer | None = None) -> None:
        self.parts = Parts(server=server)
        self.server, self.table, self.clock = self.parts.server, self.parts.table, self.parts.clock
        self.sources = RecordedSources(self.parts)
        self.housekeeping = Housekeeping(
            self.server,
            self.sources,
            catalog=self.parts.catalog,
            jobs=self.parts.jobs,
            expiry=Expiry(max_finished, age_s),
            clock=self.clock,
        )

    def finish(self, row_id: str, *, cohort: str = "c0-1") -> None:
        """The row's job succeeds now."""
        job = self.parts.put_job(job_of(row_id, "Bakery", Phase.SUCCEEDED, cohort=cohort))
        now = self.clock.monotonic()
        self.parts.finished.add(cohort, job.name, version=job.metadata.version, now=now)

    def put_source(self, name: str = SOURCE) -> None:
        self.server.put_source(merged(a_source(name), {"metadata": {"uid": f"uid of {name}"}}))

    def rows_with_jobs(self) -> list[str]:
        return [job["spec"]["businessId"] for job in self.server.stored_jobs.values()]

    def touched(self, row_id: str) -> str | None:
        (job,) = [job for job in self.server.stored_jobs.values() if job["spec"]["businessId"] == row_id]
        annotation: str | None = job["metadata"].get("annotations", {}).get(TOUCHED_ANNOTATION)
        return annotation


@pytest.fixture
def system() -> System:
    return System()


@pytest.fixture
async def running(system: System) -> AsyncIterator[System]:
    task = asyncio.create_task(system.housekeeping.run())
    await settle()
    yield system
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


# Expiry


async def test_finished_jobs_expire_when_they_are_old_enough(system: System) -> None:
    system.finish("1")
    await system.clock.advance(599)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["1"]
    await system.clock.advance(1)
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)


async def test_the_oldest_finished_jobs_expire_where_there_are_too_many() -> None:
    system = System(max_finished=2)
    for n in range(4):
        system.finish(str(n), cohort=f"c0-{n}")
        await system.clock.advance(1)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["2", "3"]
    assert system.parts.finished.count == 2


async def test_only_finished_jobs_of_a_cohort_are_deleted() -> None:
    system = System(max_finished=0)
    system.finish("1")
    for row_id, phase in (("2", Phase.PENDING), ("3", Phase.RETRYING), ("4", Phase.DEAD_LETTERED)):
        system.parts.track(job_of(row_id, "Bakery", phase))
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["2", "3", "4"]


async def test_a_finished_job_that_a_person_created_never_expires() -> None:
    system = System(max_finished=0)
    system.finish("1", cohort="")
    await system.clock.advance(100_000)
    await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["1"]


async def test_cohorts_are_deleted_in_parallel_but_four_at_once() -> None:
    server = CountsDeletes()
    system = System(max_finished=0, server=server)
    for n in range(12):
        system.finish(str(n), cohort=f"c0-{n}")
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), server.most_running) == ([], 4)


async def test_expiry_goes_on_until_nothing_is_left_that_is_to_expire() -> None:
    server = FinishesDuringDeletes()
    system = System(max_finished=0, server=server)
    server.finish_one = lambda: system.finish("late", cohort="c0-2")
    system.finish("1")
    await system.housekeeping.expire()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)


class FinishesDuringDeletes(FakeApiServer):
    """Another job finishes while the first deletion is carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.finish_one = lambda: None

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        await super().delete_jobs(labels=labels, fields=fields)
        if self.count("delete_jobs") == 1:
            self.finish_one()


async def test_finished_jobs_that_could_not_be_deleted_are_deleted_in_the_next_turn(system: System) -> None:
    system.finish("1")
    await system.clock.advance(600)
    system.server.fail("delete_jobs", AWAY)
    await system.housekeeping.turn()
    assert (system.rows_with_jobs(), system.parts.finished.count) == (["1"], 1)
    await system.housekeeping.turn()
    assert (system.rows_with_jobs(), system.parts.finished.count) == ([], 0)


async def test_one_cohort_that_cannot_be_deleted_keeps_no_other_one_alive() -> None:
    system = System(max_finished=0)
    for n in range(3):
        system.finish(str(n), cohort=f"c0-{n}")
    system.server.fail("delete_jobs", ApiServerUnavailable("overloaded"))
    with pytest.raises(ApiServerUnavailable):
        await system.housekeeping.expire()
    assert system.rows_with_jobs() == ["0"]


# Orphans


async def test_a_job_that_waits_too_long_for_its_handler_is_touched(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S - 1)
    await system.housekeeping.touch_orphans()
    assert system.touched("1") is None
    await system.clock.advance(1)
    await system.housekeeping.touch_orphans()
    assert system.touched("1") == "2026-03-01T12:00:30.000Z"


async def test_an_orphan_is_touched_once_within_half_a_minute(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    for _ in range(3):
        await system.housekeeping.touch_orphans()
    assert system.server.count("annotate_job") == 1
    await system.clock.advance(PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.server.count("annotate_job") == 2


async def test_a_job_that_a_handler_works_on_is_not_touched(system: System) -> None:
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    await system.clock.advance(10 * PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.server.requests == []


async def test_an_orphan_that_was_deleted_is_no_longer_known(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    system.server.stored_jobs.clear()
    await system.clock.advance(PATIENCE_S)
    await system.housekeeping.touch_orphans()
    assert system.table.jobs() == []


async def test_an_orphan_that_may_not_be_touched_delays_no_other_one(system: System) -> None:
    for row_id in ("1", "2"):
        system.parts.track(job_of(row_id, "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", RequestRefused("forbidden"))
    await system.housekeeping.touch_orphans()
    assert (system.touched("1"), system.touched("2")) == (None, "2026-03-01T12:00:30.000Z")


async def test_an_orphan_that_could_not_be_touched_is_touched_as_soon_as_the_api_server_is_back(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", AWAY)
    await system.housekeeping.turn()
    await system.clock.advance(1)
    await system.housekeeping.turn()
    assert system.touched("1") == "2026-03-01T12:00:31.000Z"


# The list


async def test_a_list_shows_sources_and_jobs_that_were_not_known(system: System) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery"))
    await system.housekeeping.resync()
    assert system.sources.observed == ["businesses"]
    assert [(job.business_id, job.state) for job in system.table.jobs()] == [("1", JobState.QUEUED)]
    assert system.sources.deleted == []


async def test_a_source_that_the_list_does_not_have_was_deleted(system: System) -> None:
    system.parts.catalog.put(source())
    await system.housekeeping.resync()
    assert system.sources.deleted == ["businesses"]


async def test_jobs_without_a_source_have_their_source_reported_as_deleted(system: System) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery"))
    system.parts.put_job(job_of("1", "Bakery", of="gone"))
    await system.housekeeping.resync()
    assert system.sources.deleted == ["gone"]


async def test_a_source_that_is_created_while_the_list_is_read_is_not_reported_as_deleted() -> None:
    server = CreatesSourceDuringList()
    system = System(server=server)
    server.create = lambda: system.parts.catalog.put(source())
    await system.housekeeping.resync()
    assert system.sources.deleted == []


class CreatesSourceDuringList(FakeApiServer):
    """The watch shows a new source, which the list does not have yet."""

    def __init__(self) -> None:
        super().__init__()
        self.create = lambda: None

    async def sources(self) -> list[Json]:
        listed = await super().sources()
        self.create()
        return listed


async def test_a_source_that_this_version_does_not_understand_is_logged_and_not_deleted(system: System) -> None:
    system.server.put_source({"metadata": {"name": "newer"}, "spec": {"tables": ["a", "b"]}})
    system.parts.put_job(job_of("1", "Bakery", of="newer"))
    with structlog.testing.capture_logs() as logs:
        await system.housekeeping.resync()
    assert [(entry["event"], entry["name"]) for entry in logs] == [("object not understood", "newer")]
    assert (system.sources.observed, system.sources.deleted) == ([], [])


async def test_a_list_counts_finished_jobs_of_an_earlier_process(system: System) -> None:
    system.put_source()
    system.parts.put_job(job_of("1", "Bakery", Phase.SUCCEEDED, cohort="c1-1"))
    await system.housekeeping.resync()
    assert system.parts.finished.count == 1


# Turns


async def test_a_turn_is_made_every_second_and_a_list_every_minute(running: System) -> None:
    await running.clock.advance(59)
    assert running.server.count("jobs") == 0
    await running.clock.advance(1)
    assert running.server.count("jobs") == 1
    await running.clock.advance(60)
    assert running.server.count("jobs") == 2


async def test_without_the_api_server_housekeeping_says_what_it_waits_for_and_goes_on(running: System) -> None:
    running.server.fail("jobs", *[AWAY] * 3)
    await running.clock.advance(60)
    assert running.housekeeping.waiting_for == "no route"
    await running.clock.advance(3)
    assert running.housekeeping.waiting_for is None
    assert running.clock.monotonic() == running.housekeeping.last_turn


async def test_after_an_outage_the_list_is_read_in_the_next_turn(running: System) -> None:
    running.finish("1")
    await running.clock.advance(599)
    running.server.fail("delete_jobs", AWAY)
    await running.clock.advance(1)
    assert running.housekeeping.waiting_for == "no route"
    lists = running.server.count("jobs")
    await running.clock.advance(1)
    assert running.server.count("jobs") == lists + 1
    assert running.housekeeping.waiting_for is None


async def test_a_deletion_that_is_refused_delays_neither_orphans_nor_the_list(system: System) -> None:
    system.finish("1")
    system.parts.track(job_of("2", "Bakery"))
    await system.clock.advance(600)
    system.server.fail("delete_jobs", RequestRefused("a policy forbids it"))
    await system.housekeeping.turn()
    assert system.touched("2") == "2026-03-01T12:10:00.000Z"
    assert system.server.count("jobs") == 1
    assert system.housekeeping.waiting_for == "a policy forbids it"


async def test_a_job_that_is_gone_when_it_is_touched_ends_no_turn(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    await system.clock.advance(PATIENCE_S)
    system.server.fail("annotate_job", Gone("not found"))
    await system.housekeeping.turn()
    assert system.housekeeping.waiting_for is None
