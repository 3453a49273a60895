"""`kubectl embeddings jobs` lists the jobs that somebody may have to look at first."""

import json
from typing import Any

import pytest

from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.jobs import HEADERS, Filter, PhaseName, cells, show_jobs
from kubectl_embeddings.layout import Format, table
from kubectl_embeddings.views import job_of
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed
from tests.support.jobs import job_body, name_of
from tests.support.manifests import Json


def body(business: str, phase: Phase | None, created: str = "2026-03-01T11:59:00Z", **changes: Any) -> Json:
    made = job_body(business, phase, **changes)
    made["metadata"]["creationTimestamp"] = created
    return made


RETRYING = body(
    "2", Phase.RETRYING, attempts=3, reason="ProviderUnavailable", nextAttemptTime="2026-03-01T12:00:08.500Z"
)


async def shown(*bodies: Json, wanted: Filter = Filter()) -> Printed:  # noqa: B008 (frozen)
    printed = Printed()
    await show_jobs(FakeRequests(jobs=bodies), wanted, printed.screen, now=START)
    return printed


async def test_dead_letters_and_retries_come_before_the_jobs_that_are_well() -> None:
    bodies = [body("1", Phase.SUCCEEDED), RETRYING, body("3", Phase.PENDING), body("4", Phase.DEAD_LETTERED)]
    printed = await shown(*bodies)
    assert [line.split()[1] for line in printed.text.splitlines()] == ["ID", "4", "2", "3", "1"]


async def test_in_a_phase_the_oldest_job_comes_first() -> None:
    printed = await shown(
        body("1", Phase.PENDING, "2026-03-01T11:59:30Z"), body("2", Phase.PENDING, "2026-03-01T11:59:20Z")
    )
    assert [line.split()[1] for line in printed.text.splitlines()] == ["ID", "2", "1"]


def test_a_line_says_why_and_when_the_next_attempt_is() -> None:
    assert cells(job_of(RETRYING), START) == [
        name_of("2"),
        "2",
        "Retrying",
        "3",
        "ProviderUnavailable",
        "8s",
        "60s",
    ]


def test_a_job_without_a_status_is_pending() -> None:
    assert cells(job_of(body("1", None)), START)[2:5] == ["Pending", "0", ""]


def test_a_usual_line_fits_into_eighty_columns_unshortened() -> None:
    made = body("17", Phase.DEAD_LETTERED, source="businesses", attempts=6, reason="TextExpressionFailed")
    assert max(map(len, table(HEADERS, [cells(job_of(made), START)]).splitlines())) <= 84
    assert "TextExpressionFailed" in table(HEADERS, [cells(job_of(made), START)], width=84)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(), {"1", "2", "3"}),
        (Filter(source="shops"), {"1", "2"}),
        (Filter(source="shops", phase=PhaseName.RETRYING), {"2"}),
        (Filter(id="3"), {"3"}),
    ],
)
async def test_jobs_are_selected_by_all_that_is_given(wanted: Filter, expected: set[str]) -> None:
    printed = await shown(
        body("1", Phase.SUCCEEDED), RETRYING, body("3", Phase.PENDING, source="others"), wanted=wanted
    )
    assert {line.split()[1] for line in printed.text.splitlines()[1:]} == expected


async def test_without_a_job_nothing_is_printed_for_scripts_to_read() -> None:
    printed = await shown()
    assert printed.lines == []
    assert "finished jobs are kept for minutes only" in printed.notes[0]


async def test_json_is_the_objects_themselves() -> None:
    printed = Printed(output=Format.JSON)
    await show_jobs(FakeRequests(jobs=[RETRYING]), Filter(), printed.screen, now=START)
    assert [item["status"]["attempts"] for item in json.loads(printed.text)["items"]] == [3]
