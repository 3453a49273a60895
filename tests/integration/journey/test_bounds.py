"""The number of jobs in the API server is bounded whatever the load: that of open jobs, and that of all jobs."""

import pytest

from tests.integration.journey.conftest import System
from tests.support.open_jobs_watch import OpenJobsWatch

MAX_OPEN, MAX_FINISHED = 100, 100


@pytest.mark.timeout(400)
def test_open_and_finished_jobs_together_never_pass_their_bounds(system: System) -> None:
    system.book.add(1_200)
    with OpenJobsWatch(system.kubectl) as watch:
        system.start_operator(EMBEDDING_MAX_OPEN_JOBS=str(MAX_OPEN), EMBEDDING_MAX_FINISHED_JOBS=str(MAX_FINISHED))
        system.apply_source()
        system.wait_until_fresh(within_s=150)
        watch.wait_until_settled(1_200)
    assert watch.settled["Succeeded"] == 1_200
    assert watch.most_open <= MAX_OPEN
    assert MAX_FINISHED < watch.most_existing <= MAX_OPEN + MAX_FINISHED
