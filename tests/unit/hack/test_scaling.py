"""The arithmetic of docs/scaling.md, and that the page has its tables."""

import pytest

from hack.benchmarks.scaling import TIER_1, TIER_2, Quota, calls_in_flight, duration, size, sizes_table, times_table
from hack.repository import ROOT

PAGE = (ROOT / "docs" / "scaling.md").read_text()


@pytest.mark.parametrize("table", [times_table(), sizes_table()], ids=["times", "sizes"])
def test_the_page_has_the_tables_that_the_arithmetic_gives(table: str) -> None:
    assert table in PAGE


@pytest.mark.parametrize(
    ("quota", "rows_per_s"),
    [(TIER_1, 278), (TIER_2, 1_389), (Quota(60, 100_000_000), 100), (Quota(3_000, 600_000), 167)],
)
def test_the_smaller_of_requests_and_tokens_limits_the_rows(quota: Quota, rows_per_s: int) -> None:
    assert round(quota.rows_per_s()) == rows_per_s


def test_a_speed_needs_as_many_calls_in_flight_as_last_a_second_of_it() -> None:
    assert calls_in_flight(1_000, call_s=0.2) == 2


@pytest.mark.parametrize(
    ("took_s", "text"),
    [(90, "90 s"), (7.25, "7.2 s"), (120, "2 minutes"), (7_200, "2 hours"), (172_800, "2 days"), (100_000, "28 hours")],
)
def test_a_duration_is_in_the_largest_unit_of_which_there_are_two(took_s: float, text: str) -> None:
    assert duration(took_s) == text


@pytest.mark.parametrize(
    ("of_bytes", "text"), [(122, "122 bytes"), (4_147, "4.1 kB"), (4.1e8, "410 MB"), (1.2e10, "12 GB"), (2e12, "2 TB")]
)
def test_a_size_is_in_decimal_units(of_bytes: float, text: str) -> None:
    assert size(of_bytes) == text
