"""One sweep: what each due row needs, and how many jobs are created."""

from dataclasses import replace

import pytest

from embedding_operator.reconciler.job_creator import CREATED_AT_ONCE
from embedding_operator.reconciler.sweep import DuePlan, sort_due
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.reconciler.window import FOR_EDITS
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.records import DueRow
from embedding_worker.text import content_hash
from tests.support.operator_parts import SOURCE, job_of
from tests.support.swept_source import SweptSource, name_of

DUE = DueRow("1", 7, True, "hash", blank=False, up_to_date=False, gone=False)


@pytest.mark.parametrize(
    "row",
    [replace(DUE, up_to_date=True), replace(DUE, gone=True, content_hash=None)],
    ids=["up to date", "gone"],
)
def test_a_row_that_needs_no_vector_has_its_marks_cleared(row: DueRow) -> None:
    assert sort_due([row]) == DuePlan(clear=["1"])


def test_a_row_without_text_gets_a_null_vector_and_no_job() -> None:
    blank = replace(DUE, blank=True)
    assert sort_due([blank]) == DuePlan(blank=[blank])


def test_a_row_whose_text_fails_gets_a_job_that_shows_it() -> None:
    failing = replace(DUE, content_hash=None, text_fails=True)
    assert sort_due([failing]) == DuePlan(jobs=[failing])


def test_a_row_whose_vector_is_missing_or_stale_gets_a_job() -> None:
    assert sort_due([DUE]) == DuePlan(jobs=[DUE])


async def test_each_due_row_gets_one_job_that_names_its_text_and_model() -> None:
    system = SweptSource({"1": "Bakery", "2": "Garage"})
    await system.sweep()
    job = system.server.stored_jobs[name_of("1", "Bakery")]
    assert job["metadata"]["namespace"] == "test"
    assert job["metadata"]["labels"] == {
        "embeddings.yellowbook.dev/source": "businesses",
        "embeddings.yellowbook.dev/cohort": "c0-1",
        "app.kubernetes.io/managed-by": "embedding-operator",
    }
    assert job["spec"] == {
        "sourceRef": {"name": "businesses"},
        "businessId": "1",
        "contentHash": content_hash("Bakery"),
        "fingerprint": "any@8",
    }
    assert system.states() == {"1": JobState.QUEUED, "2": JobState.QUEUED}


async def test_a_row_with_a_job_gets_no_second_one() -> None:
    system = SweptSource({"1": "Bakery"})
    await system.sweep()
    await system.sweep()
    assert system.server.requests == [("create_job", name_of("1", "Bakery"))]


async def test_a_created_job_is_known_with_its_mark_and_whether_it_is_an_edit() -> None:
    system = SweptSource({"1": "Bakery"})
    await system.sweep()
    job = system.table.get(name_of("1", "Bakery"))
    assert job is not None
    assert (job.newest_mark, job.edited, job.version) == (1, True, 101)


async def test_marks_of_rows_that_are_up_to_date_or_deleted_are_cleared_without_a_job() -> None:
    system = SweptSource({"1": "Bakery", "2": "Garage"})
    system.store.embedded["1"] = content_hash("Bakery")
    system.store.delete("2")
    await system.sweep()
    assert system.store.marks == {}
    assert system.server.requests == []


async def test_a_blank_row_is_written_without_a_job() -> None:
    system = SweptSource({"1": "  "})
    await system.sweep()
    assert system.store.embedded == {"1": content_hash("  ")}
    assert system.server.requests == []


@pytest.mark.parametrize("kind", ["refused", "suppressed"])
async def test_a_blank_row_that_the_database_does_not_change_gets_a_job_that_shows_it(kind: str) -> None:
    system = SweptSource({"1": "", "2": "Garage"})
    setattr(system.store, kind, {"1"})
    await system.sweep()
    await system.sweep()
    assert system.store.count("write") == 1
    assert sorted(system.created()) == ["1", "2"]


async def test_a_blank_row_that_is_locked_is_left_out_for_some_seconds() -> None:
    system = SweptSource({"1": ""})
    system.store.locked = {"1"}
    await system.sweep()
    await system.sweep()
    assert (system.store.count("write"), system.created()) == (1, [])
    system.store.locked.clear()
    await system.clock.advance(5)
    await system.sweep()
    assert system.store.embedded == {"1": content_hash("")}


