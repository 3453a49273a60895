"""`kubectl embeddings dead-letters` shows dead letters by their reasons, with what to do and the command that replays them."""

from typing import Any

import pytest
import yaml

from embedding_operator.resources.embedding_job import Phase
from embedding_worker.outcome import OutcomeKind
from kubectl_embeddings.dead_letter_groups import (
    OTHER_REMEDY,
    REMEDIES,
    Filter,
    group_text,
    grouped,
    show_dead_letters,
)
from kubectl_embeddings.layout import Format
from kubectl_embeddings.views import Job, job_of
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed
from tests.support.jobs import job_body, name_of
from tests.support.manifests import Json

ALL = Filter()


def dead(business: str, reason: str = "RetriesExhausted", *, minute: int = 50, **changes: Any) -> Json:
    ended = {"completionTime": f"2026-03-01T11:{minute}:00.000Z", "message": f"why {business} failed"}
    return job_body(business, Phase.DEAD_LETTERED, reason=reason, **(ended | changes))


def failing(reason: str, code: str = "") -> dict[str, Any]:
    return {"history": [{"time": "2026-03-01T11:40:00Z", "reason": reason} | ({"code": code} if code else {})]}


def jobs(*bodies: Json) -> list[Job]:
    return [job_of(body) for body in bodies]


def test_the_reason_of_most_dead_letters_comes_first() -> None:
    groups = grouped(jobs(dead("1", "TextTooLong"), dead("2", "InputRejected"), dead("3", "InputRejected")))
    assert [(group.reason, len(group.jobs)) for group in groups] == [("InputRejected", 2), ("TextTooLong", 1)]


def test_a_group_shows_the_newest_failure_what_to_do_and_how_to_replay() -> None:
    (group,) = grouped(
        jobs(
            dead("1", minute=40, **failing("ProviderUnavailable", "500")),
            dead("2", minute=57, **failing("ProviderUnavailable", "500")),
            dead("3", minute=30, source="others", **failing("RowRefused")),
        )
    )
    assert group_text(group, ALL, now=START, width=None).splitlines() == [
        "RetriesExhausted: 2 of shops, 1 of others, the newest 3m ago",
        "  why 2 failed",
        "  Last failures: 2 ProviderUnavailable (500), 1 RowRefused",
        f"  To do: {REMEDIES['RetriesExhausted']}",
        "  kubectl embeddings replay --reason RetriesExhausted",
        f"    {name_of('2')}",
        f"    {name_of('1')}",
        f"    {name_of('3', source='others')}",
    ]


def test_a_last_failure_that_is_the_reason_is_not_said_twice() -> None:
    (group,) = grouped(jobs(dead("1", "InputRejected", **failing("InputRejected", "400"))))
    assert "Last failures" not in group_text(group, ALL, now=START, width=None)


def test_of_many_dead_letters_the_newest_are_named_and_the_others_counted() -> None:
    (group,) = grouped(jobs(*(dead(str(number), minute=10 + number) for number in range(8))))
    assert group_text(group, ALL, now=START, width=None).splitlines()[-2:] == [
        f"    {name_of('3')}",
        "    … and 3 more",
    ]


def test_the_command_replays_what_is_shown_and_nothing_else() -> None:
    (group,) = grouped(jobs(dead("1")))
    shown = group_text(group, Filter(source="shops"), now=START, width=None)
    assert "  kubectl embeddings replay --reason RetriesExhausted --source shops\n" in shown


@pytest.mark.parametrize(
    "kind", [OutcomeKind.INPUT_REJECTED, OutcomeKind.TEXT_EXPRESSION_FAILED, OutcomeKind.UPDATE_SUPPRESSED]
)
def test_each_outcome_that_ends_in_a_dead_letter_at_once_has_a_remedy_of_its_own(kind: OutcomeKind) -> None:
    assert kind.value in REMEDIES


def test_a_reason_of_a_later_version_has_a_remedy_too() -> None:
    (group,) = grouped(jobs(dead("1", "NewReason", message="do this")))
    assert group.remedy == OTHER_REMEDY


async def test_only_the_dead_letters_that_match_the_filter_are_shown() -> None:
    cluster = FakeRequests(
        jobs=[
            dead("1", "TextTooLong"),
            dead("2", "InputRejected"),
            dead("3", "TextTooLong", source="others"),
            job_body("4", Phase.RETRYING, reason="TextTooLong"),
        ]
    )
    printed = Printed(output=Format.YAML)
    await show_dead_letters(cluster, Filter(source="shops", reason="TextTooLong"), printed.screen, now=START)
    (group,) = yaml.safe_load(printed.text)
    assert (group["count"], group["jobs"], group["sources"]) == (1, [name_of("1")], {"shops": 1})


async def test_the_text_fits_into_eighty_columns() -> None:
    printed = Printed(width=80)
    cluster = FakeRequests(jobs=[dead("1", "TextTooLong", message="word " * 60)])
    await show_dead_letters(cluster, ALL, printed.screen, now=START)
    assert max(map(len, printed.text.splitlines())) <= 80


async def test_without_a_dead_letter_nothing_is_printed_for_scripts_to_read() -> None:
    printed = Printed()
    await show_dead_letters(FakeRequests(jobs=[job_body("4", Phase.RETRYING)]), ALL, printed.screen, now=START)
    assert (printed.lines, printed.notes) == ([], ["namespace shops has no such dead letter"])
