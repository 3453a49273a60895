"""Many rows through a small window: the API server never sees more than the window, nor two open jobs for a business."""

from tests.integration.journey.conftest import System
from tests.support.open_jobs_watch import OpenJobsWatch


def test_two_thousand_rows_pass_through_a_window_of_fifty(system: System) -> None:
    system.book.add(2_000)
    with OpenJobsWatch(system.kubectl) as watch:
        system.operator(EMBEDDING_MAX_OPEN_JOBS="50")
        system.apply_source()
        system.wait_until_fresh(within_s=150)
    assert 1 < watch.most_open <= 50
    assert watch.most_for_one_business == 1
    assert watch.settled["Succeeded"] == 2_000
    assert len(system.jobs()) <= 600, "finished jobs are bounded: 500, and a cohort under way"
