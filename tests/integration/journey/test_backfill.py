"""A large backlog goes past the API server: no job for each row, edits first, nothing lost, and its progress in the status."""

from pathlib import Path

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System, add
from tests.support.deadline import wait_until

ROWS = 2_000
CONCURRENCY = 2
AUTO = {"mode": "Auto", "threshold": 100, "concurrency": CONCURRENCY}


def backfill(system: System) -> dict[str, object]:
    return system.source().get("status", {}).get("backfill") or {}


def hold_backfill(gemini: FakeGemini) -> None:
    """Its calls take so long that it does not end before the test has looked at it. Calls for other rows are not slower.

    Called before it begins: the first rows have another name, so that it has soon embedded some.
    """
    gemini.fault("slow", seconds=8, only_matching="Business")


def events(system: System) -> set[str]:
    return {event["reason"] for event in system.kubectl.get("events")["items"]}


def vectors(system: System) -> int:
    return int(system.book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NOT NULL")[0][0])


@pytest.mark.timeout(500)
def test_a_first_fill_is_embedded_without_jobs_edits_go_first_and_a_killed_operator_goes_on(
    system: System, tmp_path: Path
) -> None:
    system.book.add(300, prefix="First")
    system.book.add(ROWS - 300)
    gemini = system.stack.enter_context(FakeGemini(tmp_path, latency_ms=1_000))  # it takes ten seconds
    hold_backfill(gemini)
    operator = system.start_with_gemini(gemini, backfill=AUTO)
    wait_until(lambda: vectors(system) > 200, within_s=60, because="the backfill has begun")
    system.wait_for_condition("Backfilling", "True")
    edited = add(system, "an edit during the backfill")[0]
    assert system.wait_for_phase(edited, "Succeeded", within_s=30)["spec"]["businessId"] == str(edited)
    assert vectors(system) < ROWS
    wait_until(lambda: "BackfillStarted" in events(system), within_s=60, because="it is sent after the status")
    operator.kill()
    gemini.lift()
    operator.start()
    system.wait_until_fresh(within_s=120)
    jobs = [job["spec"]["businessId"] for job in system.jobs()]
    assert len(jobs) <= 100
    sent = gemini.stats().texts
    assert sent <= ROWS + 1 + 2 * CONCURRENCY * 100
    system.wait_for_condition("Backfilling", "Completed")
    shown = backfill(system)
    assert shown["completedAt"]
    assert shown["failed"] == 0
    both = {"BackfillStarted", "BackfillCompleted"}
    wait_until(lambda: both <= events(system), within_s=60, because="the begin and the end have their Events")
    assert f"{shown['done']}/{shown['total']}" in system.kubectl.run("get", "esrc", "-o", "wide")


@pytest.mark.timeout(400)
def test_rows_that_fail_get_jobs_which_live_as_any_other(system: System, gemini: FakeGemini) -> None:
    system.book.add(600)
    system.book.run("UPDATE public.businesses SET name = 'VENOM' WHERE id IN (7, 8)")
    gemini.fault("400", only_matching="VENOM")
    system.start_with_gemini(gemini, backfill=AUTO)
    for row in (7, 8):
        assert system.wait_for_phase(row, "DeadLettered", within_s=60)["status"]["reason"] == "InputRejected"
    wait_until(lambda: vectors(system) == 598, within_s=60, because="all others are embedded")
    assert {job["spec"]["businessId"] for job in system.jobs() if job["status"]["phase"] == "DeadLettered"} == {
        "7",
        "8",
    }
    gemini.lift()
    job = next(job for job in system.jobs(7))["metadata"]["name"]
    system.patch_status(job, {"phase": "Pending"})
    system.wait_for_phase(7, "Succeeded")


@pytest.mark.timeout(400)
def test_a_changed_mode_ends_the_backfill_within_seconds_and_the_other_rows_get_jobs(
    system: System, tmp_path: Path
) -> None:
    system.book.add(200, prefix="First")
    system.book.add(400)
    gemini = system.stack.enter_context(FakeGemini(tmp_path, latency_ms=1_000))
    hold_backfill(gemini)
    system.start_with_gemini(gemini, backfill=AUTO | {"concurrency": 1})
    wait_until(lambda: vectors(system) > 100, within_s=60, because="the backfill has begun")
    system.apply_source(model=GEMINI_MODEL, backfill=AUTO | {"mode": "Jobs", "concurrency": 1})
    wait_until(lambda: backfill(system).get("completedAt"), within_s=30, because="the backfill has ended")
    assert vectors(system) < 600
    assert (system.condition("Backfilling") or {})["status"] == "False"
    gemini.lift()
    wait_until(lambda: len(system.jobs()) > 50, within_s=60, because="the other rows get jobs")
    system.wait_until_fresh(within_s=120)
