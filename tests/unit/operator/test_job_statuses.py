"""How the status of a job gets to the API server, whatever becomes of the request."""

import asyncio

import pytest

from embedding_operator.api_errors import (
    ApiServerError,
    ApiServerUnavailable,
    ApiServerUnreachable,
    Gone,
    Invalid,
    RequestRefused,
)
from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.reconciler.job_statuses import LONGEST_PAUSE_S, STATUSES_AT_ONCE, JobStatuses, refresh_job
from embedding_operator.reconciler.tracked_job import IN_FLIGHT, JobState
from embedding_operator.resources.embedding_job import BACKOFF_ANNOTATION, Phase
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import settle
from tests.support.jobs import Register, job_body, name_of

NAME = name_of("1")
SUCCEEDED = JobPatch({"phase": "Succeeded", "attempts": 1})
RETRYING = JobPatch({"phase": "Retrying", "attempts": 1}, {BACKOFF_ANNOTATION: "{}"})
CONFLICT = ApiServerUnavailable("the object has been modified", retry_after_s=0.1)
OVERLOADED = ApiServerUnavailable("too many requests", retry_after_s=3.0)
BROKEN = ApiServerUnavailable("HTTP 503", may_have_happened=True)
UNREACHABLE = ApiServerUnreachable("connection refused")
FORBIDDEN = RequestRefused("a policy forbids it")


class World(Register):
    """A job whose outcome is known, in the table and on the server."""

    def __init__(self, phase: Phase = Phase.PENDING) -> None:
        super().__init__()
        self.server = FakeApiServer()
        self.statuses = JobStatuses(self.server, self.table, clock=self.clock)
        self.add("1", JobState.SETTLING)
        self.server.put_job(job_body("1", phase))

    async def send(self, patch: JobPatch, *, within_s: float = 0.0) -> int | None:
        """What sending the patch returns, when so much time has passed. Fails where it has not returned by then."""
        sending = asyncio.create_task(self.statuses.send(NAME, patch))
        await self.clock.advance(within_s)
        assert sending.done()
        return await sending

    @property
    def stored_phase(self) -> str:
        return str(self.server.stored_jobs[NAME]["status"]["phase"])


@pytest.fixture
def world() -> World:
    return World()


async def test_the_answer_to_a_patch_is_the_jobs_new_version(world: World) -> None:
    assert await world.send(SUCCEEDED) == 102
    assert world.stored_phase == "Succeeded"


async def test_a_status_without_annotations_costs_one_request(world: World) -> None:
    await world.send(SUCCEEDED)
    assert world.server.requests == [("patch_job_status", NAME)]


async def test_annotations_are_sent_before_the_status_which_counts(world: World) -> None:
    await world.send(RETRYING)
    assert world.server.requests == [("annotate_job", NAME), ("patch_job_status", NAME)]
    assert world.server.stored_jobs[NAME]["metadata"]["annotations"] == {BACKOFF_ANNOTATION: "{}"}


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [(CONFLICT, 0.2), (OVERLOADED, 3.0), (BROKEN, 1.0), (UNREACHABLE, 1.0)],
    ids=["409", "429", "503", "unreachable"],
)
@pytest.mark.parametrize("method", ["annotate_job", "patch_job_status"])
async def test_what_may_pass_is_waited_for(world: World, method: str, error: ApiServerError, pause_s: float) -> None:
    world.server.fail(method, error)
    assert await world.send(RETRYING, within_s=pause_s) is not None
    assert world.clock.slept == [pause_s]
    assert world.stored_phase == "Retrying"


async def test_a_patch_whose_answer_was_lost_is_sent_again(world: World) -> None:
    world.server.lose_answers("patch_job_status", BROKEN)
    assert await world.send(SUCCEEDED, within_s=1) == 103
    assert (world.stored_phase, world.server.count("patch_job_status")) == ("Succeeded", 2)


async def test_while_the_server_is_away_it_is_asked_every_three_seconds(world: World) -> None:
    world.server.fail("patch_job_status", *[ApiServerUnreachable("away", retry_after_s=0.0)] * 8)
    await world.send(SUCCEEDED, within_s=60)
    assert world.clock.slept == [0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0, 3.0]


async def test_a_server_that_asks_for_a_long_pause_is_asked_again_within_ten_seconds(world: World) -> None:
    world.server.fail("patch_job_status", ApiServerUnavailable("later", retry_after_s=300.0))
    await world.send(SUCCEEDED, within_s=LONGEST_PAUSE_S)
    assert world.clock.slept == [LONGEST_PAUSE_S]
    assert LONGEST_PAUSE_S < 10


async def test_while_a_status_is_waited_for_its_job_is_settling(world: World) -> None:
    world.server.fail("patch_job_status", UNREACHABLE)
    sending = asyncio.create_task(world.statuses.send(NAME, SUCCEEDED))
    await settle()
    assert world.state(NAME) is JobState.SETTLING
    await world.clock.advance(1)
    await sending


@pytest.mark.parametrize("patch", [SUCCEEDED, RETRYING], ids=["status alone", "with annotations"])
async def test_a_job_that_was_deleted_is_removed(world: World, patch: JobPatch) -> None:
    del world.server.stored_jobs[NAME]
    assert await world.send(patch) is None
    assert (world.state(NAME), world.finished.count) == (None, 0)


