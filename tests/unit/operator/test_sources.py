"""The loops of sources begin, are replaced and end as the API server shows the sources, and no source waits for another."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from embedding_operator.api_errors import ApiServerUnreachable
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.reconciler.deleted_sources import DeletedSources
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.sources import Sources
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.reconciler.window import SMALLEST
from embedding_operator.resources.embedding_job import Phase
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.outcome import RowRequest
from embedding_worker.rows.records import Counts
from tests.support.fake_clock import START, settle
from tests.support.operator_parts import SOURCE, Parts, job_of, requesting, source


class RecordedLoop(SourceLoop):
    """Records what is asked of it, and runs until it is cancelled."""

    def __init__(self, shown: EmbeddingSource) -> None:
        self.shown = shown
        self.requested: list[str | None] = []
        self.state = "new"
        self.draining = False
        self.woken = 0
        self.compared: list[float] = []
        self.ends: asyncio.Event | None = None
        """Once the loop is cancelled, it waits for this."""

    def wake(self) -> None:
        self.woken += 1

    def retry(self) -> None:
        self.wake()

    def request_reconcile(self, token: str | None) -> None:
        self.requested.append(token)

    def drain(self) -> None:
        self.draining = True

    def compare_status(self, listed: EmbeddingSource, *, listed_at: float) -> None:
        self.compared.append(listed_at)

    async def run(self) -> None:
        self.state = "running"
        try:
            await asyncio.Event().wait()
        finally:
            try:
                if self.ends is not None:
                    self.state = "ending"
                    await self.ends.wait()
            finally:
                self.state = "ended"


class RecordedDeletions(DeletedSources):
    """Records the deleted sources whose triggers are to be dropped, by uid."""

    def __init__(self) -> None:
        self.released: list[str] = []

    async def release(self, name: str, uid: str) -> None:
        self.released.append(uid)


class System:
    def __init__(self) -> None:
        self.parts = Parts()
        self.server = self.parts.server
        self.made: list[RecordedLoop] = []
        self.deleted = RecordedDeletions()
        self.sources = Sources(
            self._make,
            catalog=self.parts.catalog,
            queues=self.parts.queues,
            jobs=self.parts.jobs,
            metrics=self.parts.metrics,
            server=self.server,
            deleted=self.deleted,
        )

    def _make(self, shown: EmbeddingSource) -> RecordedLoop:
        self.made.append(RecordedLoop(shown))
        return self.made[-1]

    async def observe(self, shown: EmbeddingSource) -> None:
        self.sources.observe(shown)
        await settle()

    async def delete(self, name: str = SOURCE, *, uid: str | None = None) -> None:
        self.sources.observe_deleted(name, uid=uid)
        await settle()

    def states(self) -> list[str]:
        """Of every loop that was made, in order."""
        return [loop.state for loop in self.made]


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    yield made
    await made.sources.end()


async def test_a_source_that_is_shown_gets_a_loop(system: System) -> None:
    await system.observe(source())
    assert system.states() == ["running"]
    assert [name for name, _ in system.sources.loops()] == ["businesses"]


async def test_the_same_source_shown_again_keeps_its_loop(system: System) -> None:
    await system.observe(source(version=1))
    await system.observe(source(version=2))
    assert system.states() == ["running"]


async def test_a_changed_spec_replaces_the_loop(system: System) -> None:
    await system.observe(source(generation=1, version=1))
    await system.observe(source(generation=2, version=2, text="name || city"))
    assert system.states() == ["ended", "running"]
    assert system.made[1].shown.spec.text == "name || city"


async def test_several_changes_at_once_end_in_one_loop_of_the_newest_spec(system: System) -> None:
    await system.observe(source(generation=1, version=1))
    for generation in (2, 3, 4):
        system.sources.observe(source(generation=generation, version=generation))
    await settle()
    assert system.states() == ["ended", "running"]
    assert system.made[1].shown.metadata.generation == 4


async def test_an_older_event_is_ignored(system: System) -> None:
    await system.observe(source(generation=2, version=20))
    await system.observe(source(generation=1, version=10))
    assert system.states() == ["running"]
    known = system.parts.catalog.get(SOURCE)
    assert known is not None
    assert known.metadata.generation == 2


async def test_a_late_event_of_an_earlier_source_of_this_name_is_ignored(system: System) -> None:
    await system.observe(source(uid="uid-2", version=20))
    await system.observe(source(uid="uid-1", version=10))
    assert [loop.shown.metadata.uid for loop in system.made] == ["uid-2"]


async def test_a_list_of_a_restored_api_server_is_right_although_its_versions_are_older(system: System) -> None:
    await system.observe(source(generation=2, version=20))
    known = system.parts.catalog.get(SOURCE)
    system.sources.observe_listed(source(generation=1, version=10), known_before=known, listed_at=5.0)
    await settle()
    assert [loop.shown.metadata.generation for loop in system.made] == [2, 1]
    await system.observe(source(generation=3, version=11))
    assert system.made[-1].shown.metadata.generation == 3


async def test_a_list_that_is_older_than_an_event_is_ignored(system: System) -> None:
    await system.observe(source(generation=1, version=10))
    known = system.parts.catalog.get(SOURCE)
    await system.observe(source(generation=2, version=20))
    system.sources.observe_listed(source(generation=1, version=10), known_before=known, listed_at=5.0)
    await settle()
    assert system.made[-1].shown.metadata.generation == 2


async def test_a_listed_status_is_compared_with_the_one_that_was_written(system: System) -> None:
    await system.observe(source())
    system.sources.observe_listed(source(), known_before=None, listed_at=5.0)
    assert system.made[0].compared == [5.0]


# Deletion with a finalizer of somebody else


def being_deleted(shown: EmbeddingSource) -> EmbeddingSource:
    return shown.model_copy(update={"metadata": shown.metadata.model_copy(update={"deletion_timestamp": START})})


async def test_a_source_that_is_being_deleted_has_its_loop_ended_and_its_jobs_deleted(system: System) -> None:
    await system.observe(source(version=1))
    system.parts.track(job_of("1", "Bakery"))
    await system.observe(being_deleted(source(version=2)))
    assert (system.states(), list(system.parts.catalog)) == (["ended"], [])
    assert (system.server.stored_jobs, system.parts.table.jobs()) == ({}, [])


async def test_a_source_that_is_being_deleted_gets_no_loop_by_later_events_or_lists(system: System) -> None:
    system.parts.put_job(job_of("1", "Bakery", Phase.DEAD_LETTERED))
    await system.observe(being_deleted(source(version=1)))
    system.sources.observe_listed(being_deleted(source(version=2)), known_before=None, listed_at=5.0)
    await settle()
    assert system.made == []
    assert system.server.stored_jobs == {}


async def test_a_source_that_is_created_again_after_its_finalizers_were_removed_gets_a_loop(system: System) -> None:
    await system.observe(being_deleted(source(uid="uid-1", version=1)))
    await system.delete(uid="uid-1")
    await system.observe(source(uid="uid-2", version=3))
    assert system.states() == ["running"]


async def test_the_column_of_a_source_that_is_being_deleted_is_free(system: System) -> None:
    await system.observe(source("a", uid="uid-8"))
    newer = source("b", uid="uid-9")
    assert system.parts.catalog.older_on_the_same_column(newer) == "a"
    await system.observe(being_deleted(source("a", uid="uid-8", version=2)))
    assert system.parts.catalog.older_on_the_same_column(newer) is None


# Requests and deletions


async def test_a_request_to_reconcile_reaches_the_loop_that_runs(system: System) -> None:
    await system.observe(source(version=1))
    await system.observe(requesting(source(version=2), "today"))
    assert system.states() == ["running"]
    assert system.made[0].requested[-1] == "today"


async def test_a_request_made_before_the_loop_begins_reaches_it(system: System) -> None:
    await system.observe(requesting(source(), "today"))
    assert system.made[0].requested[0] == "today"


async def test_a_deleted_source_has_its_loop_ended_and_its_jobs_deleted(system: System) -> None:
    await system.observe(source())
    system.parts.track(job_of("1", "Bakery"))
    system.parts.track(job_of("1", "Bakery", of="others"))
    await system.delete()
    assert (system.states(), system.sources.loops()) == (["ended"], [])
    assert [job["spec"]["sourceRef"]["name"] for job in system.server.stored_jobs.values()] == ["others"]
    assert [job.source for job in system.parts.table.jobs()] == ["others"]


async def test_the_loop_ends_before_the_jobs_are_deleted(system: System) -> None:
    system.server.hold("delete_jobs")
    await system.observe(source())
    await system.delete()
    assert system.states() == ["ended"]


async def test_the_triggers_of_a_deleted_source_are_dropped(system: System) -> None:
    await system.observe(source(uid="uid-1"))
    await system.delete()
    assert system.deleted.released == ["uid-1"]


async def test_the_triggers_of_a_source_that_was_replaced_without_a_deletion_are_released_before_the_next_loop(
    system: System,
) -> None:
    await system.observe(source(uid="uid-1", version=1))
    await system.observe(source(uid="uid-2", version=2))
    assert (system.deleted.released, system.states()) == (["uid-1"], ["ended", "running"])


async def test_a_changed_spec_releases_nothing(system: System) -> None:
    await system.observe(source(generation=1, version=1))
    await system.observe(source(generation=2, version=2, text="name || city"))
    assert system.deleted.released == []


async def test_jobs_of_a_source_that_was_never_known_are_deleted(system: System) -> None:
    system.parts.put_job(job_of("1", "Bakery"))
    await system.delete()
    assert system.server.stored_jobs == {}


async def test_a_deletion_of_an_earlier_source_of_this_name_is_ignored(system: System) -> None:
    await system.observe(source(uid="uid-2"))
    await system.delete(uid="uid-1")
    assert system.states() == ["running"]
    assert system.server.count("delete_jobs") == 0


async def test_a_source_that_is_created_again_gets_a_loop_of_its_own(system: System) -> None:
    await system.observe(source(uid="uid-1", version=1))
    await system.delete(uid="uid-1")
    await system.observe(source(uid="uid-2", version=2))
    assert system.states() == ["ended", "running"]


async def test_a_source_that_is_created_again_while_its_jobs_are_deleted_begins_afterwards(system: System) -> None:
    released = system.server.hold("delete_jobs")
    await system.observe(source(uid="uid-1", version=1))
    await system.delete(uid="uid-1")
    await system.observe(source(uid="uid-2", version=2))
    assert system.states() == ["ended"]
    released.set()
    await settle()
    assert system.states() == ["ended", "running"]


async def test_a_source_replaced_by_one_of_the_same_name_keeps_its_jobs(system: System) -> None:
    await system.observe(source(uid="uid-1", version=1))
    system.parts.track(job_of("1", "Bakery"))
    await system.observe(source(uid="uid-2", version=2))
    assert system.states() == ["ended", "running"]
    assert len(system.server.stored_jobs) == 1


async def test_a_source_deleted_and_created_again_before_its_loop_has_ended_loses_the_jobs_of_the_deleted_one(
    system: System,
) -> None:
    await system.observe(source(uid="uid-1", version=1))
    system.parts.track(job_of("1", "Bakery", Phase.DEAD_LETTERED))
    system.sources.observe_deleted(SOURCE, uid="uid-1")
    await system.observe(source(uid="uid-2", version=2))
    assert system.states() == ["ended", "running"]
    assert system.server.stored_jobs == {}
    assert system.parts.table.jobs() == []


async def test_a_deletion_that_hangs_delays_no_other_source(system: System) -> None:
    system.server.hold("delete_jobs")
    await system.observe(source())
    await system.delete()
    await system.observe(source("others", uid="uid-9"))
    await system.observe(source("others", uid="uid-9", generation=2, version=2))
    await system.delete("others")
    assert system.states() == ["ended", "ended", "ended"]


async def test_with_the_api_server_away_a_deleted_source_ends_and_can_be_created_again(system: System) -> None:
    system.parts.put_job(job_of("1", "Bakery"))
    system.server.fail("delete_jobs", ApiServerUnreachable("no route"))
    await system.observe(source(uid="uid-1", version=1))
    await system.delete()
    assert system.states() == ["ended"]
    assert len(system.server.stored_jobs) == 1
    await system.observe(source(uid="uid-2", version=2))
    assert system.states() == ["ended", "running"]


async def test_jobs_that_could_not_be_deleted_are_deleted_when_the_deletion_is_reported_again(system: System) -> None:
    system.parts.put_job(job_of("1", "Bakery"))
    system.server.fail("delete_jobs", ApiServerUnreachable("no route"))
    await system.observe(source())
    await system.delete()
    await system.delete()
    assert system.server.stored_jobs == {}


async def test_a_handler_that_waits_for_a_deleted_source_is_released(system: System) -> None:
    await system.observe(source())
    waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, RowRequest("1", "hash"), urgent=False))
    await settle()
    await system.delete()
    await system.parts.clock.advance(181)
    assert waiting.done()
    assert waiting.result() is None


async def test_a_handler_that_has_waited_long_is_released_at_once_when_its_source_is_deleted(system: System) -> None:
    await system.observe(source())
    waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, RowRequest("1", "hash"), urgent=False))
    await system.parts.clock.advance(200)
    assert not waiting.done()
    await system.delete()
    assert waiting.done()
    assert waiting.result() is None


async def test_a_deleted_source_leaves_neither_metrics_nor_a_share_of_the_window(system: System) -> None:
    await system.observe(source())
    counts = Counts(1_000, 1_000, True, None, estimated=False)
    system.parts.metrics.record_facts(SOURCE, SourceFacts(1, "any@8", set_up=True, counts=counts))
    system.parts.window.record_due(SOURCE, 1_000)
    system.parts.window.record_due("others", 1)
    assert system.parts.window.free("others") == 5
    await system.delete()
    assert system.parts.window.free("others") == SMALLEST
    page = system.parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
    assert 'due_rows{source="businesses"}' not in page


async def test_a_job_that_is_done_wakes_its_loop_where_half_of_the_window_is_free(system: System) -> None:
    await system.observe(source())
    system.sources.job_done(SOURCE)
    assert system.made[0].woken == 1


async def test_a_job_that_is_done_wakes_no_loop_while_the_window_is_full(system: System) -> None:
    await system.observe(source())
    for n in range(SMALLEST // 2 + 1):
        system.parts.track(job_of(str(n), "Bakery"))
    system.sources.job_done(SOURCE)
    assert system.parts.table.count({JobState.QUEUED}) == SMALLEST // 2 + 1
    assert system.made[0].woken == 0


async def test_the_end_of_a_job_without_a_source_is_counted_and_wakes_nothing(system: System) -> None:
    for _ in range(1_000):
        system.sources.job_done("unknown")
    assert system.parts.window.size == 500


async def test_the_room_of_deleted_jobs_wakes_the_sources_that_have_due_rows(system: System) -> None:
    await system.observe(source())
    await system.observe(source("others", uid="uid-9"))
    system.parts.window.record_due("others", 3)
    system.sources.room_gained()
    assert [loop.woken for loop in system.made] == [0, 1]


async def test_a_rotated_secret_wakes_every_loop(system: System) -> None:
    await system.observe(source())
    await system.observe(source("others", uid="uid-9"))
    system.sources.retry_all()
    assert [loop.woken for loop in system.made] == [1, 1]


async def test_draining_reaches_the_loops_that_run_and_those_that_begin_later(system: System) -> None:
    await system.observe(source())
    system.sources.drain()
    await system.observe(source("others", uid="uid-9"))
    assert [loop.draining for loop in system.made] == [True, True]


async def test_draining_releases_a_handler_that_waits_for_its_source(system: System) -> None:
    await system.observe(source())
    waiting = asyncio.create_task(system.parts.queues.submit(SOURCE, RowRequest("1", "hash"), urgent=False))
    await settle()
    system.sources.drain()
    await settle()
    assert waiting.done()
    assert waiting.result() is None


async def test_the_end_ends_every_loop(system: System) -> None:
    await system.observe(source())
    await system.observe(source("others", uid="uid-9"))
    await system.sources.end()
    assert (system.states(), system.sources.loops()) == (["ended", "ended"], [])


async def test_the_end_also_ends_a_source_whose_loop_is_being_replaced(system: System) -> None:
    await system.observe(source(generation=1, version=1))
    system.made[0].ends = asyncio.Event()
    await system.observe(source(generation=2, version=2))
    assert system.states() == ["ending"]
    await asyncio.wait_for(system.sources.end(), timeout=10)
    assert system.states() == ["ended"]


async def test_the_end_does_not_wait_for_a_deletion_that_hangs(system: System) -> None:
    system.server.hold("delete_jobs")
    await system.observe(source())
    await system.delete()
    await asyncio.wait_for(system.sources.end(), timeout=10)
    assert system.sources.loops() == []


async def test_nothing_begins_after_the_end(system: System) -> None:
    await system.observe(source())
    await system.sources.end()
    await system.observe(source("others", uid="uid-9"))
    await system.delete()
    assert system.states() == ["ended"]
    assert system.server.count("delete_jobs") == 0
