"""A row that is embedded more than five times within an hour is noticed, with bounded memory."""

import pytest

from embedding_operator import rewrites
from embedding_operator.rewrites import HOUR_S, Rewrite, Rewrites

MINUTE_S = 60.0
FEW, BEGUN, GOES_ON = Rewrite.FEW, Rewrite.BEGUN, Rewrite.GOES_ON


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ([0, 1, 2, 3, 4], [FEW] * 5),
        ([0, 1, 2, 3, 4, 5, 6, 7], [FEW] * 5 + [BEGUN, GOES_ON, GOES_ON]),
        ([0, 12, 24, 36, 48, 60, 72], [FEW] * 7),
        ([0, 11, 22, 33, 44, 55, 66], [FEW] * 5 + [BEGUN, BEGUN]),
        ([0, 1, 2, 3, 4, 5, 120, 121, 122, 123, 124, 125], ([FEW] * 5 + [BEGUN]) * 2),
    ],
)
def test_the_sixth_vector_within_an_hour_is_one_too_many(minutes: list[float], expected: list[Rewrite]) -> None:
    found = Rewrites()
    assert [found.record("shops", "1", minute * MINUTE_S) for minute in minutes] == expected


def test_rows_and_sources_are_counted_apart() -> None:
    found = Rewrites()
    for n in range(5):
        assert {found.record(source, row, n) for source in ("shops", "places") for row in "12"} == {FEW}


def test_of_too_many_rows_those_that_were_embedded_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewrites, "MOST_ROWS", 2)
    found = Rewrites()
    for n in range(5):
        found.record("shops", "busy", n)
        found.record("shops", f"other {n}", n)
    assert found.record("shops", "busy", 5) is BEGUN
    assert found.record("shops", "other 0", 5) is FEW


def test_a_deleted_source_is_forgotten() -> None:
    found = Rewrites()
    for n in range(6):
        found.record("shops", "1", n)
    found.forget("shops")
    assert found.record("shops", "1", HOUR_S / 2) is FEW
