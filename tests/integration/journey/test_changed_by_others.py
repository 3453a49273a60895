"""What other programs and people do to sources: their finalizers, and their changes of a status."""

import json
import time
from typing import Any

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until

QUIET_S = 3
FINALIZERS = {"metadata": {"finalizers": ["example.com/keeps-it"]}}


def patch(system: System, kind: str, name: str, body: dict[str, Any], *arguments: str) -> None:
    system.kubectl.run("patch", kind, name, "--type=merge", "-p", json.dumps(body), *arguments)


@pytest.mark.timeout(400)
def test_a_source_that_is_being_deleted_embeds_nothing_until_it_is_created_again(
    system: System, gemini: FakeGemini
) -> None:
    system.book.add(3)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    patch(system, "embeddingsource", "businesses", FINALIZERS)
    system.kubectl.run("delete", "embeddingsource", "businesses", "--wait=false")
    wait_until(lambda: system.jobs() == [], within_s=30, every_s=0.2, because="the source is being deleted")
    calls = gemini.stats().calls
    system.book.add(3, prefix="Afterwards")
    patch(system, "embeddingsource", "businesses", {"metadata": {"labels": {"any": "change"}}})
    end = time.monotonic() + QUIET_S

    def nothing_happens() -> bool:
        assert (system.jobs(), gemini.stats().calls) == ([], calls)
        return time.monotonic() > end

    wait_until(nothing_happens, within_s=30, every_s=0.2, because="a sweep would follow within a second")
    patch(system, "embeddingsource", "businesses", {"metadata": {"finalizers": None}})
    system.apply_source(model=GEMINI_MODEL)
    system.wait_until_fresh()


@pytest.mark.timeout(300)
def test_a_status_that_a_person_has_changed_is_written_again_within_a_minute(
    system: System, gemini: FakeGemini
) -> None:
    system.book.add(3)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    system.wait_for_condition("Fresh", "True")
    change = {"conditions": None, "observedGeneration": 0, "rows": {"due": 99}}
    patch(system, "embeddingsource", "businesses", {"status": change}, "--subresource=status")

    def is_repaired() -> bool:
        status = system.source()["status"]
        fresh = [one["status"] for one in status.get("conditions") or () if one["type"] == "Fresh"]
        return (fresh, status.get("observedGeneration"), status.get("rows", {}).get("due")) == (["True"], 1, 0)

    # After the comparison the status is written in the next turn, which may come nine seconds later.
    wait_until(is_repaired, within_s=90, every_s=0.5, because="every minute the status is compared")
