"""What a source's loop writes into the status, the metrics and the window."""

import pytest

from embedding_operator.lifecycle.source_facts import Pending
from embedding_operator.reconciler.window import SMALLEST
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.errors import DatabaseUnavailable, LimitReached, ProviderThrottled, ProviderUnavailable
from embedding_worker.limits import Limits
from tests.support.fake_clock import settle
from tests.support.looped_source import INTERVAL_S, LoopedSource
from tests.support.operator_parts import SOURCE, job_of, source

AWAY = DatabaseUnavailable("connection refused")


@pytest.fixture
def system() -> LoopedSource:
    return LoopedSource({"1": "Bakery"})


async def test_rows_are_counted_every_half_second_however_many_turns_there_are(system: LoopedSource) -> None:
    system.store.filled = True
    async with system.running():
        assert system.store.count("counts") == 1
        for _ in range(5):
            system.loop.wake()
            await settle()
        assert system.store.count("counts") == 1
        await system.clock.advance(INTERVAL_S)
        assert system.store.count("counts") == 2


async def test_the_counts_reach_the_status_the_metrics_and_the_window(system: LoopedSource) -> None:
    async with system.running():
        await system.clock.advance(12)
        assert (system.status["rows"]["total"], system.status["rows"]["due"]) == (1, 1)
        page = system.parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
        assert 'embedding_operator_due_rows{source="businesses"} 1.0' in page
        assert system.parts.window.free(SOURCE) == SMALLEST - 1
        system.parts.window.record_due("others", 999)
        assert system.parts.window.free(SOURCE) == 4  # a due row of a thousand has the smallest share


async def test_what_was_sent_today_reaches_the_status_with_its_cost(system: LoopedSource) -> None:
    await system.store.acquire_texts([50_000, 100_000], Limits(1_000))
    async with system.running():
        await system.clock.advance(12)
        assert system.status["today"] == {
            "date": "2026-03-01",
            "texts": 2,
            "textsLeft": 999_998,
            "textsCut": 0,
            "tokens": 100_000,
            "tokensLeft": None,
            "tokensReported": 0,
            "estimatedCost": "0.0150",
        }


async def test_an_incomplete_first_audit_is_in_the_status_until_it_is_complete(system: LoopedSource) -> None:
    system.store.fail("audit", AWAY, AWAY)
    async with system.running():
        await system.clock.advance(3)
        assert system.condition("Fresh")[:2] == ("Unknown", "DatabaseUnavailable")
        await system.clock.advance(5)
        assert system.condition("Fresh")[:2] == ("False", "RowsDue")


async def test_a_change_that_waits_for_approval_is_in_the_status(system: LoopedSource) -> None:
    system.setup.pending = Pending("other@8#0123abcd", rows=90, tokens=30_000)
    async with system.running():
        await system.clock.advance(1)
        assert system.status["pendingFingerprint"] == "other@8#0123abcd"
        assert system.condition("ReembedRequired")[:2] == ("True", "ApprovalNeeded")
        assert system.condition("Ready")[0] == "True"


async def test_a_refused_change_is_in_the_status_while_the_previous_configuration_is_swept(
    system: LoopedSource,
) -> None:
    system.setup.refused_change = ("ColumnMissing", "there is no column city")
    async with system.running():
        await system.clock.advance(1)
        assert system.condition("Stalled") == ("True", "ColumnMissing", "there is no column city")
        assert len(system.server.stored_jobs) == 1


async def test_a_problem_of_the_provider_is_in_the_status_and_makes_the_source_idle(system: LoopedSource) -> None:
    for n in range(SMALLEST):
        system.parts.track(job_of(f"n{n}", "Garage"))
    async with system.running():
        assert system.setup.pipeline is not None
        system.setup.pipeline.gate.close_until_limit_ends(LimitReached("as many texts were sent today as are allowed"))
        await system.clock.advance(1)
        assert system.condition("ProviderReady") == (
            "False",
            "DayLimitReached",
            "as many texts were sent today as are allowed",
        )
        assert system.parts.window.free("others") == SMALLEST


