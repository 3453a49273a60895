"""A day of provider weather over some thousand rows: what the operator promises of a provider that fails, all at once."""

import pytest

from hack.repository import ROOT
from hack.simulation.day import simulate
from hack.simulation.provider import POISON
from hack.simulation.report import CALLS_FOR_THE_WEATHER, ROWS_FOR_A_CALL, Report

ROWS = 5_000


@pytest.fixture(scope="module")
def day() -> Report:
    return simulate(ROWS)


def test_no_innocent_row_becomes_a_dead_letter_in_any_weather(day: Report) -> None:
    assert day.innocent_dead_letters == []


def test_every_innocent_row_has_the_vector_of_its_own_text_in_the_end(day: Report) -> None:
    assert day.not_fresh == []


def test_each_poison_row_becomes_a_dead_letter(day: Report) -> None:
    assert set(day.poison_dead_letters) == set(POISON)
    assert day.fresh == ROWS - len(POISON)


def test_the_day_costs_no_more_calls_than_the_page_on_reliability_states(day: Report) -> None:
    assert day.calls <= day.calls_allowed
    page = (ROOT / "docs" / "reliability.md").read_text()
    assert f"{CALLS_FOR_THE_WEATHER:,} calls, and one more for {ROWS_FOR_A_CALL} rows" in page


def test_the_same_seed_gives_the_same_day() -> None:
    first, second = (simulate(300, seed=7, hours=4) for _ in range(2))
    assert (first.table().split("CPU")[0], first.ended_s) == (second.table().split("CPU")[0], second.ended_s)
