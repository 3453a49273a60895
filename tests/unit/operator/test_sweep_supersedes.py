"""A sweep supersedes jobs whose text has changed, and keeps within the limit of dead letters."""

import asyncio

import pytest

from embedding_operator.api_errors import Gone
from embedding_operator.reconciler.dead_letters import MAX_DEAD_LETTERS
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.text import content_hash
from tests.support.operator_parts import job_of
from tests.support.swept_source import SweptSource, name_of


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RETRYING, Phase.DEAD_LETTERED])
async def test_a_job_whose_text_has_changed_is_superseded_and_the_new_text_has_its_own_job(phase: Phase) -> None:
    system = SweptSource()
    system.parts.track(job_of("1", "Bakery", phase))
    system.store.edit("1", "Bakery and Café")
    await system.sweep()
    assert system.phase("1", "Bakery") == "Superseded"
    status = system.server.stored_jobs[name_of("1", "Bakery")]["status"]
    assert (status["reason"], status["message"]) == (
        "TextChanged",
        "the text has changed: the new text has its own job",
    )
    assert system.phase("1", "Bakery and Café") == "Pending"
    noted = [(row_id, last.phase, last.reason, last.message) for row_id, last in system.noted]
    assert noted == [("1", "Superseded", "TextChanged", status["message"])]


async def test_a_job_that_waits_until_the_provider_can_be_called_is_superseded_when_its_text_changes() -> None:
    system = SweptSource()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.table.start(name)
    system.table.postpone(name, woken := asyncio.Event())
    system.store.edit("1", "Bakery and Café")
    await system.sweep()
    assert system.phase("1", "Bakery") == "Superseded"
    assert system.table.get(name) is None
    assert woken.is_set(), "its handler stops waiting"
    assert system.phase("1", "Bakery and Café") == "Pending"


async def test_the_job_of_a_deleted_row_is_superseded() -> None:
    system = SweptSource({"1": "Bakery"})
    system.parts.track(job_of("1", "Bakery"))
    system.store.delete("1")
    await system.sweep()
    assert system.server.stored_jobs[name_of("1", "Bakery")]["status"]["reason"] == "RowDeleted"
    assert (system.states(), system.parts.finished.count) == ({}, 1)


async def test_a_job_that_a_handler_is_working_on_is_left_to_its_handler() -> None:
    system = SweptSource()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    system.store.edit("1", "Bakery and Café")
    await system.sweep()
    assert system.server.requests == []
    assert system.states() == {"1": JobState.RUNNING}
    assert system.hurried == [("1", content_hash("Bakery"))], "its row gets no other job before it ends"


async def test_a_job_that_a_handler_is_working_on_goes_on_as_before_while_its_text_is_the_same() -> None:
    system = SweptSource()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    system.store.edit("1", "Bakery")
    await system.sweep()
    assert (system.server.requests, system.hurried) == ([], [])


async def test_a_job_whose_status_is_being_sent_is_left_alone() -> None:
    system = SweptSource()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.table.start(name)
    system.table.settle(name)
    system.store.edit("1", "Bakery and Café")
    await system.sweep()
    assert (system.server.requests, system.hurried, system.store.asked) == ([], [], [])


async def test_a_running_job_is_hurried_once_for_each_edit() -> None:
    system = SweptSource()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    for text in ("Bakery and Café", "Café"):
        system.store.edit("1", text)
        for _ in range(3):
            await system.sweep()
    assert system.hurried == [("1", content_hash("Bakery"))] * 2


async def test_a_job_whose_handler_starts_during_the_sweep_is_left_to_its_handler() -> None:
    system = SweptSource()
    name = system.parts.track(job_of("1", "Bakery")).name
    system.store.edit("1", "Bakery and Café")
    system.store.meanwhile = lambda: system.table.start(name)
    await system.sweep()
    assert system.server.requests == []
    assert system.states() == {"1": JobState.RUNNING}
    assert system.hurried == [("1", content_hash("Bakery"))]


