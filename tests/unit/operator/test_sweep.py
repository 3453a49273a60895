"""One sweep: what each due row needs, and what becomes of a create request."""

import asyncio
from dataclasses import replace

import pytest

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Gone, Invalid, RequestRefused
from embedding_operator.reconciler.dead_letters import MAX_DEAD_LETTERS
from embedding_operator.reconciler.job_table import JobState
from embedding_operator.reconciler.sweep import DuePlan, Sweeper, sort_due
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.store import DueRow, VectorWrite
from embedding_worker.text import content_hash
from tests.support.fake_clock import settle
from tests.support.fake_store import FakeStore
from tests.support.operator_parts import FINGERPRINT, SOURCE, Parts, job_of

DUE = DueRow("1", 7, True, "hash", blank=False, up_to_date=False, gone=False)
CONNECTION_REFUSED = ApiServerUnreachable("connection refused", may_have_happened=False)
ANSWER_LOST = ApiServerUnreachable("the connection was lost", may_have_happened=True)


class System:
    """A source of these rows with its sweeper. Each row is edited once, and so has a change mark."""

    def __init__(self, texts: dict[str, str] | None = None, *, max_open: int = 500):
        self.parts = Parts(max_open=max_open)
        self.server, self.table, self.clock = self.parts.server, self.parts.table, self.parts.clock
        self.store = FakeStore()
        for row_id, text in (texts or {}).items():
            self.store.edit(row_id, text)
        self.parts.window.record_due(SOURCE, 1_000)
        self.sweeper = Sweeper(
            SOURCE,
            FINGERPRINT,
            store=self.store,
            server=self.server,
            jobs=self.parts.jobs,
            clock=self.clock,
        )

    async def sweep(self) -> None:
        await self.sweeper.sweep()

    def states(self) -> dict[str, JobState]:
        """The state of each business's job."""
        return {job.business_id: job.state for job in self.table.jobs(SOURCE)}

    def created(self) -> list[str]:
        """The business id of every job on the server."""
        return [job["spec"]["businessId"] for job in self.server.stored_jobs.values()]

    def phase(self, row_id: str, text: str) -> str:
        return str(self.server.stored_jobs[name_of(row_id, text)]["status"]["phase"])


def name_of(row_id: str, text: str) -> str:
    return str(job_of(row_id, text)["metadata"]["name"])


@pytest.mark.parametrize(
    "row",
    [replace(DUE, up_to_date=True), replace(DUE, gone=True, content_hash=None), replace(DUE, content_hash=None)],
    ids=["up to date", "gone", "without a hash"],
)
def test_a_row_that_needs_no_vector_has_its_marks_cleared(row: DueRow) -> None:
    assert sort_due([row]) == DuePlan(clear=["1"])


def test_a_row_without_text_gets_a_null_vector_and_no_job() -> None:
    assert sort_due([replace(DUE, blank=True)]) == DuePlan(blank=[VectorWrite("1", "hash", None)])


def test_a_row_whose_vector_is_missing_or_stale_gets_a_job() -> None:
    assert sort_due([DUE]) == DuePlan(jobs=[DUE])


async def test_each_due_row_gets_one_job_that_names_its_text_and_model() -> None:
    system = System({"1": "Bakery", "2": "Garage"})
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
    system = System({"1": "Bakery"})
    await system.sweep()
    await system.sweep()
    assert system.server.requests == [("create_job", name_of("1", "Bakery"))]


async def test_a_created_job_is_known_with_its_mark_and_whether_it_is_an_edit() -> None:
    system = System({"1": "Bakery"})
    await system.sweep()
    job = system.table.get(name_of("1", "Bakery"))
    assert job is not None
    assert (job.newest_mark, job.edited, job.version) == (1, True, 101)


async def test_marks_of_rows_that_are_up_to_date_or_deleted_are_cleared_without_a_job() -> None:
    system = System({"1": "Bakery", "2": "Garage"})
    system.store.embedded["1"] = content_hash("Bakery")
    system.store.delete("2")
    await system.sweep()
    assert system.store.marks == {}
    assert system.server.requests == []


async def test_a_blank_row_is_written_without_a_job() -> None:
    system = System({"1": "  "})
    await system.sweep()
    assert system.store.embedded == {"1": content_hash("  ")}
    assert system.server.requests == []


async def test_a_blank_row_that_the_database_refuses_is_left_out_for_a_minute() -> None:
    system = System({"1": "", "2": "Garage"})
    system.store.refused = {"1"}
    await system.sweep()
    await system.sweep()
    assert system.store.count("write") == 1
    assert system.created() == ["2"]
    await system.clock.advance(60)
    await system.sweep()
    assert system.store.count("write") == 2


