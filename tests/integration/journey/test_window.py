"""A backfill with a small window: what exists in the API server is bounded whatever the load, open and finished jobs alike."""

import pytest

from tests.integration.journey.conftest import System
from tests.support.open_jobs_watch import OpenJobsWatch

ROWS = 2_000
MAX_OPEN, MAX_FINISHED = 50, 100


@pytest.mark.timeout(400)
def test_a_backfill_of_two_thousand_rows_keeps_to_its_bounds(system: System) -> None:
    system.book.add(ROWS)
    with OpenJobsWatch(system.kubectl) as watch:
        system.start_operator(EMBEDDING_MAX_OPEN_JOBS=str(MAX_OPEN), EMBEDDING_MAX_FINISHED_JOBS=str(MAX_FINISHED))
        system.apply_source()
        system.wait_until_fresh(within_s=200)
        watch.wait_until_settled(ROWS)
    assert 1 < watch.most_open <= MAX_OPEN
    assert watch.most_for_one_business == 1
    assert watch.settled["Succeeded"] == ROWS
    assert MAX_FINISHED < watch.most_existing <= MAX_OPEN + MAX_FINISHED
