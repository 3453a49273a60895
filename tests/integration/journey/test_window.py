"""A backfill with a small window: never more jobs are open than the window allows, nor two for the same business."""

import pytest

from tests.integration.journey.conftest import System
from tests.support.open_jobs_watch import OpenJobsWatch


@pytest.mark.timeout(400)
def test_a_backfill_of_two_thousand_rows_keeps_to_a_window_of_fifty(system: System) -> None:
    system.book.add(2_000)
    with OpenJobsWatch(system.kubectl) as watch:
        system.start_operator(EMBEDDING_MAX_OPEN_JOBS="50")
        system.apply_source()
        system.wait_until_fresh(within_s=150)
        watch.wait_until_settled(2_000)
    assert 1 < watch.most_open <= 50
    assert watch.most_for_one_business == 1
    assert watch.settled["Succeeded"] == 2_000
    assert len(system.jobs()) <= 600, "500 finished jobs are kept, and at most one cohort more"