async def test_a_job_that_was_finished_meanwhile_is_finished_here_too() -> None:
    world = World(Phase.SUPERSEDED)
    assert await world.send(RETRYING) is None
    assert (world.state(NAME), world.finished.members("cohort-1")) == (None, [NAME])
    assert world.stored_phase == "Superseded"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (Phase.PENDING, JobState.HELD),
        (Phase.RETRYING, JobState.HELD),
        (Phase.DEAD_LETTERED, JobState.DEAD_LETTERED),
    ],
)
@pytest.mark.parametrize("error", [Invalid("not valid"), FORBIDDEN], ids=["422", "403"])
async def test_after_a_refused_patch_the_job_is_what_the_server_shows(
    error: ApiServerError, phase: Phase, state: JobState
) -> None:
    world = World(phase)
    world.server.fail("patch_job_status", error)
    assert await world.send(SUCCEEDED) is None
    assert world.state(NAME) is state
    assert world.server.requests == [("patch_job_status", NAME), ("job", NAME)]


async def test_a_refused_annotation_is_resolved_in_the_same_way(world: World) -> None:
    world.server.fail("annotate_job", FORBIDDEN)
    assert await world.send(RETRYING) is None
    assert (world.state(NAME), world.stored_phase) == (JobState.HELD, "Pending")


async def test_the_question_after_a_refused_patch_is_repeated_until_it_is_answered(world: World) -> None:
    world.server.fail("patch_job_status", FORBIDDEN)
    world.server.fail("job", UNREACHABLE, BROKEN)
    assert await world.send(SUCCEEDED, within_s=2) is None
    assert (world.state(NAME), world.server.count("job")) == (JobState.HELD, 3)


async def test_a_job_that_is_gone_when_its_refused_patch_is_resolved_is_removed(world: World) -> None:
    world.server.fail("patch_job_status", FORBIDDEN)
    world.server.fail("job", Gone("not found"))
    assert await world.send(SUCCEEDED) is None
    assert world.state(NAME) is None


async def test_while_a_job_may_not_even_be_read_its_status_is_sent_again(world: World) -> None:
    """An outage may look like this: all requests are refused, whatever they ask for."""
    world.server.fail("patch_job_status", FORBIDDEN)
    world.server.fail("job", FORBIDDEN, FORBIDDEN)
    assert await world.send(SUCCEEDED, within_s=2 * LONGEST_PAUSE_S) == 102
    assert world.stored_phase == "Succeeded"
    assert world.server.count("patch_job_status") == 2


async def test_a_status_that_is_refused_after_such_an_outage_too_is_held(world: World) -> None:
    world.server.fail("patch_job_status", FORBIDDEN, FORBIDDEN)
    world.server.fail("job", FORBIDDEN)
    assert await world.send(SUCCEEDED, within_s=LONGEST_PAUSE_S) is None
    assert world.state(NAME) is JobState.HELD


async def test_a_refused_patch_holds_up_no_drain(world: World) -> None:
    world.server.fail("patch_job_status", FORBIDDEN)
    await world.send(SUCCEEDED)
    assert world.table.count(IN_FLIGHT) == 0


async def test_one_job_can_be_read_again_by_its_name(world: World) -> None:
    world.server.put_job(job_body("1", Phase.DEAD_LETTERED))
    await refresh_job(world.server, world.table, NAME)
    assert world.state(NAME) is JobState.DEAD_LETTERED


async def test_reading_a_job_that_is_gone_removes_it(world: World) -> None:
    del world.server.stored_jobs[NAME]
    await refresh_job(world.server, world.table, NAME)
    assert world.state(NAME) is None


async def test_reading_a_job_raises_where_the_server_is_away(world: World) -> None:
    world.server.fail("job", UNREACHABLE)
    with pytest.raises(ApiServerUnavailable):
        await refresh_job(world.server, world.table, NAME)
    assert world.state(NAME) is JobState.SETTLING


class BusyServer(FakeApiServer):
    """Answers no status patch before it is told to, and counts those that it has received."""

    def __init__(self) -> None:
        super().__init__()
        self.received = 0
        self.answers = asyncio.Event()

    async def patch_job_status(self, name: str, status: dict[str, object], *, version: int | None = None) -> int:
        self.received += 1
        await self.answers.wait()
        return await super().patch_job_status(name, status, version=version)


async def test_no_more_statuses_are_sent_at_once_than_leave_connections_for_other_requests() -> None:
    world = World()
    world.server = server = BusyServer()
    statuses = JobStatuses(server, world.table, clock=world.clock)
    names = [name_of(f"{number}") for number in range(STATUSES_AT_ONCE + 5)]
    for number in range(len(names)):
        server.put_job(job_body(f"{number}", Phase.PENDING))
    sending = [asyncio.create_task(statuses.send(name, SUCCEEDED)) for name in names]
    await settle()
    assert server.received == STATUSES_AT_ONCE
    server.answers.set()
    assert None not in await asyncio.gather(*sending)
    assert server.received == len(names)
