"""What becomes of a job whose handler is called: its status, its state in the table, and what is recorded of it."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, Invalid, RequestRefused
from embedding_operator.event_poster import EventPoster
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.job_records import JobRecords
from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.job_statuses import JobStatuses
from embedding_operator.reconciler.row_queues import SOURCE_COMES_WITHIN_S, RowQueues
from embedding_operator.reconciler.tracked_job import ACTIVE, IN_FLIGHT, OPEN, JobState, TrackedJob
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parse_job
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.errors import Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.pipeline import RowPipeline
from embedding_worker.rows.records import LastOutcome
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import START, settle
from tests.support.jobs import TEXT, Register, job_body, name_of, tracked
from tests.support.manifests import Json, a_source

NAME = name_of("1")
EMBEDDED = RowOutcome(OutcomeKind.EMBEDDED, "Embedded", "the vector was written")
AWAY = RowOutcome(OutcomeKind.FAILED, "ProviderUnavailable", "the server is away", code="503 UNAVAILABLE")
TOO_LONG = RowOutcome(OutcomeKind.INPUT_REJECTED, "TextTooLong", "the text has 9,000 bytes")


class GatedBatcher:
    """Gives each row this outcome, or error, once its gate is open. Records what was submitted, and how urgent it was."""

    def __init__(self) -> None:
        self.outcome = EMBEDDED
        self.errors: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.submitted: list[tuple[RowRequest, bool]] = []

    async def submit(self, request: RowRequest, *, urgent: bool) -> RowOutcome:
        self.submitted.append((request, urgent))
        await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self.outcome


class CallableProvider:
    """The gate of a source whose provider can be called once `opened` is set."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def wait_until_open(self, woken: asyncio.Event, *, pause_s: float, urgent: bool) -> None:
        waiting = {asyncio.create_task(event.wait()) for event in (self.opened, woken)}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


