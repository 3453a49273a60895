"""Which transitions become Events, and that these are within the API server's bounds."""

from datetime import UTC, datetime
from typing import Any

import pytest

from embedding_operator.lifecycle.events import dead_lettered, manifest, of_source, replayed
from embedding_operator.lifecycle.job_status import JobPatch
from embedding_operator.resources.embedding_job import Phase, parse_job
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from tests.support.manifests import a_job, a_source, merged

NOW = datetime(2026, 3, 1, 12, 0, 0, 1500, tzinfo=UTC)
JOB = parse_job(merged(a_job("businesses-42-ab"), {"metadata": {"uid": "uid-of-the-job"}}))
DEAD = JobPatch({"phase": Phase.DEAD_LETTERED, "reason": "InputRejected", "message": "it refuses what was sent"})


def shown_source() -> EmbeddingSource:
    return parse_source(merged(a_source("businesses"), {"metadata": {"uid": "uid-of-the-source"}}))


def conditions(**statuses: str) -> list[dict[str, Any]]:
    return [
        {"type": kind, "status": status, "reason": f"Why{kind}", "message": f"why {kind} is {status}"}
        for kind, status in statuses.items()
    ]


def sent(event: Any, *, more: int = 0) -> dict[str, Any]:
    return manifest(event, more=more, name="e1", namespace="yellow-book", instance="pod-1", now=NOW)


def test_a_dead_letters_event_is_of_the_job_and_related_to_its_source() -> None:
    assert sent(dead_lettered(JOB, DEAD)) == {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "e1", "namespace": "yellow-book"},
        "eventTime": "2026-03-01T12:00:00.001500Z",
        "reportingController": "embeddings.yellowbook.dev/embedding-operator",
        "reportingInstance": "pod-1",
        "action": "DeadLetter",
        "reason": "InputRejected",
        "type": "Warning",
        "note": "it refuses what was sent",
        "regarding": {
            "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
            "kind": "EmbeddingJob",
            "name": "businesses-42-ab",
            "uid": "uid-of-the-job",
            "namespace": "yellow-book",
        },
        "related": {
            "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
            "kind": "EmbeddingSource",
            "name": "businesses",
            "namespace": "yellow-book",
        },
    }


def test_a_replay_is_a_normal_event() -> None:
    event = sent(replayed(JOB))
    assert (event["type"], event["reason"], event["action"]) == ("Normal", "Replayed", "Replay")


def test_the_events_that_one_event_stands_for_are_counted() -> None:
    assert sent(dead_lettered(JOB, DEAD), more=41)["note"] == (
        "it refuses what was sent (and 41 more since the last event)"
    )


@pytest.mark.parametrize("more", [0, 12_345])
def test_a_note_is_cut_at_a_character_to_what_the_api_server_accepts(more: int) -> None:
    long = JobPatch(DEAD.status | {"message": "ü" * 1024})
    note = sent(dead_lettered(JOB, long), more=more)["note"]
    assert 1000 < len(note.encode()) <= 1024
    assert note.startswith("üüü")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"Stalled": "True"}, [("Warning", "WhyStalled", "why Stalled is True")]),
        ({"Stalled": "False"}, {"Stalled": "True"}, [("Warning", "WhyStalled", "why Stalled is True")]),
        ({"Stalled": "True"}, {"Stalled": "True"}, []),
        ({"Stalled": "True"}, {"Stalled": "False"}, []),
        ({"Ready": "False"}, {"Ready": "True"}, [("Normal", "Ready", "why Ready is True")]),
        ({}, {"Ready": "True"}, [("Normal", "Ready", "why Ready is True")]),
        ({"Ready": "True"}, {"Ready": "True"}, []),
        ({"Ready": "True"}, {"Ready": "False"}, []),
        (
            {"ProviderReady": "True"},
            {"ProviderReady": "False"},
            [("Warning", "WhyProviderReady", "why ProviderReady is False")],
        ),
        (
            {"ProviderReady": "False"},
            {"ProviderReady": "True"},
            [("Normal", "ProviderReady", "why ProviderReady is True")],
        ),
        ({}, {"ProviderReady": "True"}, []),
        ({"Fresh": "False"}, {"Fresh": "True", "Reconciling": "True", "ReembedRequired": "False"}, []),
        (
            {"DatabaseReady": "True"},
            {"DatabaseReady": "False"},
            [("Warning", "WhyDatabaseReady", "why DatabaseReady is False")],
        ),
        (
            {"DatabaseReady": "False"},
            {"DatabaseReady": "True"},
            [("Normal", "DatabaseReady", "why DatabaseReady is True")],
        ),
        ({}, {"DatabaseReady": "True"}, []),
        (
            {"ReembedRequired": "False"},
            {"ReembedRequired": "True"},
            [("Warning", "WhyReembedRequired", "why ReembedRequired is True")],
        ),
        ({}, {"BlankTexts": "True"}, [("Warning", "WhyBlankTexts", "why BlankTexts is True")]),
        ({}, {"RowsLocked": "True"}, [("Warning", "WhyRowsLocked", "why RowsLocked is True")]),
        ({"RowsLocked": "True"}, {"RowsLocked": "False", "BlankTexts": "False"}, []),
    ],
)
def test_an_event_of_a_source_is_emitted_when_a_condition_changes(
    before: dict[str, str], after: dict[str, str], expected: list[tuple[str, str, str]]
) -> None:
    events = of_source(shown_source(), conditions(**before), conditions(**after))
    assert [(event.type, event.reason, event.note) for event in events] == expected
    for event in events:
        assert event.regarding["uid"] == "uid-of-the-source"
        assert "related" not in sent(event)


def test_a_source_that_is_stalled_from_the_start_has_one_event() -> None:
    after = conditions(Ready="False", Reconciling="False", Stalled="True", Fresh="Unknown", ProviderReady="True")
    assert [event.action for event in of_source(shown_source(), [], after)] == ["Stalled"]


@pytest.mark.parametrize(("before", "after"), [("Sweeping", "Suspended"), ("Suspended", "Sweeping")])
def test_a_source_that_is_suspended_or_resumed_has_an_event(before: str, after: str) -> None:
    ready = [{"type": "Ready", "status": "True", "reason": reason, "message": ""} for reason in (before, after)]
    (event,) = of_source(shown_source(), ready[:1], ready[1:])
    assert (event.type, event.reason) == ("Normal", after)
