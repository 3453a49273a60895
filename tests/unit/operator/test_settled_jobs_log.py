"""Jobs that nobody has to look at have one line a second and source; the others have lines of their own at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.reconciler.settled_jobs_log import EVERY_S, SettledJobsLog
from embedding_operator.resources.embedding_job import Phase, parse_job
from embedding_operator.tasks import cancel_and_wait
from tests.support.fake_clock import FakeClock
from tests.support.jobs import job_body


class Recorded:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.log = SettledJobsLog(clock=self.clock)

    def add(
        self, *, phase: Phase = Phase.SUCCEEDED, reason: str = "Embedded", source: str = "shops", took_s: float = 1
    ) -> str:
        """Returns the name of the job."""
        job = parse_job(job_body("1", source=source))
        status = {"phase": phase, "reason": reason, "message": "what it says", "attempts": 1}
        self.log.record(job, JobPatch(status), took_s=took_s)
        return job.name

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.log.run())
        try:
            yield
        finally:
            await cancel_and_wait(task)


def above_debug(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["log_level"] != "debug"]


async def test_the_jobs_of_a_second_have_one_line_for_each_source() -> None:
    recorded = Recorded()
    with capture_logs() as logs:
        async with recorded.running():
            recorded.add(took_s=0.25)
            recorded.add(took_s=3.5)
            recorded.add(phase=Phase.SUPERSEDED, reason="TextChanged")
            recorded.add(source="people")
            await recorded.clock.advance(EVERY_S)
    shops, people = above_debug(logs)
    assert shops["event"] == "jobs settled"
    assert (shops["source"], shops["jobs"], shops["longest_s"]) == ("shops", 3, 3.5)
    assert shops["reasons"] == {"Embedded": 2, "TextChanged": 1}
    assert (people["source"], people["jobs"]) == ("people", 1)


async def test_without_jobs_nothing_is_written() -> None:
    recorded = Recorded()
    with capture_logs() as logs:
        async with recorded.running():
            await recorded.clock.advance(60)
    assert logs == []


async def test_what_is_left_at_the_end_is_written() -> None:
    recorded = Recorded()
    with capture_logs() as logs:
        async with recorded.running():
            await recorded.clock.advance(0)
            recorded.add()
    assert [line["jobs"] for line in above_debug(logs)] == [1]


@pytest.mark.parametrize(("phase", "level"), [(Phase.RETRYING, "info"), (Phase.DEAD_LETTERED, "warning")])
async def test_a_job_that_has_failed_has_a_line_of_its_own_at_once(phase: Phase, level: str) -> None:
    recorded = Recorded()
    with capture_logs() as logs:
        name = recorded.add(phase=phase, reason="TextTooLong")
    (line,) = logs
    assert (line["log_level"], line["event"], line["job"], line["reason"]) == (
        level,
        "job settled",
        name,
        "TextTooLong",
    )
