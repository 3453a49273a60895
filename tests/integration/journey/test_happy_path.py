"""A row from stale to fresh, and what everyone sees of it on the way."""

from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until


def test_one_row_becomes_fresh(system: System) -> None:
    system.book.add(1)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    wait_until(lambda: system.reasons(1) == ["Embedded"], within_s=20, because="the row is fresh")
    (job,) = system.jobs()
    assert job["status"]["phase"] == "Succeeded"
    assert job["status"]["attempts"] == 1
    assert job["metadata"]["name"].startswith("businesses-1-")
    assert "Business" not in str(job), "no text of a row belongs in a resource"


def test_a_new_business_gets_one_job_and_one_vector(system: System) -> None:
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    system.book.add(3)
    system.wait_until_fresh()
    assert [system.reasons(business) for business in (1, 2, 3)] == [["Embedded"]] * 3


def test_kubectl_waits_for_fresh_and_the_source_tells_what_it_has(system: System) -> None:
    system.book.add(20)
    system.operator()
    system.apply_source()
    system.kubectl.run("wait", "embeddingsource/businesses", "--for=condition=Fresh", "--timeout=60s", within_s=70)
    assert system.book.stale() == []
    status = system.source()["status"]
    assert status["observedGeneration"] == 1
    assert status["fingerprint"] == "universal-sentence-encoder-multilingual-3@512"
    states = {condition["type"]: condition["status"] for condition in status["conditions"]}
    true = {"Ready", "Fresh", "ProviderReady"}
    false = {"Reconciling", "Stalled", "ReembedRequired"}
    assert states == dict.fromkeys(true, "True") | dict.fromkeys(false, "False")
    rows = wait_until(
        lambda: system.source()["status"]["rows"]["due"] == 0 and system.source()["status"]["rows"],
        within_s=30,
        because="counts are written every ten seconds",
    )
    assert (rows["total"], rows["fresh"], rows["freshPercent"]) == (20, 20, "100.0")


def test_the_saving_of_a_business_never_needs_the_operator(system: System) -> None:
    first = system.operator()
    system.apply_source()
    system.wait_until_fresh()
    first.stop()
    system.book.add(30)
    system.book.run("UPDATE public.businesses SET city = 'Shelbyville' WHERE id <= 10")
    assert len(system.book.stale()) == 30
    system.operator()
    system.wait_until_fresh()