async def test_a_mark_of_the_same_text_is_remembered_and_its_job_goes_on() -> None:
    system = SweptSource({"1": "Bakery"})
    await system.sweep()
    system.store.edit("1", "Bakery")
    await system.sweep()
    job = system.table.get(name_of("1", "Bakery"))
    assert job is not None
    assert (job.state, job.newest_mark) == (JobState.QUEUED, 2)
    assert system.server.count("patch_job_status") == 0


async def test_a_job_that_is_deleted_meanwhile_is_no_longer_known() -> None:
    system = SweptSource()
    system.parts.track(job_of("1", "Bakery"))
    system.store.edit("1", "Garage")
    system.server.fail("patch_job_status", Gone("not found"))
    await system.sweep()
    assert system.table.get(name_of("1", "Bakery")) is None


async def test_a_job_that_succeeds_before_it_is_superseded_counts_as_finished() -> None:
    system = SweptSource()
    system.parts.track(job_of("1", "Bakery"))
    await system.server.patch_job_status(name_of("1", "Bakery"), {"phase": "Succeeded"})
    system.store.edit("1", "Garage")
    await system.sweep()
    assert system.phase("1", "Bakery") == "Succeeded"
    assert system.parts.finished.count == 1
    assert system.created() == ["1", "1"]


async def test_an_old_event_of_a_superseded_job_does_not_open_it_again() -> None:
    system = SweptSource()
    system.parts.track(job_of("1", "Bakery"))
    touched = system.parts.put_job(system.server.stored_jobs[name_of("1", "Bakery")])
    system.store.edit("1", "Garage")
    await system.sweep()
    assert system.table.observe(touched) is False
    assert system.table.get(name_of("1", "Bakery")) is None


async def test_a_dead_letter_whose_mark_is_known_is_reviewed_once_a_minute() -> None:
    system = SweptSource({"1": "Bakery"})
    name = system.parts.track(job_of("1", "Bakery", Phase.DEAD_LETTERED)).name
    await system.sweep()
    system.store.delete("1")  # which leaves no newer mark
    await system.clock.advance(59)
    await system.sweep()
    assert system.states() == {"1": JobState.DEAD_LETTERED}
    await system.clock.advance(1)
    await system.sweep()
    assert system.server.stored_jobs[name]["status"]["reason"] == "RowDeleted"
    assert system.states() == {}


async def test_at_the_limit_of_dead_letters_no_job_is_created_and_the_problem_says_what_to_do() -> None:
    system = SweptSource({"new": "Bakery"})
    assert system.sweeper.problem is None
    for n in range(MAX_DEAD_LETTERS):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    await system.sweep()
    assert system.server.requests == []
    assert system.sweeper.problem == (
        "DeadLetterLimit",
        "there are 500 dead letters, and the limit is 500: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected",
    )


async def test_at_the_limit_of_dead_letters_a_corrected_row_frees_its_place() -> None:
    system = SweptSource()
    for n in range(MAX_DEAD_LETTERS):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    system.store.edit("7", "Garage Seven")
    await system.sweep()
    assert system.sweeper.problem is None
    assert system.phase("7", "Garage Seven") == "Pending"


async def test_near_the_limit_of_dead_letters_no_more_jobs_are_open_than_may_become_dead_letters() -> None:
    system = SweptSource({f"new {n}": "Bakery" for n in range(10)})
    for n in range(MAX_DEAD_LETTERS - 3):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    await system.sweep()
    await system.sweep()
    assert len([state for state in system.states().values() if state is JobState.QUEUED]) == 3
    assert system.sweeper.problem is None


async def test_a_replayed_dead_letter_makes_no_room_before_it_has_succeeded() -> None:
    system = SweptSource({"new": "Bakery"})
    for n in range(MAX_DEAD_LETTERS):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    replayed = job_of("7", "Garage")
    replayed["metadata"]["resourceVersion"] = "100000"
    assert system.table.observe(system.parts.put_job(replayed))
    await system.sweep()
    assert "new" not in system.states()
    system.table.finish(name_of("7", "Garage"))
    await system.sweep()
    assert system.states()["new"] is JobState.QUEUED
