"""Sources whose spec changes: a change that costs calls waits for approval, and any other takes effect at once."""

import json

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until

NEW_TEXT = "concat_ws(' / ', name, city)"


def versions(system: System) -> list[tuple[object, ...]]:
    return system.book.run("SELECT id, md5(embedding::text) FROM public.businesses WHERE id <= 10 ORDER BY id")


def test_a_changed_text_expression_costs_no_call_until_it_is_approved(system: System) -> None:
    system.book.add(10)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    before = versions(system)
    system.apply_source(text=NEW_TEXT)
    pending = wait_until(
        lambda: system.source()["status"].get("pendingFingerprint"),
        within_s=30,
        because="the text expression has changed",
    )
    condition = system.condition("ReembedRequired")
    assert (condition["status"], condition["reason"]) == ("True", "ApprovalNeeded")
    assert "10 rows would be embedded again" in condition["message"]
    assert system.source()["status"]["reembed"]["rows"] == 10
    system.book.run("INSERT INTO public.businesses (id, name, city) VALUES (50, 'In between', 'Springfield')")
    wait_until(lambda: system.book.vector(50), within_s=20, because="edits are embedded with the previous expression")
    assert system.book.outdated_rows() == []
    assert versions(system) == before
    system.apply_source(text=NEW_TEXT, approvedFingerprint=pending)
    wait_until(
        lambda: system.book.outdated_rows(NEW_TEXT) == [], within_s=30, every_s=0.2, because="the change was approved"
    )
    system.wait_for_condition("ReembedRequired", "False")
    assert system.source()["status"].get("pendingFingerprint") is None


def test_a_changed_model_waits_for_approval(system: System, gemini: FakeGemini) -> None:
    system.book.add(5)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    calls = gemini.stats().calls
    system.apply_source(
        model={"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}
        | {"taskType": "CLUSTERING", "queryPrefix": "query: "}
    )
    pending = wait_until(
        lambda: system.source()["status"].get("pendingFingerprint"), within_s=30, because="the task type has changed"
    )
    assert pending.startswith("gemini-embedding-001@512/CLUSTERING#")
    assert system.source()["status"]["fingerprint"] == "gemini-embedding-001@512"
    in_force = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}
    assert system.source()["status"]["model"] == in_force  # with which search texts are embedded
    assert gemini.stats().calls == calls


def test_a_wrong_new_text_expression_stalls_the_source_and_edits_are_embedded_with_the_previous_one(
    system: System,
) -> None:
    system.book.add(3)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    system.apply_source(text="concat(no_such_column)")
    assert "no_such_column" in system.wait_for_condition("Stalled", "True")["message"]
    assert system.condition("Ready")["status"] == "False"
    system.book.run("UPDATE public.businesses SET name = 'Edited' WHERE id = 2")
    wait_until(
        lambda: system.book.outdated_rows() == [],
        within_s=30,
        every_s=0.2,
        because="edits are embedded with the previous expression",
    )


def test_of_two_sources_with_one_column_the_newer_is_refused(system: System) -> None:
    system.book.add(3)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    system.apply_source("copycat")
    stalled = system.wait_for_condition("Stalled", "True", "copycat")
    assert stalled["reason"] == "ColumnTaken"
    assert "EmbeddingSource businesses" in stalled["message"]


def test_a_request_to_reconcile_runs_an_audit_and_is_confirmed_in_the_status(system: System) -> None:
    system.book.add(5)
    system.start_operator(EMBEDDING_AUDIT_ROWS_PER_SECOND="0.001")
    system.apply_source()
    system.wait_until_fresh()
    system.book.run("UPDATE public.businesses SET embedding = NULL WHERE id = 3")
    assert system.book.outdated_rows() == [3]
    system.kubectl.run(
        "annotate", "embeddingsource", "businesses", "reconcile.embeddings.yellowbook.dev/requestedAt=now-1"
    )
    wait_until(
        lambda: system.source()["status"].get("lastHandledReconcileAt") == "now-1",
        within_s=30,
        because="reconciling was requested",
    )
    wait_until(lambda: system.book.outdated_rows() == [], within_s=30, every_s=0.2, because="the audit is complete")


def test_no_more_texts_are_sent_than_the_limit_of_the_day_allows(system: System, gemini: FakeGemini) -> None:
    system.book.add(12)
    system.start_with_gemini(gemini, limits={"textsPerDay": 8})
    not_ready = system.wait_for_condition("ProviderReady", "False")  # twelve rows are due, and eight texts are allowed
    assert not_ready["reason"] == "DayLimitReached"
    wait_until(lambda: gemini.stats().texts >= 8, within_s=20, because="eight texts were counted, and are being sent")
    assert gemini.stats().texts == 8
    system.apply_source(
        model={"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}, limits={"textsPerDay": 100}
    )
    system.wait_until_fresh()
    wait_until(
        lambda: system.source()["status"].get("today", {}).get("texts") == 12,
        within_s=60,
        because="every text is counted",
    )


def test_the_process_serves_its_health_and_its_metrics(system: System) -> None:
    system.book.add(5)
    operator = system.start_operator()
    system.apply_source()
    system.wait_until_fresh()

    assert operator.page("/healthz") == operator.page("/readyz") == "ok\n"
    settled = 'embedding_operator_job_transitions_total{phase="Succeeded",reason="Embedded",source="businesses"} 5.0'
    wait_until(lambda: settled in operator.page("/metrics"), within_s=20, because="five rows were embedded")
    assert 'embedding_operator_due_rows{source="businesses"}' in operator.page("/metrics")
    assert "Business 1" not in json.dumps(operator.page("/metrics"))


@pytest.mark.timeout(400)
def test_edits_of_the_spec_during_a_backfill_leave_no_job_pending(system: System, gemini: FakeGemini) -> None:
    gemini.fault("slow", seconds=8)  # longer than between two edits: the backfill does not end before the last of them
    system.book.add(600)
    system.start_with_gemini(gemini)
    for seconds in range(40, 46):
        wait_until(
            lambda: [job for job in system.jobs() if job["status"]["phase"] == "Pending"],
            within_s=30,
            every_s=0.1,
            because="the backfill has begun",
        )
        system.apply_source(model=GEMINI_MODEL, retry={"initialSeconds": 2, "maxSeconds": seconds})
    gemini.lift()
    system.wait_until_fresh(within_s=120)
    wait_until(
        lambda: not [job for job in system.jobs() if job["status"]["phase"] == "Pending"],
        within_s=20,
        every_s=0.2,
        because="every row is fresh, and no job has to wait until it is found orphaned",
    )


@pytest.mark.timeout(400)
def test_the_open_jobs_of_a_suspended_source_take_no_place_in_the_window(system: System, gemini: FakeGemini) -> None:
    gemini.fault("slow", seconds=3)
    system.book.add(400)
    system.book.run("ALTER TABLE public.businesses ADD COLUMN second vector(512)")
    role = system.database_url.split("//")[1].split(":")[0]
    system.book.run(f'GRANT UPDATE (second) ON public.businesses TO "{role}"')
    system.apply_source("slow", model=GEMINI_MODEL, embeddingColumn="second")
    system.start_gemini_operator(gemini)
    wait_until(lambda: len(system.jobs()) >= 50, within_s=30, because="the slow source fills the window")
    system.apply_source("slow", model=GEMINI_MODEL, embeddingColumn="second", suspend=True)
    system.wait_for_condition("Ready", "Suspended", "slow")
    system.apply_source()
    wait_until(
        lambda: system.book.outdated_rows() == [],
        within_s=120,
        every_s=0.5,
        because="the other source has the whole window",
    )
