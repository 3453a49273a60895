"""Whatever the API server answers to the creation of a job, the next sweep goes on correctly."""

import asyncio
import contextlib

import pytest

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Gone, Invalid, RequestRefused
from embedding_operator.reconciler.tracked_job import JobState
from embedding_operator.resources.embedding_job import Phase
from tests.support.fake_clock import settle
from tests.support.operator_parts import SOURCE, job_of
from tests.support.swept_source import SweptSource, name_of

CONNECTION_REFUSED = ApiServerUnreachable("connection refused", may_have_happened=False)
ANSWER_LOST = ApiServerUnreachable("the connection was lost", may_have_happened=True)


async def test_an_open_job_of_the_same_name_is_adopted() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery"))
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.count("delete_job") == 0


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.DEAD_LETTERED, Phase.SUCCEEDED])
async def test_a_job_of_the_same_name_that_is_being_deleted_leaves_the_row_out_for_a_minute(phase: Phase) -> None:
    system = SweptSource({"1": "Bakery", "2": "Garage"})
    body = job_of("1", "Bakery", phase)
    body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    system.server.put_job(body)
    await system.sweep()
    await system.sweep()
    assert system.states() == {"2": JobState.QUEUED}
    assert (system.server.count("create_job"), system.server.count("delete_job")) == (2, 0)
    system.server.stored_jobs.pop(name_of("1", "Bakery"))
    await system.clock.advance(60)
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED, "2": JobState.QUEUED}


async def test_a_dead_letter_of_the_same_name_is_adopted_and_not_created_again() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery", Phase.DEAD_LETTERED))
    await system.sweep()
    await system.sweep()
    assert system.states() == {"1": JobState.DEAD_LETTERED}
    assert system.server.count("create_job") == 1


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
async def test_a_finished_job_of_the_same_name_is_deleted_and_created_in_the_next_sweep(phase: Phase) -> None:
    system = SweptSource({"1": "Bakery"})
    job = system.parts.put_job(job_of("1", "Bakery", phase))
    system.parts.finished.add("c0-1", job.name, version=job.metadata.version, now=0.0)
    await system.sweep()
    assert (system.created(), system.states(), system.parts.finished.count) == ([], {}, 0)
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_job_that_is_deleted_before_it_is_adopted_is_created_in_the_next_sweep() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.put_job(job_of("1", "Bakery"))
    system.server.fail("job", Gone("not found"))
    await system.sweep()
    assert system.states() == {}
    system.server.stored_jobs.clear()
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_job_of_this_name_that_a_person_made_for_another_row_leaves_the_row_out() -> None:
    system = SweptSource({"1": "Bakery"})
    foreign = job_of("1", "Bakery")
    foreign["spec"]["businessId"] = "2"
    system.parts.track(foreign)
    await system.sweep()
    assert system.server.count("create_job") == 0
    assert system.states() == {"2": JobState.QUEUED}


async def test_a_row_whose_job_is_invalid_is_left_out_for_a_minute_and_delays_no_other() -> None:
    system = SweptSource({"1": "Bakery", "2": "Garage"})
    system.server.fail("create_job", Invalid("spec.businessId is too long"))
    await system.sweep()
    await system.sweep()
    assert system.created() == ["2"]
    assert system.states() == {"2": JobState.QUEUED}
    await system.clock.advance(60)
    await system.sweep()
    assert sorted(system.created()) == ["1", "2"]


async def test_a_quota_that_refuses_a_job_is_reported_and_the_row_is_tried_again_after_the_pause() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.fail("create_job", RequestRefused("exceeded quota"))
    await system.sweep()
    assert system.sweeper.jobs_refused is not None
    await system.clock.advance(4.9)
    await system.sweep()
    assert system.states() == {}
    await system.clock.advance(0.1)
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.sweeper.jobs_refused is None


async def test_while_all_jobs_are_refused_few_probes_are_sent_and_all_goes_on_after_the_fix() -> None:
    system = SweptSource({str(n): "Bakery" for n in range(800)})
    system.server.fail("create_job", *[Invalid("denied by the policy")] * 1_000)
    await sweep_for(system, seconds=60)
    first_sweep, probes = 200, system.server.count("create_job") - 200
    assert probes <= 2 * 10
    assert system.sweeper.jobs_refused is not None
    assert system.created() == []
    system.server.lift()
    await sweep_for(system, seconds=10)
    assert len(system.created()) >= first_sweep
    assert system.sweeper.jobs_refused is None


