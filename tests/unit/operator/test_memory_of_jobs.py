"""What is remembered of jobs that are done does not grow with their number, and is small for each row."""

import pickle
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from embedding_operator.reconciler.job_rate import JobRate
from embedding_operator.reconciler.window import Throughput
from embedding_operator.rewrites import Rewrites

ROWS = 2_000
BYTES_A_ROW = 400


@pytest.fixture
def allocated() -> Iterator[Callable[[], int]]:
    """How many bytes are allocated since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()


def size_of(kept: object) -> int:
    """In bytes, with everything in it."""
    return len(pickle.dumps(kept))


def test_the_throughput_of_a_source_that_nobody_asks_for_is_kept_for_its_time_only() -> None:
    throughput = Throughput(over_s=60)
    for second in range(100):
        throughput.record(float(second))
    before = size_of(throughput)
    for second in range(100, 5_000):
        throughput.record(float(second))
    assert size_of(throughput) == before
    assert throughput.per_s(4_999.0) == pytest.approx(61 / 60)


def test_the_times_of_a_rows_vectors_take_few_bytes(allocated: Callable[[], int]) -> None:
    rewrites = Rewrites()
    for row in range(ROWS):
        rewrites.record("shops", str(row), float(row))
    assert allocated() < BYTES_A_ROW * ROWS


def test_the_times_of_a_rows_jobs_take_few_bytes(allocated: Callable[[], int]) -> None:
    rate = JobRate()
    for row in range(ROWS):
        rate.record(str(row), float(row))
    assert allocated() < BYTES_A_ROW * ROWS
