"""A due row becomes fresh, and its job and its source show that."""

import pytest

from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until

pytestmark = pytest.mark.timeout(400)


def test_one_row_becomes_fresh(system: System) -> None:
    system.book.add(1)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    wait_until(lambda: system.reasons(1) == ["Embedded"], within_s=60, because="the row is fresh")
    (job,) = system.jobs()
    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["attempts"] == 1
    assert job["metadata"]["name"].startswith("businesses-1-")
    assert "Business" not in str(job), "the text of a row is in no resource"


def test_a_new_business_gets_one_job_and_one_vector(system: System) -> None:
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    system.book.add(3)
    system.wait_until_fresh()
    wait_until(
        lambda: [system.reasons(business) for business in (1, 2, 3)] == [["Embedded"]] * 3,
        within_s=60,
        because="a job's status is sent after its row is written",
    )
    assert len(system.jobs()) == 3


def test_kubectl_waits_for_the_condition_fresh_and_the_status_has_the_counts(system: System) -> None:
    system.book.add(20)
    system.start_operator()
    system.apply_source()
    system.kubectl.run("wait", "embeddingsource/businesses", "--for=condition=Fresh", "--timeout=60s", within_s=70)
    assert system.book.outdated_rows() == []
    status = system.source()["status"]
    assert status["observedGeneration"] == 1
    assert status["fingerprint"] == "universal-sentence-encoder-multilingual-3@512"
    states = {condition["type"]: condition["status"] for condition in status["conditions"]}
    true = {"Ready", "Fresh", "ProviderReady", "DatabaseReady"}
    false = {"Reconciling", "Stalled", "ReembedRequired", "RowsLocked", "BlankTexts", "Backfilling"}
    assert states == dict.fromkeys(true, "True") | dict.fromkeys(false, "False")
    rows = wait_until(
        lambda: (rows := system.source()["status"].get("rows", {})).get("due") == 0 and rows,
        within_s=60,
        because="the counts are written every ten seconds",
    )
    assert (rows["total"], rows["fresh"], rows["freshPercent"]) == (20, 20, "100.0")


def test_rows_are_saved_while_no_operator_runs_and_embedded_later(system: System) -> None:
    first = system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    first.stop()
    system.book.add(30)
    system.book.run("UPDATE public.businesses SET city = 'Shelbyville' WHERE id <= 10")
    assert len(system.book.outdated_rows()) == 30
    system.start_operator()
    system.wait_until_fresh()
