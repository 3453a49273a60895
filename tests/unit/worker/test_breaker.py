"""A circuit is kept: each change is logged, observed, and known to all who wait for one."""

import asyncio

import pytest
from structlog.testing import capture_logs

from embedding_worker.errors import ProviderMisconfigured, ProviderUnavailable
from embedding_worker.providers.breaker import Breaker
from embedding_worker.providers.circuit import CircuitState
from embedding_worker.providers.problem import Problem
from tests.support.fake_clock import FakeClock, settle
from tests.support.keyed_provider import Observer

AWAY = ProviderUnavailable("the server is away")
CLOSED, OPEN, PROBING = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.PROBING


class Kept:
    """A breaker with its clock and its observer."""

    def __init__(self) -> None:
        self.clock, self.observer = FakeClock(), Observer()
        self.breaker = Breaker("fake", clock=self.clock, observer=self.observer)

    @property
    def states(self) -> list[CircuitState]:
        return [state for _, state in self.observer.circuits]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_at_first_it_is_closed_and_observed_as_such(kept: Kept) -> None:
    assert kept.observer.circuits == [("fake", CLOSED)]
    assert (kept.breaker.is_closed, kept.breaker.admits(), kept.breaker.problem) == (True, True, None)


async def test_an_outage_is_logged_once_at_each_end(kept: Kept) -> None:
    with capture_logs() as logs:
        kept.breaker.open(AWAY)
        for _ in range(3):
            await kept.clock.advance(60)
            assert kept.breaker.begin_probe()
            kept.breaker.open(AWAY)
        kept.breaker.close()
    assert logs == [
        {
            "event": "circuit opened",
            "log_level": "warning",
            "circuit": "fake",
            "reason": "ProviderUnavailable",
            "message": "the server is away",
        },
        {
            "event": "circuit closed",
            "log_level": "info",
            "circuit": "fake",
            "was_open_since": "2026-03-01T12:00:00Z",
        },
    ]


async def test_each_change_of_state_is_observed(kept: Kept) -> None:
    kept.breaker.open(AWAY)
    await kept.clock.advance(1)
    kept.breaker.begin_probe()
    kept.breaker.open(AWAY)
    kept.breaker.open(AWAY)
    await kept.clock.advance(1)
    kept.breaker.begin_probe()
    kept.breaker.close()
    assert kept.states == [CLOSED, OPEN, PROBING, OPEN, PROBING, CLOSED]


async def test_the_problem_says_why_since_when_and_when_the_next_probe_is_sent(kept: Kept) -> None:
    kept.breaker.open(ProviderMisconfigured("the key is wrong: set another one", reason="KeyRefused"))
    await kept.clock.advance(40)
    kept.breaker.open(ProviderMisconfigured("the key is wrong: set another one", reason="KeyRefused"))
    assert kept.breaker.problem == Problem(
        "KeyRefused",
        "no call is made since 2026-03-01T12:00:00Z, until a fixed test text is embedded (next try at 12:00:50Z): "
        "the key is wrong: set another one",
    )
    assert kept.breaker.error is not None


async def test_after_it_was_closed_there_is_no_problem(kept: Kept) -> None:
    kept.breaker.open(AWAY)
    kept.breaker.close()
    assert (kept.breaker.problem, kept.breaker.error) == (None, None)


async def test_only_one_probe_is_begun_and_not_before_its_time(kept: Kept) -> None:
    assert not kept.breaker.begin_probe()
    kept.breaker.open(AWAY)
    assert not kept.breaker.begin_probe()
    await kept.clock.advance(1)
    assert [kept.breaker.begin_probe(), kept.breaker.begin_probe()] == [True, False]
    assert not kept.breaker.admits()


async def test_a_probe_without_a_result_leaves_it_open_for_longer(kept: Kept) -> None:
    kept.breaker.open(AWAY)
    await kept.clock.advance(20)
    kept.breaker.begin_probe()
    kept.breaker.stop_probing()
    assert kept.states[-1] is OPEN
    assert not kept.breaker.begin_probe()
    await kept.clock.advance(5)
    assert kept.breaker.begin_probe()


@pytest.mark.parametrize("state", [CLOSED, OPEN])
def test_where_no_probe_was_begun_there_is_none_to_stop(kept: Kept, state: CircuitState) -> None:
    if state is OPEN:
        kept.breaker.open(AWAY)
    before = kept.breaker.problem
    kept.breaker.stop_probing()
    assert (kept.states[-1], kept.breaker.problem) == (state, before)


def test_closing_what_is_closed_limits_no_calls(kept: Kept) -> None:
    kept.breaker.count(40)
    kept.breaker.close()
    assert kept.breaker.admits()


def test_calls_in_flight_are_counted_and_limited_after_an_outage(kept: Kept) -> None:
    kept.breaker.open(AWAY)
    kept.breaker.close()
    assert kept.breaker.admits()
    kept.breaker.count(1)
    assert not kept.breaker.admits()
    kept.breaker.record_success()
    assert kept.breaker.admits()
    kept.breaker.count(1)
    assert not kept.breaker.admits()
    kept.breaker.count(-1)
    assert kept.breaker.admits()


async def test_all_who_wait_for_a_change_are_woken_by_it(kept: Kept) -> None:
    waiting = [asyncio.create_task(kept.breaker.changed.wait()) for _ in range(3)]
    await settle()
    assert not any(task.done() for task in waiting)
    kept.breaker.count(-1)
    await settle()
    assert all(task.done() for task in waiting)
    assert not kept.breaker.changed.is_set()


def test_the_circuit_of_a_rotated_credential_is_shown_as_closed_and_later_changes_are_not_shown(kept: Kept) -> None:
    kept.breaker.open(AWAY)
    kept.breaker.retire()
    kept.breaker.open(AWAY)
    assert kept.states == [CLOSED, OPEN, CLOSED]


async def test_who_waits_for_a_circuit_is_woken_when_its_credential_is_rotated(kept: Kept) -> None:
    waiting = asyncio.create_task(kept.breaker.changed.wait())
    await settle()
    kept.breaker.retire()
    await settle()
    assert waiting.done()
