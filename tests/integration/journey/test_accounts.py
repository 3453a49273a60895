"""Sources with an endpoint and a key of their own: whose key reaches which server, and what a changed endpoint costs."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until
from tests.support.yellow_book import fake_gemini_model

THEIR_KEY = "key-of-another-account"
REF = {"name": "team-b", "key": "api-key"}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeGemini]:
    (folder := tmp_path / "other").mkdir()
    with FakeGemini(folder, api_key=THEIR_KEY) as server:
        yield server


def declared(other: FakeGemini, file: Path) -> str:
    """What the chart writes of its value apiKeys."""
    key = {"secretName": "team-b", "key": "api-key", "file": str(file), "endpoints": [other.url]}
    return json.dumps([key])


def model_at(server: FakeGemini, **others: Any) -> dict[str, Any]:
    return GEMINI_MODEL | {"endpoint": server.url, "apiKeySecretRef": REF} | others


def is_stalled(system: System, reason: str) -> bool:
    found = system.condition("Stalled")
    return found is not None and (found["status"], found["reason"]) == ("True", reason)


@pytest.mark.timeout(400)
def test_two_sources_use_two_accounts_and_a_changed_endpoint_waits_for_approval(
    system: System, gemini: FakeGemini, other: FakeGemini, tmp_path: Path
) -> None:
    system.book.model = fake_gemini_model
    system.book.add(4)
    system.apply_source(model=model_at(other))
    file = tmp_path / "api-key"
    system.start_gemini_operator(gemini, EMBEDDING_API_KEYS=declared(other, file))

    wait_until(partial(is_stalled, system, "ProviderKeyMissing"), within_s=30, because="its key is not mounted yet")
    assert "the key 'api-key' of Secret 'team-b'" in system.condition("Stalled")["message"]
    file.write_text(f"{THEIR_KEY}\n")
    system.wait_until_fresh()
    assert (other.stats().texts >= 4, gemini.stats().calls) == (True, 0)
    in_force = system.source()["status"]["fingerprint"]
    assert in_force == f"gemini-embedding-001@512@{other.url.removeprefix('http://')}"

    system.apply_source(model=GEMINI_MODEL)
    wait_until(
        lambda: str(system.source()["status"].get("pendingFingerprint")).startswith("gemini-embedding-001@512#"),
        within_s=30,
        because="another server may give other vectors",
    )
    assert gemini.stats().calls == 0

    calls = other.stats().calls
    system.apply_source(model=GEMINI_MODEL | {"sameVectorsAs": in_force})
    wait_until(
        lambda: not system.source()["status"].get("pendingFingerprint"),
        within_s=30,
        because="they are declared the same",
    )
    system.book.add(1, prefix="Of the operator's own account")
    system.wait_until_fresh()
    assert gemini.stats().texts == 1
    assert other.stats().calls == calls


def test_a_key_is_not_sent_to_a_server_that_a_source_names(
    system: System, gemini: FakeGemini, other: FakeGemini, tmp_path: Path
) -> None:
    (file := tmp_path / "api-key").write_text(THEIR_KEY)
    system.book.add(1)
    system.apply_source(model=GEMINI_MODEL | {"endpoint": gemini.url + "/elsewhere", "apiKeySecretRef": REF})
    system.start_gemini_operator(gemini, EMBEDDING_API_KEYS=declared(other, file))
    for model in (system.source()["spec"]["model"], GEMINI_MODEL | {"endpoint": other.url}):
        system.apply_source(model=model)
        wanted = "ApiKeyNotAllowed" if "apiKeySecretRef" in model else "ProviderKeyMissing"
        wait_until(partial(is_stalled, system, wanted), within_s=30, because="its key is for another server")
        assert THEIR_KEY not in str(system.source())
    assert (gemini.stats().calls, other.stats().calls) == (0, 0)
