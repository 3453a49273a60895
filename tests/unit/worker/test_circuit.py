"""The circuit: which states it comes to, when probes are sent, and how many calls are in flight after an outage."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_worker.errors import ProviderUnavailable
from embedding_worker.providers.circuit import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    UNLIMITED_FROM,
    Circuit,
    CircuitState,
)

CLOSED, OPEN, PROBING = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.PROBING
AWAY, AGAIN = ProviderUnavailable("away"), ProviderUnavailable("away again")
NOW = 1_000.0

NEVER_OPENED = Circuit()
OPENED = NEVER_OPENED.opened(AWAY, NOW)
PROBED = OPENED.probed()
RECOVERING = PROBED.closed()
STATES = {"never opened": NEVER_OPENED, "open": OPENED, "probing": PROBED, "recovering": RECOVERING}
EVENTS: dict[str, Callable[[Circuit, float], Circuit]] = {
    "opened": lambda circuit, now: circuit.opened(AGAIN, now),
    "probed": lambda circuit, now: circuit.probed() if circuit.may_probe(now) else circuit,
    "closed": lambda circuit, now: circuit if circuit.state is CLOSED else circuit.closed(),
    "succeeded": lambda circuit, now: circuit.succeeded(),
}


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        ("never opened", "opened", OPEN),
        ("never opened", "probed", CLOSED),
        ("never opened", "succeeded", CLOSED),
        ("open", "opened", OPEN),
        ("open", "probed", PROBING),
        ("open", "closed", CLOSED),
        ("open", "succeeded", OPEN),
        ("probing", "opened", OPEN),
        ("probing", "probed", PROBING),
        ("probing", "closed", CLOSED),
        ("probing", "succeeded", PROBING),
        ("recovering", "opened", OPEN),
        ("recovering", "probed", CLOSED),
        ("recovering", "succeeded", CLOSED),
    ],
)
def test_each_event_leads_to_its_state(before: str, event: str, after: CircuitState) -> None:
    assert EVENTS[event](STATES[before], NOW + 100).state is after


@pytest.mark.parametrize("before", STATES)
def test_a_call_that_succeeds_changes_nothing_unless_the_circuit_recovers(before: str) -> None:
    changed = STATES[before].succeeded() != STATES[before]
    assert changed is (before == "recovering")


@pytest.mark.parametrize(("after_s", "expected"), [(0.0, False), (0.9, False), (1.0, True), (50.0, True)])
def test_the_first_probe_may_be_sent_after_a_second(after_s: float, expected: bool) -> None:
    assert OPENED.may_probe(NOW + after_s) is expected


@pytest.mark.parametrize(
    ("open_for_s", "pause_s"), [(0, 1), (1, 1), (4, 1), (8, 2), (100, 25), (239, 59.75), (240, 60), (86_400, 60)]
)
def test_the_pause_is_a_quarter_of_the_outage_between_a_second_and_a_minute(open_for_s: float, pause_s: float) -> None:
    circuit = OPENED.probed().opened(AGAIN, NOW + open_for_s)
    assert circuit.probe_at - (NOW + open_for_s) == pause_s
    assert circuit.error is AGAIN


def test_the_outage_lasts_from_the_first_failure_until_a_call_succeeds() -> None:
    again = RECOVERING.opened(AGAIN, NOW + 50)
    assert again.open_since == NOW
    recovered = RECOVERING.succeeded()
    assert recovered.error is None
    assert recovered.opened(AGAIN, NOW + 50).open_since == NOW + 50


def test_calls_in_flight_double_with_each_success_after_an_outage_and_are_then_unlimited() -> None:
    circuit, limits = RECOVERING, []
    while circuit.most_in_flight is not None:
        limits.append(circuit.most_in_flight)
        assert (circuit.admits(limits[-1] - 1), circuit.admits(limits[-1])) == (True, False)
        circuit = circuit.succeeded()
    assert limits == [1, 2, 4, 8, 16]
    assert limits[-1] * 2 == UNLIMITED_FROM
    assert circuit.admits(1_000_000)


def test_a_circuit_that_was_never_open_admits_any_number_of_calls() -> None:
    assert NEVER_OPENED.admits(1_000_000)


@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0, 10_000)), max_size=60))
def test_after_any_events_calls_are_made_only_while_it_is_closed_and_pauses_keep_their_bounds(
    events: list[tuple[str, float]],
) -> None:
    circuit, now = Circuit(), NOW
    for event, passed_s in events:
        now += passed_s
        before, circuit = circuit, EVENTS[event](circuit, now)
        if circuit.state is not CLOSED:
            assert not circuit.admits(0)
            assert circuit.error is not None
            assert circuit.open_since <= now
        if event == "opened":
            assert FIRST_PAUSE_S - 1e-6 <= circuit.probe_at - now <= LONGEST_PAUSE_S + 1e-6
            assert circuit.open_since == (now if before.error is None else before.open_since)
        if circuit.most_in_flight is not None:
            assert circuit.most_in_flight in (1, 2, 4, 8, 16)
        if event == "succeeded" and before.state is CLOSED:
            assert circuit.error is None
            assert circuit.most_in_flight in (None, 2 * (before.most_in_flight or 0))
        if event in ("probed", "closed"):
            kept = (before.error, before.open_since)
            assert (circuit.error, circuit.open_since) == kept