async def test_a_pause_that_another_source_of_the_same_key_was_asked_for_is_in_the_status_until_a_call_succeeds(
    system: LoopedSource,
) -> None:
    for n in range(SMALLEST):
        system.parts.track(job_of(f"n{n}", "Garage"))
    async with system.running():
        system.setup.client.failures = [ProviderThrottled("it asks for a pause", retry_after_s=900)]
        with pytest.raises(ProviderThrottled):
            await system.setup.embedder.embed(["of another source"])
        await system.clock.advance(1)
        assert system.condition("ProviderReady") == (
            "False",
            "ProviderThrottled",
            "it asks for a pause; no call is made before 2026-03-01T12:15:00Z",
        )
        assert system.parts.window.free("others") == SMALLEST
        await system.clock.advance(900)
        await system.setup.embedder.embed(["of another source"])
        await system.clock.advance(2)
        assert system.condition("ProviderReady")[:2] == ("True", "ProviderReady")


async def test_while_the_circuit_is_open_the_status_says_so_and_probes_close_it(system: LoopedSource) -> None:
    async with system.running():
        system.setup.client.fails = lambda texts: ProviderUnavailable("the server is away")
        with pytest.raises(ProviderUnavailable):
            await system.setup.embedder.send_canary()
        await system.clock.advance(3)
        assert system.condition("ProviderReady")[:2] == ("False", "ProviderUnavailable")
        system.setup.client.fails = lambda texts: None
        await system.clock.advance(3)
        assert system.condition("ProviderReady")[:2] == ("True", "ProviderReady")
        assert system.setup.embedder.may_call


async def test_a_suspended_source_sends_no_probe() -> None:
    system = LoopedSource({"1": "Bakery"}, shown=source(suspend=True))
    async with system.running():
        system.setup.client.fails = lambda texts: ProviderUnavailable("the server is away")
        with pytest.raises(ProviderUnavailable):
            await system.setup.embedder.send_canary()
        await system.clock.advance(120)
        assert (system.setup.client.canaries, system.setup.embedder.may_call) == (1, False)


async def test_too_many_dead_letters_stall_no_source_that_is_suspended() -> None:
    system = LoopedSource({"1": "Bakery"}, shown=source(suspend=True))
    for n in range(500):
        system.parts.track(job_of(f"n{n}", "Garage", Phase.DEAD_LETTERED))
    async with system.running():
        await system.clock.advance(1)
        assert system.condition("Ready")[:2] == ("True", "Suspended")


async def test_too_many_dead_letters_are_in_the_status(system: LoopedSource) -> None:
    for n in range(500):
        system.parts.track(job_of(f"n{n}", "Garage", Phase.DEAD_LETTERED))
    async with system.running():
        await system.clock.advance(1)
        assert system.condition("Stalled")[:2] == ("True", "DeadLetterLimit")
        assert system.status["jobs"] == {"open": 0, "deadLettered": 500}
        page = system.parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
        assert 'dead_letter_limit_reached{source="businesses"} 1.0' in page
        assert 'source_dead_letters{source="businesses"} 500.0' in page


async def test_the_time_of_the_last_turn_goes_on_whatever_is_unreachable(system: LoopedSource) -> None:
    system.setup.failures = [AWAY] * 10
    async with system.running():
        await system.clock.advance(10)
        assert system.clock.monotonic() - system.loop.last_turn <= 2


@pytest.mark.parametrize("uid", ["uid-1", "uid-2"])
async def test_a_status_that_somebody_has_changed_is_written_again_in_the_next_turn(
    system: LoopedSource, uid: str
) -> None:
    async with system.running():
        await system.clock.advance(15)
        await system.server.patch_source_status(SOURCE, {"conditions": None})
        changed = source(uid=uid).model_copy(update={"status": system.status})
        system.loop.compare_status(changed, listed_at=system.clock.monotonic())
        await system.clock.advance(INTERVAL_S)
        is_the_same_source = uid == "uid-1"
        assert ("conditions" in system.status) is is_the_same_source


async def test_a_turn_that_hangs_is_visible_by_the_time_of_the_last_turn(system: LoopedSource) -> None:
    system.store.hold = True
    async with system.running():
        await system.clock.advance(400)
        assert system.clock.monotonic() - system.loop.last_turn == 400


async def test_each_page_that_a_set_up_reads_is_visible_by_the_time_of_the_last_turn(system: LoopedSource) -> None:
    system.setup.pages = 400
    async with system.running():
        await system.clock.advance(399)
        assert system.clock.monotonic() - system.loop.last_turn <= 1
        assert system.sweeps() == 0


async def test_a_loop_that_has_ended_takes_no_place_in_the_window(system: LoopedSource) -> None:
    for n in range(SMALLEST):
        system.parts.track(job_of(f"n{n}", "Garage"))
    async with system.running():
        assert system.parts.window.free("others") == 0
    assert system.parts.window.free("others") == SMALLEST
