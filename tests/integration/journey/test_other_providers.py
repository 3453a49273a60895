"""Sources with the providers google-genai and simulated, in a real process: what a switch costs, and simulated failures."""

from typing import Any

import numpy as np
import pytest

from embedding_worker.providers.simulated import vector_of
from embedding_worker.source import Model
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until

SIMULATED = {"provider": "simulated", "name": "any-name", "dimensions": 512}
SETTINGS = {
    "EMBEDDING_SIMULATED_ALLOWED": "true",
    "EMBEDDING_SIMULATED_LATENCY_MS": "20",
    "EMBEDDING_SIMULATED_FAILURE_RATE": "0.1",
}


def provider_in_force(system: System) -> Any:
    ((record,),) = system.book.run("SELECT in_force::jsonb ->> 'provider' FROM embedding_operator.sources")
    return record


@pytest.mark.timeout(300)
def test_a_source_that_changes_to_the_newer_sdk_embeds_no_row_again(system: System, gemini: FakeGemini) -> None:
    system.book.add(20)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    before = gemini.stats()

    system.apply_source(model=GEMINI_MODEL | {"provider": "google-genai"})
    wait_until(lambda: provider_in_force(system) == "google-genai", within_s=60, because="nothing has to be approved")
    system.book.add(1, prefix="Embedded by the newer SDK")
    system.wait_until_fresh()
    after = gemini.stats()
    assert after.texts == before.texts + 1
    assert after.key_hashes == before.key_hashes
    assert "pendingFingerprint" not in system.source()["status"]


def simulated_model(texts: list[str]) -> "np.ndarray[Any, Any]":
    model = Model("simulated", "any-name", 512)
    vectors = np.array([vector_of(text, model) for text in texts])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.timeout(300)
def test_every_row_becomes_fresh_although_a_tenth_of_the_simulated_calls_fail(system: System) -> None:
    system.book.model = simulated_model
    system.book.add(60)
    system.apply_source(model=SIMULATED)
    system.start_operator(**SETTINGS)
    system.wait_until_fresh(within_s=120)
    assert system.book.run("SELECT id FROM embedding_operator.outcomes WHERE phase = 'DeadLettered'") == []
    assert system.source()["status"]["fingerprint"] == "any-name@512@simulated"
