"""The gate: rows wait in it while no call may be made, and it sends the probes meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from embedding_worker.errors import CallsPaused, LimitReached, ProviderThrottled, ProviderUnavailable
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.gate import LIMIT_PAUSE_S, CallGate
from embedding_worker.providers.meter import Counters, Meter
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import RateGrant
from tests.support.fake_clock import FakeClock, settle
from tests.support.fake_provider import Day, FakeEmbedder, shared_embedder

AWAY = ProviderUnavailable("the server is away")
UNREACHED = ProviderUnavailable("connection refused", reached=False)
REACHED = LimitReached("the limit of the day is reached")


class Gated:
    """A source with its gate, and a provider that is away until `recover`."""

    def __init__(self, *, counters: Counters | None = None) -> None:
        self.clock, self.day = FakeClock(), Day(1_000)
        self.leads = True
        self.client = FakeEmbedder(fails=lambda texts: AWAY)
        self.embedder = shared_embedder(self.client, clock=self.clock)
        self.gate = self.another_source(counters=counters)

    def another_source(self, *, counters: Counters | None = None) -> CallGate:
        """The gate of another source with the same endpoint, credential and model."""
        meter = Meter(counters or self.day.counters, clock=self.clock)
        return CallGate(self.embedder, meter, clock=self.clock, may_work=lambda: self.leads)

    async def open_circuit(self) -> None:
        with pytest.raises(ProviderUnavailable):
            await self.embedder.send_canary()
        self.client.canaries = 0

    def recover(self) -> None:
        self.client.fails = lambda texts: None

    @asynccontextmanager
    async def running(self, *, probes: bool = True) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(self.gate.run(probes=probes))
        await settle()
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def wait(self, *, pause_s: float = 0.0) -> "asyncio.Task[None]":
        """A row that waits."""
        waiting = asyncio.create_task(self.gate.wait_until_open(asyncio.Event(), pause_s=pause_s))
        await settle()
        return waiting


@pytest.fixture
def gated() -> Gated:
    return Gated()


# Rows wait.


async def test_when_a_person_asks_the_next_probe_is_sent_at_once(gated: Gated) -> None:
    await gated.open_circuit()
    async with gated.running():
        await gated.clock.advance(600)  # the pauses are a minute long now
        before = gated.client.canaries
        gated.recover()
        gated.gate.retry_now()
        await gated.clock.advance(1)
        assert (gated.client.canaries, gated.gate.is_open) == (before + 1, True)


async def test_when_a_person_asks_a_throttle_is_over(gated: Gated) -> None:
    gated.client.failures = [ProviderThrottled("429", retry_after_s=600)]
    with pytest.raises(ProviderThrottled):
        await gated.embedder.embed(["one"])
    async with gated.running():
        waiting = await gated.wait()
        assert not waiting.done()
        gated.gate.retry_now()
        await gated.clock.advance(1)
        assert (waiting.done(), gated.gate.is_open) == (True, True)


async def test_when_a_person_asks_a_row_with_a_pause_of_its_own_goes_on(gated: Gated) -> None:
    async with gated.running():
        waiting = await gated.wait(pause_s=600)
        gated.gate.retry_now()
        await settle()
        assert waiting.done()


async def test_when_a_person_asks_the_limit_of_the_day_is_looked_at_again(gated: Gated) -> None:
    gated.gate.close_until_limit_ends(REACHED)
    assert not gated.gate.is_open
    gated.gate.retry_now()
    assert gated.gate.is_open


async def test_while_calls_may_be_made_no_row_waits(gated: Gated) -> None:
    assert gated.gate.is_open
    gated.gate.refuse_if_closed()
    assert (await gated.wait()).done()


async def test_rows_wait_while_the_circuit_is_open_and_all_go_on_when_a_probe_is_answered(gated: Gated) -> None:
    await gated.open_circuit()
    async with gated.running():
        rows = [await gated.wait() for _ in range(3)]
        await gated.clock.advance(10)
        assert not any(row.done() for row in rows)
        gated.recover()
        await gated.clock.advance(4)
        assert all(row.done() for row in rows)


async def test_rows_wait_while_this_process_does_not_lead_and_go_on_when_it_leads_again(gated: Gated) -> None:
    gated.leads = False
    with pytest.raises(CallsPaused, match="this process may not begin calls at present"):
        gated.gate.refuse_if_closed()
    async with gated.running():
        row = await gated.wait()
        await gated.clock.advance(600)
        assert not row.done()
        gated.leads = True
        await gated.clock.advance(1)
        assert row.done()


async def test_a_process_that_does_not_lead_sends_no_probe(gated: Gated) -> None:
    await gated.open_circuit()
    gated.leads = False
    async with gated.running():
        await gated.clock.advance(600)
        assert gated.client.canaries == 0
        gated.leads = True
        await gated.clock.advance(1)
        assert gated.client.canaries == 1


async def test_while_it_is_closed_a_call_is_refused_with_the_reason(gated: Gated) -> None:
    await gated.open_circuit()
    with pytest.raises(CallsPaused, match="no call is made since 2026-03-01T12:00:00Z"):
        gated.gate.refuse_if_closed()


async def test_rows_wait_until_a_throttle_is_over(gated: Gated) -> None:
    gated.client.fails = lambda texts: ProviderThrottled("429", retry_after_s=7)
    with pytest.raises(ProviderThrottled):
        await gated.embedder.embed(["a"])
    async with gated.running():
        row = await gated.wait()
        await gated.clock.advance(6.4)
        assert not row.done()
        await gated.clock.advance(0.7)
        assert row.done()
    assert gated.client.canaries == 0


async def test_a_row_with_a_pause_of_its_own_waits_for_that_too(gated: Gated) -> None:
    async with gated.running():
        row = await gated.wait(pause_s=22.5)
        await gated.clock.advance(22.4)
        assert not row.done()
        await gated.clock.advance(0.2)
        assert row.done()


async def test_a_pause_that_is_over_ends_no_wait_for_the_circuit(gated: Gated) -> None:
    await gated.open_circuit()
    async with gated.running():
        row = await gated.wait(pause_s=1)
        await gated.clock.advance(30)
        assert not row.done()


@pytest.mark.parametrize("pause_s", [0.0, 600.0])
async def test_when_the_pipeline_ends_the_rows_go_on_to_the_next_one(gated: Gated, pause_s: float) -> None:
    await gated.open_circuit()
    async with gated.running():
        row = await gated.wait(pause_s=pause_s)
        assert not row.done()
    await settle()
    assert row.done()


async def test_a_pause_of_the_source_closes_its_gate_alone(gated: Gated) -> None:
    gated.gate.close_for_limits(CallsPaused("limits", pause_s=5))
    assert (gated.gate.is_open, gated.another_source().is_open) == (False, True)
    with pytest.raises(CallsPaused, match="a limit of calls is reached"):
        gated.gate.refuse_if_closed()
    await gated.clock.advance(5)
    assert gated.gate.is_open


async def test_the_limit_of_the_day_is_the_problem_until_a_call_succeeds(gated: Gated) -> None:
    gated.gate.close_until_limit_ends(REACHED)
    assert gated.gate.problem == Problem("DayLimitReached", REACHED.message)
    await gated.clock.advance(LIMIT_PAUSE_S)
    assert gated.gate.is_open
    assert gated.gate.problem is not None
    gated.gate.record_success()
    assert gated.gate.problem is None


async def test_the_limit_of_the_day_is_no_problem_any_more_two_minutes_after_the_next_day_has_begun(
    gated: Gated,
) -> None:
    gated.gate.close_until_limit_ends(REACHED)
    await gated.clock.advance(12 * 3_600 + 119)
    assert gated.gate.problem is not None
    await gated.clock.advance(1)
    assert gated.gate.problem is None


async def test_a_limit_of_the_month_is_the_problem_until_two_minutes_after_the_next_month_has_begun(
    gated: Gated,
) -> None:
    gated.gate.close_until_limit_ends(LimitReached("it costs too much", reason="CostLimitReached", of_the_month=True))
    await gated.clock.advance(30.5 * 24 * 3_600 + 119)
    assert gated.gate.problem == Problem("CostLimitReached", "it costs too much")
    await gated.clock.advance(1)
    assert gated.gate.problem is None


@pytest.mark.parametrize("pause_s", [0.0, 600.0])
async def test_a_row_whose_job_got_another_state_stops_waiting(gated: Gated, pause_s: float) -> None:
    await gated.open_circuit()
    woken = asyncio.Event()
    async with gated.running():
        waiting = asyncio.create_task(gated.gate.wait_until_open(woken, pause_s=pause_s))
        await gated.clock.advance(1)
        assert not waiting.done()
        woken.set()
        await settle()
        assert waiting.done()


async def test_rows_are_woken_in_the_order_in_which_they_came(gated: Gated) -> None:
    await gated.open_circuit()
    order: list[int] = []

    async def row(number: int) -> None:
        await gated.gate.wait_until_open(asyncio.Event(), pause_s=0)
        order.append(number)

    async with gated.running():
        rows = [asyncio.create_task(row(number)) for number in range(50)]
        await settle()
        gated.recover()
        await gated.clock.advance(3)
        await asyncio.gather(*rows)
    assert order == list(range(50))


# Probes.


async def test_probes_are_sent_with_growing_pauses_and_counted(gated: Gated) -> None:
    await gated.open_circuit()
    async with gated.running():
        sent = []
        for _ in range(8):
            await gated.clock.advance(60)
            sent.append(gated.client.canaries)
    assert sent[0] >= 8
    assert [after - before for before, after in zip(sent[-4:-1], sent[-3:], strict=True)] == [1, 1, 1]
    assert [texts for texts, _ in gated.day.counted] == [1] * sent[-1]


async def test_a_probe_that_did_not_reach_the_provider_is_given_back(gated: Gated) -> None:
    gated.client.fails = lambda texts: UNREACHED
    await gated.open_circuit()
    async with gated.running():
        await gated.clock.advance(1.5)
    assert [texts for texts, _ in gated.day.counted] == [1, -1]


async def test_one_probe_is_sent_at_a_time_for_all_sources(gated: Gated) -> None:
    await gated.open_circuit()
    answered = asyncio.Event()
    embed = gated.client.embed

    async def slow(texts: list[str]) -> object:
        await answered.wait()
        return await embed(texts)

    gated.client.embed = slow  # type: ignore[method-assign, assignment]
    other = asyncio.create_task(gated.another_source().run(probes=True))
    async with gated.running():
        await gated.clock.advance(4)
        assert sum(texts for texts, _ in gated.day.counted) == 1
        gated.recover()
        answered.set()
        await settle()
        assert (gated.client.canaries, gated.gate.is_open) == (1, True)
    other.cancel()


async def test_a_suspended_source_sends_no_probe(gated: Gated) -> None:
    await gated.open_circuit()
    async with gated.running(probes=False):
        await gated.clock.advance(600)
    assert gated.client.canaries == 0


async def test_while_the_limit_of_the_day_is_reached_no_probe_is_sent(gated: Gated) -> None:
    await gated.open_circuit()
    gated.day.left = 0
    async with gated.running():
        await gated.clock.advance(LIMIT_PAUSE_S - 1)
        assert len(gated.day.counted) == 1
        assert gated.gate.problem == Problem("DayLimitReached", "spec.limits.textsPerDay")
        await gated.clock.advance(2 * LIMIT_PAUSE_S)
        assert gated.client.canaries == 0
        gated.day.left = 1
        gated.recover()
        await gated.clock.advance(LIMIT_PAUSE_S)
        assert gated.client.canaries == 1


async def test_a_probe_that_the_rate_limits_do_not_allow_is_tried_later() -> None:
    day, asked = Day(1_000), 0

    async def refuse(texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
        nonlocal asked
        asked += 1
        return RateGrant(granted=False, wait_s=40.0)

    gated = Gated(counters=replace(day.counters, acquire_rate=refuse))
    await gated.open_circuit()
    async with gated.running():
        await gated.clock.advance(30)
        assert asked == 1
        await gated.clock.advance(20)
        assert asked == 2
    assert (gated.client.canaries, day.counted) == (0, [])


async def test_a_probe_that_is_cancelled_leaves_the_circuit_open_and_another_source_probes(gated: Gated) -> None:
    await gated.open_circuit()
    embed = gated.client.embed

    async def hang(texts: list[str]) -> object:
        await asyncio.Event().wait()
        return await embed(texts)

    gated.client.embed = hang  # type: ignore[method-assign, assignment]
    async with gated.running():
        await gated.clock.advance(1.5)
    await settle()
    assert not gated.embedder.may_call
    gated.client.embed = embed  # type: ignore[method-assign]
    gated.recover()
    gated.gate = gated.another_source()
    async with gated.running():
        await gated.clock.advance(3)
        assert (gated.client.canaries, gated.gate.is_open) == (1, True)


async def test_the_canary_is_no_text_of_a_row(gated: Gated) -> None:
    sent: list[list[str]] = []

    def record(texts: object) -> ProviderUnavailable:
        sent.append(list(texts))  # type: ignore[call-overload]
        return AWAY

    gated.client.fails = record
    await gated.open_circuit()
    async with gated.running():
        await gated.clock.advance(1.5)
    assert sent == [[CANARY]] * 2