async def test_a_row_whose_text_fails_gets_one_job_until_its_text_changes() -> None:
    system = SweptSource({"1": "Bakery"})
    system.store.failing = {"1"}
    await system.sweep()
    assert [job["spec"]["contentHash"] for job in system.server.stored_jobs.values()] == ["0" * 64]
    system.store.edit("1", "Bakery 2")
    await system.sweep()
    assert len(system.created()) == 1
    assert system.states() == {"1": JobState.QUEUED}
    system.store.failing.clear()
    system.store.edit("1", "Bakery 3")
    await system.sweep()
    assert system.phase("1", "Bakery 3") == "Pending"


async def test_rows_that_fail_beyond_the_room_for_dead_letters_take_no_place_of_others() -> None:
    system = SweptSource({str(n): "any" for n in range(600)} | {"good": "Bakery"})
    system.store.failing = {str(n) for n in range(600)}
    for n in range(500):
        job = job_of(f"dead {n}", "any", Phase.DEAD_LETTERED)
        job["status"]["reason"] = "TextExpressionFailed"
        system.parts.track(job)
    for _ in range(3):
        await system.sweep()
    assert [row for row in system.created() if not row.startswith("dead")] == ["good"]
    assert system.sweeper.problem is None


async def test_rows_whose_update_is_suppressed_are_found_without_a_job_where_there_is_no_room() -> None:
    system = SweptSource({str(n): "any" for n in range(60)} | {"good": "Bakery"})
    system.store.suppressed = {str(n) for n in range(60)}
    for n in range(500):
        job = job_of(f"dead {n}", "any", Phase.DEAD_LETTERED)
        job["status"]["reason"] = "UpdateSuppressed"
        system.parts.track(job)
    for _ in range(3):
        await system.sweep()
    assert [row for row in system.created() if not row.startswith("dead")] == ["good"]


async def test_no_more_jobs_are_created_than_the_window_has_places() -> None:
    system = SweptSource()
    system.store.texts = {str(n): f"name {n}" for n in range(210)}
    await system.store.audit(after_id=None, limit=1_000)
    await system.sweep()
    await system.sweep()
    assert len(system.created()) == 200


async def test_an_edited_row_gets_a_job_although_the_window_is_full_of_others() -> None:
    system = SweptSource()
    system.store.texts = {str(n): f"name {n}" for n in range(210)}
    await system.store.audit(after_id=None, limit=1_000)
    await system.sweep()
    for n in range(FOR_EDITS + 5):
        system.store.edit(f"edited {n}", "new")
    await system.sweep()
    await system.sweep()
    assert len([row for row in system.created() if row.startswith("edited")]) == FOR_EDITS


async def test_rows_that_no_edit_made_due_wait_for_the_next_sweep_once_others_were_edited() -> None:
    system = SweptSource({"edited": "new"})
    system.store.texts |= {f"old {n}": "name" for n in range(3 * CREATED_AT_ONCE)}
    await system.store.audit(after_id=None, limit=1_000)
    await system.sweeper.sweep(stop=lambda: True)
    created = system.created()
    assert (created[0], len(created)) == ("edited", 1 + CREATED_AT_ONCE)


async def test_rows_that_no_edit_made_due_get_jobs_although_others_are_edited_during_each_sweep() -> None:
    system = SweptSource()
    system.store.texts = {f"old {n}": "name" for n in range(3 * CREATED_AT_ONCE)}
    await system.store.audit(after_id=None, limit=1_000)
    for n in range(3):
        system.store.edit(f"edited {n}", "new")
        await system.sweeper.sweep(stop=lambda: True)
    assert sorted(system.created()) == sorted(system.store.texts)


async def test_a_source_is_calm_when_a_sweep_has_found_nothing_and_no_job_is_open() -> None:
    system = SweptSource({"1": "one"})
    assert not system.sweeper.is_calm
    await system.sweep()
    assert not system.sweeper.is_calm
    system.store.embed("1")
    system.table.finish(name_of("1", "one"))
    await system.sweep()
    assert (system.sweeper.is_calm, system.sweeper.has_jobs) == (True, False)


async def test_a_source_is_not_calm_while_the_window_has_no_room_to_look_for_due_rows() -> None:
    system = SweptSource(max_open=1)
    system.parts.track(job_of("1", "one"))
    await system.sweep()
    system.table.finish(name_of("1", "one"))
    assert not system.sweeper.is_calm