@pytest.mark.parametrize("denial", [Invalid, RequestRefused], ids=["422", "403"])
async def test_rows_that_a_policy_denies_delay_no_others_and_are_found_soon_after_the_fix(
    denial: type[RequestRefused],
) -> None:
    system = SweptSource({str(n): "Bakery" for n in range(20)})
    system.server.denial = denial
    system.server.refuse_jobs_of = {"3", "5", "7", "9"}
    await sweep_for(system, seconds=20)
    assert len(system.created()) == 16
    assert system.sweeper.jobs_refused is None
    assert system.server.count("create_job") <= 16 + 4 + 3
    system.server.refuse_jobs_of = set()
    await sweep_for(system, seconds=10)
    assert len(system.created()) == 20


@pytest.mark.parametrize("denial", [Invalid, RequestRefused], ids=["422", "403"])
@pytest.mark.parametrize("denied", [20, 600])
async def test_the_oldest_rows_are_denied_and_stop_no_other(denied: int, denial: type[RequestRefused]) -> None:
    system = SweptSource({str(n): "Bakery" for n in range(denied + 200)})
    system.server.denial = denial
    system.server.refuse_jobs_of = {str(n) for n in range(denied)}
    for _ in range(6):  # the jobs are done as soon as they were created
        await sweep_for(system, seconds=20)
        for row_id in system.created():
            system.store.embed(row_id)
        for job in system.table.jobs():
            system.table.finish(job.name)
    assert sorted(system.created(), key=int) == [str(n) for n in range(denied, denied + 200)]
    assert system.sweeper.jobs_refused is None


async def test_a_webhook_that_is_dead_is_waited_for_and_then_reported() -> None:
    system = SweptSource({"1": "Bakery"})
    dead = ApiServerUnavailable("failed calling webhook: no endpoints available", may_have_happened=True)
    system.server.fail("create_job", *[dead] * 99)
    with pytest.raises(ApiServerUnavailable):
        await system.sweep()
    assert system.sweeper.jobs_refused is None
    await sweep_for(system, seconds=30)
    assert system.sweeper.jobs_refused is not None
    assert "failed calling webhook" in system.sweeper.jobs_refused[1]
    system.server.lift()
    await sweep_for(system, seconds=10)
    assert system.states() == {"1": JobState.QUEUED}


async def sweep_for(system: SweptSource, *, seconds: int) -> None:
    """Sweep twice a second."""
    for _ in range(2 * seconds):
        await system.clock.advance(0.5)
        with contextlib.suppress(ApiServerUnavailable):
            await system.sweep()


async def test_what_the_server_accepts_is_created_although_another_create_fails() -> None:
    system = SweptSource({"1": "Bakery", "2": "Garage"})
    system.server.fail("create_job", CONNECTION_REFUSED)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {"2": JobState.QUEUED}


async def test_a_refused_connection_created_nothing_so_the_next_sweep_sends_the_create_again() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.fail("create_job", CONNECTION_REFUSED)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {}
    await system.sweep()
    assert system.server.requests == [("create_job", name_of("1", "Bakery"))] * 2
    assert system.states() == {"1": JobState.QUEUED}


async def test_a_throttled_create_created_nothing() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.fail("create_job", ApiServerUnavailable("too many requests", retry_after_s=3.0))
    with pytest.raises(ApiServerUnavailable):
        await system.sweep()
    assert system.states() == {}


async def test_a_create_whose_answer_was_lost_is_found_by_the_next_sweep() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.lose_answers("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    assert system.states() == {"1": JobState.CREATING}
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.requests == [("create_job", name_of("1", "Bakery")), ("job", name_of("1", "Bakery"))]


async def test_a_create_that_was_lost_with_its_answer_is_sent_again_in_the_next_sweep() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.fail("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    await system.sweep()
    assert system.states() == {"1": JobState.QUEUED}
    assert system.server.count("create_job") == 2


async def test_a_job_that_finished_before_its_create_was_answered_is_not_tracked_as_open() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.lose_answers("create_job", ANSWER_LOST)
    with pytest.raises(ApiServerUnreachable):
        await system.sweep()
    await system.server.patch_job_status(name_of("1", "Bakery"), {"phase": "Succeeded"})
    system.store.embed("1")
    await system.sweep()
    assert system.states() == {}
    assert system.parts.finished.count == 1


async def test_a_cancelled_sweep_leaves_no_job_in_creation() -> None:
    system = SweptSource({"1": "Bakery"})
    system.server.hold("create_job")
    sweeping = asyncio.create_task(system.sweep())
    await settle()
    assert system.states() == {"1": JobState.CREATING}
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping
    assert system.states() == {}


async def test_while_the_statuses_of_its_jobs_are_refused_a_source_gets_no_job_and_says_so() -> None:
    system = SweptSource({"1": "Bakery"})
    for job in "abc":
        system.table.refused.record(SOURCE, job, "denied by the policy", 0.0)
    await system.sweep()
    assert system.created() == []
    assert system.sweeper.jobs_refused is not None
    assert system.sweeper.jobs_refused[0] == "StatusRefused"
    system.table.refused.record_accepted(SOURCE)
    await system.sweep()
    assert system.created() == ["1"]