class World(Register):
    """A source that is ready, and a server with its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.server = FakeApiServer()
        self.metrics = Metrics(clock=self.clock)
        self.done: list[str] = []
        self.leads = True
        self.batcher = GatedBatcher()
        self.catalog = SourceCatalog()
        self.catalog.put(parse_source(a_source("shops", retry={"maxAttempts": 2, "initialSeconds": 10})))
        self.queues = RowQueues(self.catalog, clock=self.clock)
        self.provider = CallableProvider()
        self.noted: list[tuple[str, LastOutcome]] = []
        outcomes = SimpleNamespace(add=lambda row_id, outcome: self.noted.append((row_id, outcome)))
        pipeline = SimpleNamespace(batcher=self.batcher, gate=self.provider, outcomes=outcomes)
        self.queues.open("shops", cast(RowPipeline, pipeline))
        self.events = EventPoster(self.server.create_event, namespace="test", instance="here", clock=self.clock)
        self.runner = JobRunner(
            self.table,
            JobStatuses(self.server, self.table, clock=self.clock),
            self.queues,
            self.catalog,
            records=JobRecords(self.metrics, self.events, job_done=self.done.append, clock=self.clock),
            clock=self.clock,
            jitter=lambda: 0.0,
            may_work=lambda: self.leads,
        )

    def put(self, phase: Phase | None = Phase.PENDING, *, business: str = "1", **status: Any) -> EmbeddingJob:
        """The job as the server shows it from now on."""
        return parse_job(self.server.put_job(job_body(business, phase, **status)))

    async def run(self, job: EmbeddingJob) -> None:
        """Its handler is called, and has ended when this returns."""
        async with asyncio.timeout(60):
            await self.runner.run(job)

    @property
    def status(self) -> Json:
        return cast(Json, self.server.stored_jobs[NAME]["status"])

    async def postpone(self, job: EmbeddingJob) -> "asyncio.Task[None]":
        """Its handler is called, and the provider cannot be called. Returns the handler, which waits."""
        self.batcher.errors = [Postponed("the server is away")]
        running = asyncio.create_task(self.runner.run(job))
        await settle()
        return running

    def tracked(self) -> TrackedJob:
        job = self.table.get(NAME)
        assert job is not None
        return job

    async def emitted(self) -> list[tuple[str, str, str]]:
        """Type, reason and note of the Events that were sent."""
        posting = asyncio.create_task(self.events.run())
        await settle()
        posting.cancel()
        return [(event["type"], event["reason"], event["note"]) for event in self.server.events]


@pytest.fixture
def world() -> World:
    return World()


# The row is embedded.


async def test_a_row_that_is_embedded_finishes_its_job(world: World) -> None:
    job = world.put()
    await world.run(job)
    assert (world.status["phase"], world.status["reason"], world.status["attempts"]) == ("Succeeded", "Embedded", 1)
    assert (world.state(NAME), world.finished.members("cohort-1")) == (None, [NAME])
    assert world.finished.version(NAME) == int(world.server.stored_jobs[NAME]["metadata"]["resourceVersion"])


async def test_a_job_that_succeeds_at_once_costs_one_request(world: World) -> None:
    await world.run(world.put())
    assert world.server.requests == [("patch_job_status", NAME)]


async def test_a_row_that_is_embedded_again_and_again_is_counted_and_named_once(world: World) -> None:
    with capture_logs() as lines:
        for _ in range(8):
            await world.run(world.put())
    named = [line for line in lines if line["event"].startswith("row embedded again and again")]
    assert [(line["log_level"], line["source"], line["job"], line["business"]) for line in named] == [
        ("warning", "shops", NAME, "1")
    ]
    page = world.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
    assert 'embedding_operator_rewritten_rows_total{source="shops"} 3.0' in page


async def test_a_success_is_no_last_outcome_because_the_state_of_the_row_says_it(world: World) -> None:
    await world.run(world.put())
    assert world.noted == []


async def test_each_other_outcome_is_noted_as_its_job_shows_it(world: World) -> None:
    world.batcher.outcome = AWAY
    await world.run(world.put())
    await world.clock.advance(10)
    await world.run(world.put(Phase.RETRYING, attempts=1))
    world.batcher.outcome = RowOutcome(OutcomeKind.ROW_DELETED, "RowDeleted", "the row is gone")
    await world.run(world.put(business="2"))
    noted = [(row_id, last.phase, last.reason, last.attempt) for row_id, last in world.noted]
    assert noted == [
        ("1", "Retrying", "ProviderUnavailable", 1),
        ("1", "DeadLettered", "RetriesExhausted", 2),
        ("2", "Superseded", "RowDeleted", 0),
    ]
    assert world.noted[1][1].message == world.status["message"]
    assert [last.at for _, last in world.noted] == [START, START + timedelta(seconds=10), START + timedelta(seconds=10)]


async def test_a_row_that_stays_locked_is_noted_once(world: World) -> None:
    world.batcher.outcome = RowOutcome(OutcomeKind.ROW_LOCKED, "RowLocked", "it is locked", retry_after_s=15)
    await world.run(world.put())
    await world.clock.advance(20)
    await world.run(world.put(Phase.RETRYING, reason="RowLocked"))
    assert [last.reason for _, last in world.noted] == ["RowLocked"]


async def test_what_is_submitted_is_the_row_with_the_text_that_was_due(world: World) -> None:
    await world.run(world.put())
    assert world.batcher.submitted == [(RowRequest("1", TEXT), False)]


@pytest.mark.parametrize("edited", [True, False])
async def test_the_row_of_an_edit_is_urgent(world: World, edited: bool) -> None:
    world.add("1", edited=edited)
    await world.run(world.put())
    assert world.batcher.submitted == [(RowRequest("1", TEXT), edited)]


@pytest.mark.parametrize("kind", [OutcomeKind.ROW_DELETED, OutcomeKind.TEXT_CHANGED, OutcomeKind.ID_INVALID])
async def test_a_row_that_cannot_or_need_not_be_embedded_supersedes_its_job(world: World, kind: OutcomeKind) -> None:
    world.batcher.outcome = RowOutcome(kind, kind.value, "a sentence")
    await world.run(world.put())
    assert (world.status["phase"], world.status["reason"], world.status["attempts"]) == ("Superseded", kind.value, 0)
    assert (world.state(NAME), world.finished.members("cohort-1"), world.done) == (None, [NAME], ["shops"])


async def test_a_row_that_fails_is_tried_again_after_a_pause(world: World) -> None:
    world.batcher.outcome = AWAY
    await world.run(world.put())
    assert (world.status["phase"], world.status["nextAttemptTime"]) == ("Retrying", "2026-03-01T12:00:10.000Z")
    job = world.tracked()
    assert (job.state, job.not_before) == (JobState.BACKING_OFF, START + timedelta(seconds=10))


async def test_a_job_that_backs_off_succeeds_at_its_next_attempt(world: World) -> None:
    world.batcher.outcome = AWAY
    await world.run(world.put())
    world.batcher.outcome = EMBEDDED
    await world.clock.advance(10)
    await world.run(parse_job(world.server.stored_jobs[NAME]))
    assert (world.status["phase"], world.status["attempts"]) == ("Succeeded", 2)
    assert world.server.stored_jobs[NAME]["metadata"]["annotations"] == {}


async def test_a_row_that_fails_too_often_by_its_sources_policy_is_a_dead_letter(world: World) -> None:
    world.batcher.outcome = AWAY
    await world.run(world.put(Phase.RETRYING, attempts=1))
    assert (world.status["phase"], world.status["reason"]) == ("DeadLettered", "RetriesExhausted")
    assert world.state(NAME) is JobState.DEAD_LETTERED


async def test_a_text_that_the_provider_rejects_is_a_dead_letter_at_once(world: World) -> None:
    world.batcher.outcome = TOO_LONG
    await world.run(world.put())
    assert (world.status["phase"], world.status["reason"]) == ("DeadLettered", "TextTooLong")
    assert world.state(NAME) is JobState.DEAD_LETTERED


async def test_a_job_of_a_source_that_is_unknown_is_released(world: World) -> None:
    world.catalog.remove("shops")
    world.queues.close("shops")
    running = asyncio.create_task(world.runner.run(world.put()))
    await world.clock.advance(SOURCE_COMES_WITHIN_S + 1)
    await running
    assert (world.state(NAME), world.status["phase"], world.server.requests) == (JobState.QUEUED, "Pending", [])


# What is recorded.


@pytest.mark.parametrize(
    ("outcome", "attempts", "done"),
    [(EMBEDDED, 0, ["shops"]), (TOO_LONG, 0, ["shops"]), (AWAY, 1, ["shops"]), (AWAY, 0, [])],
    ids=["succeeded", "rejected", "retries exhausted", "retrying"],
)
async def test_a_place_in_the_window_is_free_when_a_job_is_done_and_not_when_it_backs_off(
    world: World, outcome: RowOutcome, attempts: int, done: list[str]
) -> None:
    world.batcher.outcome = outcome
    await world.run(world.put(Phase.RETRYING, attempts=attempts))
    assert world.done == done


async def test_the_metrics_count_each_end_by_phase_and_reason(world: World) -> None:
    await world.run(world.put())
    line = 'embedding_operator_job_transitions_total{phase="Succeeded",reason="Embedded",source="shops"} 1.0'
    assert line in world.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()


@pytest.mark.parametrize(("edited", "observed"), [(True, 2.0), (False, None)])
async def test_the_time_from_an_edit_to_its_vector_is_measured(
    world: World, edited: bool, observed: float | None
) -> None:
    world.table.begin_create(tracked("1", edited_at=world.clock.monotonic() - 2 if edited else None))
    await world.run(world.put())
    page = world.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
    line = f'edit_to_fresh_seconds_sum{{source="shops"}} {observed}'
    assert (line in page) is edited


async def test_a_job_that_succeeds_emits_no_event(world: World) -> None:
    await world.run(world.put())
    assert await world.emitted() == []


async def test_a_dead_letter_emits_a_warning_with_its_own_message(world: World) -> None:
    world.batcher.outcome = TOO_LONG
    await world.run(world.put())
    assert await world.emitted() == [("Warning", "TextTooLong", "the text has 9,000 bytes")]


async def test_a_dead_letter_is_a_warning_in_the_log_with_its_reason(world: World) -> None:
    world.batcher.outcome = TOO_LONG
    with capture_logs() as logs:
        await world.run(world.put())
    (line,) = [line for line in logs if line["event"] == "job settled"]
    assert (line["log_level"], line["source"], line["reason"]) == ("warning", "shops", "TextTooLong")
    assert line["message"] == "the text has 9,000 bytes"


# Replays.


async def test_a_job_that_was_patched_back_to_pending_begins_its_replay_and_waits_for_the_event_of_it(
    world: World,
) -> None:
    world.add("1", JobState.DEAD_LETTERED)
    await world.run(world.put(attempts=6))
    assert (world.status["attempts"], world.status["replays"]) == (0, 1)
    assert (world.state(NAME), world.batcher.submitted) == (JobState.QUEUED, [])
    assert await world.emitted() == [("Normal", "Replayed", "replayed: the attempts start at 0 again")]


async def test_the_event_of_a_replay_that_has_begun_embeds_the_row(world: World) -> None:
    world.add("1", JobState.DEAD_LETTERED)
    await world.run(world.put(attempts=6))
    await world.run(parse_job(world.server.stored_jobs[NAME]))
    assert (world.status["phase"], world.status["attempts"], world.status["replays"]) == ("Succeeded", 1, 1)


async def test_an_event_from_before_a_replay_began_begins_no_second_one(world: World) -> None:
    before = world.put(attempts=6)
    await world.run(before)
    await world.run(before)
    assert (world.status["replays"], world.server.count("patch_job_status")) == (1, 1)


async def test_a_process_that_may_start_no_work_begins_no_replay_and_leaves_the_job_queued(world: World) -> None:
    world.add("1", JobState.DEAD_LETTERED)
    world.leads = False
    job = world.put(attempts=6)
    await world.run(job)
    assert (world.state(NAME), world.server.count("patch_job_status")) == (JobState.QUEUED, 0)
    world.leads = True
    await world.run(job)
    assert (world.status["attempts"], world.status["replays"]) == (0, 1)


async def test_the_metrics_count_replays(world: World) -> None:
    await world.run(world.put(attempts=6))
    page = world.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
    assert 'embedding_operator_replays_total{source="shops"} 1.0' in page


async def test_a_replay_that_is_refused_is_not_recorded(world: World) -> None:
    job = world.put(attempts=6)
    world.server.fail("patch_job_status", RequestRefused("a policy forbids it"))
    await world.run(job)
    assert world.state(NAME) is JobState.HELD
    assert await world.emitted() == []


# What is not run.


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED, Phase.DEAD_LETTERED])
async def test_a_job_that_is_over_is_not_run(world: World, phase: Phase) -> None:
    await world.run(world.put(phase))
    assert (world.batcher.submitted, world.server.requests) == ([], [])


async def test_an_event_from_before_our_own_patch_is_ignored(world: World) -> None:
    world.batcher.outcome = AWAY
    before = world.put()
    await world.run(before)
    await world.run(before)
    assert len(world.batcher.submitted) == 1
    assert (world.state(NAME), world.status["attempts"]) == (JobState.BACKING_OFF, 1)


async def test_an_event_from_before_a_job_finished_is_ignored(world: World) -> None:
    before = world.put()
    await world.run(before)
    await world.run(before)
    assert (len(world.batcher.submitted), world.state(NAME)) == (1, None)


async def test_a_job_that_is_in_flight_is_not_run_a_second_time(world: World) -> None:
    world.batcher.gate.clear()
    first = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    await world.run(world.put())
    assert (len(world.batcher.submitted), world.state(NAME)) == (1, JobState.RUNNING)
    world.batcher.gate.set()
    await first
    assert world.status["phase"] == "Succeeded"


# What the API server may do meanwhile.


async def test_while_the_server_is_away_the_outcome_is_kept_and_sent_afterwards(world: World) -> None:
    world.server.fail("patch_job_status", *[ApiServerUnavailable("away")] * 3)
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    assert world.state(NAME) is JobState.SETTLING
    await world.clock.advance(10)
    await running
    assert (world.status["phase"], world.state(NAME), len(world.batcher.submitted)) == ("Succeeded", None, 1)


@pytest.mark.parametrize("error", [Invalid("not valid"), RequestRefused("a policy forbids it")], ids=["422", "403"])
async def test_a_refused_status_holds_the_job_and_holds_up_no_drain(world: World, error: RequestRefused) -> None:
    job = world.put()
    world.server.fail("patch_job_status", error)
    await world.run(job)
    assert world.state(NAME) is JobState.HELD
    assert world.table.count(IN_FLIGHT) == 0
    assert world.done == []


async def test_a_job_whose_status_was_refused_is_run_again_when_it_is_touched_after_its_pause(world: World) -> None:
    world.server.fail("patch_job_status", Invalid("not valid"))
    await world.run(world.put())
    await world.run(world.put())
    assert (world.state(NAME), len(world.batcher.submitted)) == (JobState.HELD, 1)
    await world.clock.advance(30)
    await world.run(world.put())
    assert (world.status["phase"], world.state(NAME)) == ("Succeeded", None)


async def test_a_held_job_counts_towards_no_window_and_its_pause_grows_to_ten_minutes(world: World) -> None:
    pauses = []
    for _ in range(7):
        world.server.fail("patch_job_status", Invalid("not valid"))
        await world.run(world.put())
        job = world.table.get(NAME)
        assert job is not None
        pauses.append(job.held_until - world.clock.monotonic())
        await world.clock.advance(pauses[-1])
    assert pauses == [30, 60, 120, 240, 480, 600, 600]
    assert (world.table.count(ACTIVE), world.table.count(OPEN)) == (0, 1)


async def test_a_held_job_stays_held_when_all_jobs_are_listed(world: World) -> None:
    world.server.fail("patch_job_status", Invalid("not valid"))
    job = world.put()
    await world.run(job)
    await world.clock.advance(10)
    world.table.resync([job], listed_at=world.clock.monotonic())
    assert world.state(NAME) is JobState.HELD


async def test_while_the_statuses_of_a_source_are_refused_one_job_at_a_time_is_run_until_one_is_accepted(
    world: World,
) -> None:
    world.server.fail("patch_job_status", *[RequestRefused("denied by the policy")] * 4)
    for business in "123":
        assert world.table.refused.shared("shops") is None
        await world.run(world.put(business=business))
    assert world.table.refused.shared("shops") == (
        "StatusRefused",
        "the API server refuses to write the status of jobs: change the policy, webhook or right that its message names: "
        "denied by the policy",
    )
    await world.run(world.put(business="4"))
    assert (len(world.batcher.submitted), world.state(name_of("4"))) == (3, JobState.HELD)
    await world.clock.advance(30)
    for business in "1234":
        await world.run(world.put(business=business))
    assert len(world.batcher.submitted) == 4
    await world.clock.advance(60)
    for business in "234":
        await world.run(world.put(business=business))
    assert world.table.refused.shared("shops") is None
    assert [world.state(name_of(business)) for business in "234"] == [None] * 3
    jobs = world.table.jobs("shops", {JobState.HELD})
    assert not any(job.is_held(world.clock.monotonic()) for job in jobs)


async def test_a_job_that_was_superseded_while_its_row_was_embedded_stays_superseded(world: World) -> None:
    world.batcher.gate.clear()
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    world.put(Phase.SUPERSEDED)
    world.batcher.outcome = AWAY
    world.batcher.gate.set()
    await running
    assert (world.status["phase"], world.state(NAME), world.done) == ("Superseded", None, [])


async def test_a_job_that_is_deleted_while_its_row_is_embedded_is_removed(world: World) -> None:
    world.batcher.gate.clear()
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    del world.server.stored_jobs[NAME]
    world.batcher.gate.set()
    await running
    assert (world.state(NAME), world.finished.count, world.done) == (None, 0, [])


async def test_the_jobs_of_a_source_that_is_deleted_meanwhile_come_to_an_end(world: World) -> None:
    world.batcher.gate.clear()
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    world.table.forget_source("shops")
    world.batcher.gate.set()
    await running
    assert (world.state(NAME), world.table.count(IN_FLIGHT)) == (None, 0)


# The provider cannot be called.


@pytest.mark.parametrize(("phase", "attempts"), [(Phase.PENDING, 0), (Phase.RETRYING, 1)])
async def test_a_job_whose_provider_cannot_be_called_keeps_its_phase_and_counts_towards_no_window(
    world: World, phase: Phase, attempts: int
) -> None:
    running = await world.postpone(world.put(phase, attempts=attempts))
    await world.clock.advance(3_600)
    assert (world.state(NAME), running.done()) == (JobState.POSTPONED, False)
    assert (world.status, world.server.requests) == ({"phase": phase, "attempts": attempts}, [])
    assert (world.table.count(ACTIVE), world.table.count(IN_FLIGHT), world.table.count(OPEN)) == (0, 0, 1)
    running.cancel()


async def test_a_postponed_job_goes_on_when_the_provider_can_be_called(world: World) -> None:
    running = await world.postpone(world.put())
    world.provider.opened.set()
    await running
    assert (world.status["phase"], world.status["attempts"], world.state(NAME)) == ("Succeeded", 1, None)
    assert len(world.batcher.submitted) == 2


async def test_a_job_may_be_postponed_repeatedly_without_an_attempt(world: World) -> None:
    world.provider.opened.set()
    world.batcher.errors = [Postponed("it is not known why its call failed")] * 3
    await world.run(world.put())
    assert (world.status["phase"], world.status["attempts"], len(world.batcher.submitted)) == ("Succeeded", 1, 4)


async def test_a_job_that_is_postponed_is_not_run_a_second_time(world: World) -> None:
    running = await world.postpone(world.put())
    await world.run(world.put())
    assert (world.state(NAME), len(world.batcher.submitted)) == (JobState.POSTPONED, 1)
    running.cancel()


async def test_a_job_that_was_superseded_while_it_was_postponed_ends_without_a_call(world: World) -> None:
    running = await world.postpone(world.put())
    world.table.finish(NAME)  # as the sweep does where the text of the row has changed
    world.provider.opened.set()
    await running
    assert (world.state(NAME), world.finished.members("cohort-1")) == (None, [NAME])
    assert (len(world.batcher.submitted), world.server.requests, world.done) == (1, [], [])


@pytest.mark.parametrize("gone", ["job", "source"])
async def test_a_job_that_was_deleted_while_it_was_postponed_ends_without_a_call(world: World, gone: str) -> None:
    running = await world.postpone(world.put())
    if gone == "job":
        world.table.remove(NAME)
    else:
        world.table.forget_source("shops")
    world.provider.opened.set()
    await running
    assert (world.table.jobs(), len(world.batcher.submitted), world.server.requests) == ([], 1, [])


@pytest.mark.parametrize("begun", [True, False], ids=["its handler waits too", "its handler has not begun"])
async def test_a_job_of_the_same_name_that_was_created_meanwhile_is_left_to_its_own_handler(
    world: World, begun: bool
) -> None:
    first = await world.postpone(world.put())
    world.table.remove(NAME)
    body = job_body("1") | {"status": {"phase": Phase.PENDING}}
    body["metadata"]["uid"] = "another"
    again = parse_job(world.server.put_job(body))
    if begun:
        second = await world.postpone(again)
    else:
        world.table.observe(again)
    world.provider.opened.set()
    await first
    await (second if begun else world.run(again))
    assert (world.status["phase"], world.status["attempts"], world.state(NAME)) == ("Succeeded", 1, None)
    assert world.server.requests == [("patch_job_status", NAME)]


@pytest.mark.parametrize("postponed", [True, False])
async def test_what_became_of_a_row_is_not_written_into_a_job_of_the_same_name_that_was_created_meanwhile(
    world: World, postponed: bool
) -> None:
    world.batcher.gate.clear()
    world.batcher.errors = [Postponed("the server is away")] if postponed else []
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    world.table.remove(NAME)
    again = world.put()
    world.table.observe(again)
    world.batcher.gate.set()
    await running
    assert (world.server.requests, world.state(NAME)) == ([], JobState.QUEUED)
    await world.run(again)
    assert world.status["phase"] == "Succeeded"


async def test_a_postponed_job_is_left_to_the_next_process_when_this_one_ends(world: World) -> None:
    running = await world.postpone(world.put())
    world.runner.drain()
    assert world.table.count(IN_FLIGHT) == 0
    world.provider.opened.set()
    await running
    assert (world.state(NAME), world.status["phase"], len(world.batcher.submitted)) == (JobState.QUEUED, "Pending", 1)


async def test_a_postponed_job_whose_handler_is_cancelled_is_queued_again(world: World) -> None:
    running = await world.postpone(world.put())
    running.cancel()
    await settle()
    assert world.state(NAME) is JobState.QUEUED


# A handler that does not come to its end.


async def test_a_job_whose_handler_is_cancelled_is_queued_again(world: World) -> None:
    world.batcher.gate.clear()
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    running.cancel()
    await settle()
    assert world.state(NAME) is JobState.QUEUED


async def test_a_job_whose_handler_fails_by_an_unexpected_error_is_queued_again(world: World) -> None:
    job = world.put()
    world.server.fail("patch_job_status", cast(ApiServerError, RuntimeError("a defect")))
    with pytest.raises(RuntimeError):
        await world.run(job)
    assert world.state(NAME) is JobState.QUEUED


async def test_a_job_whose_handler_was_cancelled_while_the_server_was_away_is_queued_again(world: World) -> None:
    world.server.fail("patch_job_status", *[ApiServerUnavailable("away")] * 3)
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    running.cancel()
    await settle()
    assert world.state(NAME) is JobState.QUEUED


# Draining.


async def test_a_process_that_ends_starts_no_job(world: World) -> None:
    world.runner.drain()
    await world.run(world.put())
    assert (world.batcher.submitted, world.server.requests) == ([], [])


async def test_a_process_that_ends_finishes_the_job_in_flight(world: World) -> None:
    world.batcher.gate.clear()
    running = asyncio.create_task(world.runner.run(world.put()))
    await settle()
    world.runner.drain()
    world.batcher.gate.set()
    await running
    assert world.status["phase"] == "Succeeded"