async def test_more_edits_are_to_come_while_a_job_of_one_waits_for_its_handler() -> None:
    system = SweptSource({"1": "one"})
    await system.sweep()
    assert system.sweeper.more_to_come(1, urgent=True)
    system.table.start(name_of("1", "one"))
    assert not system.sweeper.more_to_come(1, urgent=True)


async def test_no_edits_are_to_come_while_only_other_jobs_wait() -> None:
    system = SweptSource()
    system.store.texts = {"1": "one"}
    await system.store.audit(after_id=None, limit=1_000)
    await system.sweep()
    assert (system.sweeper.more_to_come(0, urgent=True), system.sweeper.more_to_come(0)) == (False, True)


async def test_a_full_window_is_filled_again_as_jobs_finish() -> None:
    system = SweptSource({str(n): f"name {n}" for n in range(6)}, max_open=5)
    await system.sweep()
    assert len(system.created()) == 5
    system.store.embed("0")
    system.table.finish(name_of("0", "name 0"))
    await system.sweep()
    assert len(system.created()) == 6


async def test_a_business_gets_five_jobs_a_minute_and_then_waits() -> None:
    system = SweptSource()
    for n in range(6):
        system.store.edit("1", f"name {n}")
        await system.sweep()
    assert system.server.count("create_job") == 5
    await system.clock.advance(61)
    await system.sweep()
    assert system.server.count("create_job") == 6


async def test_a_business_at_its_limit_delays_no_other() -> None:
    system = SweptSource()
    for n in range(6):
        system.store.edit("1", f"name {n}")
        await system.sweep()
    system.store.edit("2", "Garage")
    await system.sweep()
    assert system.phase("2", "Garage") == "Pending"


@pytest.mark.parametrize("method", ["newer_marks", "sweep", "clear"])
async def test_what_the_store_raises_is_raised(method: str) -> None:
    system = SweptSource({"1": "Bakery"})
    system.store.fail(method, DatabaseUnavailable("connection refused"))
    with pytest.raises(DatabaseUnavailable):
        await system.sweep()


async def test_where_many_rows_are_locked_the_others_get_no_job_until_they_are_free() -> None:
    system = SweptSource({str(n): "any" for n in range(5)} | {"good": "Bakery"})
    system.store.locked = {str(n) for n in range(5)}
    for n in range(20):
        job = job_of(f"locked {n}", "any", Phase.RETRYING)
        job["status"]["reason"] = "RowLocked"
        system.parts.track(job)
    await system.sweep()
    await system.sweep()
    assert [row for row in system.created() if not row.startswith("locked")] == ["good"]
    system.store.locked.clear()
    await system.clock.advance(30)
    await system.sweep()
    assert len([row for row in system.created() if not row.startswith("locked")]) == 6


async def test_more_rows_are_to_come_to_a_batch_while_jobs_wait_for_their_handlers() -> None:
    system = SweptSource({"1": "one", "2": "two"})
    assert not system.sweeper.more_to_come(0)
    await system.sweep()
    assert system.sweeper.more_to_come(1)
    for row_id, text in {"1": "one", "2": "two"}.items():
        system.table.start(name_of(row_id, text))
    assert not system.sweeper.more_to_come(2)


async def test_more_rows_are_to_come_after_a_sweep_that_has_left_some_if_the_window_has_room_for_them() -> None:
    system = SweptSource({str(n): f"name {n}" for n in range(12)}, max_open=10)
    await system.sweep()
    for row_id in map(str, range(12)):
        if (job := system.table.get(name_of(row_id, f"name {row_id}"))) is not None:
            system.table.start(job.name)
    assert [system.sweeper.more_to_come(gathered) for gathered in (0, 5, 6, 10)] == [True, True, False, False]
    for row_id in map(str, range(10)):
        system.store.embed(row_id)
        system.table.finish(name_of(row_id, f"name {row_id}"))
    await system.sweep()
    for row_id in ("10", "11"):
        system.table.start(name_of(row_id, f"name {row_id}"))
    assert not system.sweeper.more_to_come(0)


async def test_no_rows_are_to_come_where_jobs_that_back_off_leave_no_room_for_them() -> None:
    system = SweptSource({str(n): f"name {n}" for n in range(20)}, max_open=10)
    await system.sweep()
    names = [job.name for job in system.table.jobs(SOURCE)]
    for name in names:
        system.table.start(name)
    for name in names[4:]:
        system.table.settle(name)
        system.table.back_off(name, None)
    assert not system.sweeper.more_to_come(4)
    for name in names[4:]:
        system.table.finish(name)
    assert system.sweeper.more_to_come(4)