async def test_no_more_jobs_are_created_than_the_window_has_places() -> None:
    system = System({str(n): f"name {n}" for n in range(60)})
    await system.sweep()
    await system.sweep()
    assert len(system.created()) == 50


async def test_a_full_window_is_filled_again_as_jobs_finish() -> None:
    system = System({str(n): f"name {n}" for n in range(6)}, max_open=5)
    await system.sweep()
    assert len(system.created()) == 5
    system.store.embed("0")
    system.table.finish(name_of("0", "name 0"))
    await system.sweep()
    assert len(system.created()) == 6


async def test_an_open_job_of_the_same_name_is_adopted() -> None:
    system = System({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery"))
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.count("delete_job") == 0


async def test_a_dead_letter_of_the_same_name_is_adopted_and_not_created_again() -> None:
    system = System({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery", Phase.DEAD_LETTERED))
    await system.sweep()
    await system.sweep()
    assert system.states() == {"1": JobState.DEAD_LETTERED}
    assert system.server.count("create_job") == 1


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
async def test_a_finished_job_of_the_same_name_is_deleted_and_created_in_the_next_sweep(phase: Phase) -> None:
    system = System({"1": "Bakery"})
    job = system.parts.put_job(job_of("1", "Bakery", phase))
    system.parts.finished.add("c0-1", job.name, version=job.metadata.version, now=0.0)
    await system.sweep()
    assert (system.created(), system.states(), system.parts.finished.count) == ([], {}, 0)
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_job_that_is_deleted_before_it_is_adopted_is_created_in_the_next_sweep() -> None:
    system = System({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery"))
    system.server.fail("job", Gone("not found"))
    await system.sweep()
    assert system.states() == {}
    system.server.stored_jobs.clear()
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_job_of_this_name_that_a_person_made_for_another_row_leaves_the_row_out() -> None:
    system = System({"1": "Bakery"})
    foreign = job_of("1", "Bakery")
    foreign["spec"]["businessId"] = "2"
    system.parts.track(foreign)
    await system.sweep()
    assert system.server.count("create_job") == 0
    assert system.states() == {"2": JobState.QUEUED}


async def test_a_row_whose_job_is_invalid_is_left_out_for_a_minute_and_delays_no_other() -> None:
    system = System({"1": "Bakery", "2": "Garage"})
    system.server.fail("create_job", Invalid("spec.businessId is too long"))
    await system.sweep()
    await system.sweep()
    assert system.created() == ["2"]
    assert system.states() == {"2": JobState.QUEUED}
    await system.clock.advance(60)
    await system.sweep()
    assert sorted(system.created()) == ["1", "2"]


async def test_a_quota_that_refuses_a_job_is_raised_and_the_row_is_tried_again_in_the_next_sweep() -> None:
    system = System({"1": "Bakery"})
    system.server.fail("create_job", RequestRefused("exceeded quota"))
    with pytest.raises(RequestRefused, match="exceeded quota"):
        await system.sweep()
    assert system.states() == {}
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}


async def test_what_the_server_accepts_is_created_although_another_create_fails() -> None:
    system = System({"1": "Bakery", "2": "Garage"})
    system.server.fail("create_job", CONNECTION_REFUSED)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {"2": JobState.QUEUED}


async def test_a_refused_connection_created_nothing_so_the_next_sweep_sends_the_create_again() -> None:
    system = System({"1": "Bakery"})
    system.server.fail("create_job", CONNECTION_REFUSED)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {}
    await system.sweep()
    assert system.server.requests == [("create_job", name_of("1", "Bakery"))] * 2
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_throttled_create_created_nothing() -> None:
    system = System({"1": "Bakery"})
    system.server.fail("create_job", ApiServerUnavailable("too many requests", retry_after_s=3.0))
    with pytest.raises(ApiServerUnavailable):
        await system.sweep()
    assert system.states() == {}


async def test_a_create_whose_answer_was_lost_is_found_by_the_next_sweep() -> None:
    system = System({"1": "Bakery"})
    system.server.lose_answers("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {"1": JobState.CREATING}
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.requests == [("create_job", name_of("1", "Bakery")), ("job", name_of("1", "Bakery"))]


async def test_a_create_that_was_lost_with_its_answer_is_sent_again_in_the_next_sweep() -> None:
    system = System({"1": "Bakery"})
    system.server.fail("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.count("create_job") == 2


async def test_a_job_that_finished_before_its_create_was_answered_is_not_tracked_as_open() -> None:
    system = System({"1": "Bakery"})
    system.server.lose_answers("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    await system.server.patch_job_status(name_of("1", "Bakery"), {"phase": "Succeeded"})
    system.store.embed("1")
    await system.sweep()
    assert system.states() == {}
    assert system.parts.finished.count == 1


async def test_a_cancelled_sweep_leaves_no_job_in_creation() -> None:
    system = System({"1": "Bakery"})
    system.server.hold("create_job")
    sweeping = asyncio.create_task(system.sweep())
    await settle()
    assert system.states() == {"1": JobState.CREATING}
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert system.states() == {}


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RETRYING, Phase.DEAD_LETTERED])
async def test_a_job_whose_text_has_changed_is_superseded_and_the_new_text_has_its_own_job(phase: Phase) -> None:
    system = System()
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


async def test_the_job_of_a_deleted_row_is_superseded() -> None:
    system = System({"1": "Bakery"})
    system.parts.track(job_of("1", "Bakery"))
    system.store.delete("1")
    await system.sweep()
    assert system.server.stored_jobs[name_of("1", "Bakery")]["status"]["reason"] == "RowDeleted"
    assert (system.states(), system.parts.finished.count) == ({}, 1)


async def test_a_job_that_a_handler_is_working_on_is_left_to_its_handler() -> None:
    system = System()
    system.table.start(system.parts.track(job_of("1", "Bakery")).name)
    system.store.edit("1", "Bakery and Café")
    await system.sweep()
    assert system.server.requests == []
    assert system.states() == {"1": JobState.RUNNING}


async def test_a_mark_of_the_same_text_is_remembered_and_its_job_goes_on() -> None:
    system = System({"1": "Bakery"})
    await system.sweep()
    system.store.edit("1", "Bakery")
    await system.sweep()
    job = system.table.get(name_of("1", "Bakery"))
    assert job is not None
    assert (job.state, job.newest_mark) == (JobState.QUEUED, 2)
    assert system.server.count("patch_job_status") == 0


async def test_a_job_that_is_deleted_meanwhile_is_no_longer_known() -> None:
    system = System()
    system.parts.track(job_of("1", "Bakery"))
    system.store.edit("1", "Garage")
    system.server.fail("patch_job_status", Gone("not found"))
    await system.sweep()
    assert system.table.get(name_of("1", "Bakery")) is None


async def test_a_job_that_succeeds_before_it_is_superseded_counts_as_finished() -> None:
    system = System()
    system.parts.track(job_of("1", "Bakery"))
    await system.server.patch_job_status(name_of("1", "Bakery"), {"phase": "Succeeded"})
    system.store.edit("1", "Garage")
    await system.sweep()
    assert system.phase("1", "Bakery") == "Succeeded"
    assert system.parts.finished.count == 1
    assert system.created() == ["1", "1"]


async def test_an_old_event_of_a_superseded_job_does_not_open_it_again() -> None:
    system = System()
    system.parts.track(job_of("1", "Bakery"))
    touched = system.parts.put_job(system.server.stored_jobs[name_of("1", "Bakery")])
    system.store.edit("1", "Garage")
    await system.sweep()
    assert system.table.observe(touched) is False
    assert system.table.get(name_of("1", "Bakery")) is None


async def test_a_dead_letter_whose_mark_is_known_is_reviewed_once_a_minute() -> None:
    system = System({"1": "Bakery"})
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
    system = System({"new": "Bakery"})
    assert system.sweeper.problem is None
    for n in range(MAX_DEAD_LETTERS):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    await system.sweep()
    assert system.server.requests == []
    assert system.sweeper.problem == (
        "DeadLetterLimit",
        "there are 500 dead letters: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected",
    )


async def test_at_the_limit_of_dead_letters_a_corrected_row_frees_its_place() -> None:
    system = System()
    for n in range(MAX_DEAD_LETTERS):
        system.parts.track(job_of(str(n), "Garage", Phase.DEAD_LETTERED))
    system.store.edit("7", "Garage Seven")
    await system.sweep()
    assert system.sweeper.problem is None
    assert system.phase("7", "Garage Seven") == "Pending"


async def test_a_business_gets_five_jobs_a_minute_and_then_waits() -> None:
    system = System()
    for n in range(6):
        system.store.edit("1", f"name {n}")
        await system.sweep()
    assert system.server.count("create_job") == 5
    await system.clock.advance(61)
    await system.sweep()
    assert system.server.count("create_job") == 6


async def test_a_business_at_its_limit_delays_no_other() -> None:
    system = System()
    for n in range(6):
        system.store.edit("1", f"name {n}")
        await system.sweep()
    system.store.edit("2", "Garage")
    await system.sweep()
    assert system.phase("2", "Garage") == "Pending"


@pytest.mark.parametrize("method", ["newer_marks", "sweep", "clear"])
async def test_what_the_store_raises_is_raised(method: str) -> None:
    system = System({"1": "Bakery"})
    system.store.fail(method, DatabaseUnavailable("connection refused"))
    with pytest.raises(DatabaseUnavailable):
        await system.sweep()
