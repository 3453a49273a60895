"""Events, as `kubectl get events` shows them: a dead letter's, its replay's, the source's. Without the right to them nothing
else suffers.
"""

import json
from typing import Any

from hack.installation.prerequisites import ACCOUNT
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until

POISON = "this one is refused"


def events(system: System, kind: str, name: str) -> list[tuple[str, str]]:
    """Type and reason of those that regard an object, in the order of their time."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    items: list[Any] = system.kubectl.get("events", f"--field-selector={selector}")["items"]
    return [(item["type"], item["reason"]) for item in sorted(items, key=lambda item: item["eventTime"])]


def poisoned(system: System, gemini: FakeGemini) -> None:
    gemini.fault("400", only_matching=POISON)
    system.book.add(3)
    system.book.run("UPDATE public.businesses SET name = %s WHERE id = 2", POISON)


def test_a_dead_letter_its_replay_and_its_source_have_events(system: System, gemini: FakeGemini) -> None:
    poisoned(system, gemini)
    system.with_gemini(gemini)
    job = system.wait_for_phase(2, "DeadLettered")["metadata"]["name"]
    wait_until(
        lambda: events(system, "EmbeddingJob", job) == [("Warning", "InputRejected")],
        within_s=10,
        because="the job is a dead letter",
    )
    printed = system.kubectl.run("get", "events")
    assert f"embeddingjob/{job}" in printed
    assert POISON not in system.kubectl.run("get", "events", "-o", "yaml")
    assert ("Normal", "Ready") in events(system, "EmbeddingSource", "businesses")
    assert "InputRejected" in system.kubectl.run("describe", "embeddingjob", job).partition("Events:")[2]
    gemini.lift()
    system.patch_status(job, {"phase": "Pending"})
    system.wait_for_phase(2, "Succeeded")
    wait_until(
        lambda: events(system, "EmbeddingJob", job) == [("Warning", "InputRejected"), ("Normal", "Replayed")],
        within_s=10,
        because="the job was replayed",
    )


def test_what_becomes_of_a_source_has_events(system: System, gemini: FakeGemini) -> None:
    system.book.add(3)
    gemini.fault("503")
    system.with_gemini(gemini)
    wait_until(
        lambda: ("Warning", "ProviderUnavailable") in events(system, "EmbeddingSource", "businesses"),
        within_s=30,
        because="the provider is away",
    )
    gemini.lift()
    wait_until(
        lambda: ("Normal", "ProviderReady") in events(system, "EmbeddingSource", "businesses"),
        within_s=30,
        because="the provider is back",
    )
    system.apply_source("wrong", table="public.busineses")
    wait_until(
        lambda: events(system, "EmbeddingSource", "wrong") == [("Warning", "TableMissing")],
        within_s=20,
        because="there is no such table",
    )


def test_without_the_right_to_events_nothing_else_suffers(system: System, gemini: FakeGemini) -> None:
    rules = system.kubectl.get("role", ACCOUNT)["rules"]
    kept = [rule for rule in rules if rule["resources"] != ["events"]]
    assert len(kept) == len(rules) - 1
    system.kubectl.run("patch", "role", ACCOUNT, "--type=merge", "-p", json.dumps({"rules": kept}))
    wait_until(
        lambda: (
            system.kubectl.try_run(
                "auth", "can-i", "create", "events.events.k8s.io", *as_the_operator(system)
            ).returncode
        ),
        within_s=20,
        because="the Role has changed",
    )
    poisoned(system, gemini)
    operator = system.with_gemini(gemini)
    job = system.wait_for_phase(2, "DeadLettered")["metadata"]["name"]
    wait_until(lambda: '"event not sent"' in operator.log.read_text(), within_s=10, because="it may not be sent")
    gemini.lift()
    system.patch_status(job, {"phase": "Pending"})
    system.wait_for_phase(2, "Succeeded")
    system.wait_until_fresh()
    assert operator.log.read_text().count('"event not sent"') == 1
    assert system.kubectl.get("events")["items"] == []


def as_the_operator(system: System) -> list[str]:
    return ["--as", f"system:serviceaccount:{system.kubectl.namespace}:{ACCOUNT}"]
