"""Events, as `kubectl get events` shows them: of dead letters, of replays and of sources. Everything else works without the
right to create them.
"""

import json
from typing import Any

import pytest

from hack.installation.prerequisites import ACCOUNT
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until

pytestmark = pytest.mark.timeout(500)

REJECTED_TEXT = "the provider rejects this text"


def events(system: System, kind: str, name: str) -> list[tuple[str, str]]:
    """Type and reason of the Events about an object, oldest first."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    items: list[Any] = system.kubectl.get("events", f"--field-selector={selector}")["items"]
    return [(item["type"], item["reason"]) for item in sorted(items, key=lambda item: item["eventTime"])]


def add_rows_with_a_rejected_one(system: System, gemini: FakeGemini) -> None:
    gemini.fault("400", only_matching=REJECTED_TEXT)
    system.book.add(3)
    system.book.run("UPDATE public.businesses SET name = %s WHERE id = 2", REJECTED_TEXT)


def test_a_dead_letter_its_replay_and_its_source_have_events(system: System, gemini: FakeGemini) -> None:
    add_rows_with_a_rejected_one(system, gemini)
    system.start_with_gemini(gemini)
    job = system.wait_for_phase(2, "DeadLettered")["metadata"]["name"]
    wait_until(
        lambda: events(system, "EmbeddingJob", job) == [("Warning", "InputRejected")],
        within_s=60,
        because="the job is a dead letter",
    )
    printed = system.kubectl.run("get", "events")
    assert f"embeddingjob/{job}" in printed
    assert REJECTED_TEXT not in system.kubectl.run("get", "events", "-o", "yaml")
    wait_until(
        lambda: ("Normal", "Ready") in events(system, "EmbeddingSource", "businesses"),
        within_s=60,
        because="the source was ready before the row failed, and Events are sent one after the other",
    )
    assert "InputRejected" in system.kubectl.run("describe", "embeddingjob", job).partition("Events:")[2]
    gemini.lift()
    system.patch_status(job, {"phase": "Pending"})
    system.wait_for_phase(2, "Succeeded")
    wait_until(
        lambda: events(system, "EmbeddingJob", job) == [("Warning", "InputRejected"), ("Normal", "Replayed")],
        within_s=60,
        because="the job was replayed",
    )


def test_changes_of_a_sources_state_have_events(system: System, gemini: FakeGemini) -> None:
    system.book.add(3)
    gemini.fault("503")
    system.start_with_gemini(gemini)
    wait_until(
        lambda: ("Warning", "ProviderUnavailable") in events(system, "EmbeddingSource", "businesses"),
        within_s=60,
        because="every call fails",
    )
    gemini.lift()
    wait_until(
        lambda: ("Normal", "ProviderReady") in events(system, "EmbeddingSource", "businesses"),
        within_s=60,
        because="calls succeed again",
    )
    system.apply_source("wrong", table="public.busineses")
    wait_until(
        lambda: events(system, "EmbeddingSource", "wrong") == [("Warning", "TableMissing")],
        within_s=60,
        because="the table does not exist",
    )


def test_everything_else_works_without_the_right_to_create_events(system: System, gemini: FakeGemini) -> None:
    rules = system.kubectl.get("role", ACCOUNT)["rules"]
    kept = [rule for rule in rules if rule["resources"] != ["events"]]
    assert len(kept) == len(rules) - 1
    system.kubectl.run("patch", "role", ACCOUNT, "--type=merge", "-p", json.dumps({"rules": kept}))
    wait_until(
        lambda: (
            system.kubectl.try_run("auth", "can-i", "create", "events.events.k8s.io", *as_operator(system)).returncode
        ),
        within_s=60,
        because="the Role has changed",
    )
    add_rows_with_a_rejected_one(system, gemini)
    operator = system.start_with_gemini(gemini)
    job = system.wait_for_phase(2, "DeadLettered")["metadata"]["name"]
    wait_until(lambda: '"event not sent"' in operator.log.read_text(), within_s=60, because="creating it is forbidden")
    gemini.lift()
    system.patch_status(job, {"phase": "Pending"})
    system.wait_for_phase(2, "Succeeded")
    system.wait_until_fresh()
    assert operator.log.read_text().count('"event not sent"') == 1
    assert system.kubectl.get("events")["items"] == []


def as_operator(system: System) -> list[str]:
    return ["--as", f"system:serviceaccount:{system.kubectl.namespace}:{ACCOUNT}"]
