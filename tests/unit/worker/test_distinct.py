"""How many different texts there are, counted in little memory."""

import pytest

from embedding_worker.rows.distinct import DistinctTexts
from embedding_worker.text import content_hash


def counted(texts: int, different: int, most_kept: int = 1_000) -> DistinctTexts:
    count = DistinctTexts(most_kept)
    for number in range(texts):
        count.add(content_hash(f"text {number % different}"))
    return count


@pytest.mark.parametrize(("texts", "different"), [(1, 1), (500, 500), (3_000, 1_000), (3_000, 7)])
def test_as_many_as_are_kept_are_counted_exactly(texts: int, different: int) -> None:
    found = counted(texts, different)
    assert (found.number, found.is_estimated) == (different, False)


def test_of_none_the_number_is_0() -> None:
    assert DistinctTexts().number == 0


def test_more_are_estimated() -> None:
    found = counted(60_000, 30_000)
    assert found.is_estimated
    assert found.number == pytest.approx(30_000, rel=0.15)
