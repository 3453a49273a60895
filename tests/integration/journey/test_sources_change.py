"""Sources that change while rows are kept: what is a bill waits for approval, what is none acts at once."""

import json
import urllib.request

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until

NEW_TEXT = "concat_ws(' / ', name, city)"


def versions(system: System) -> list[tuple[object, ...]]:
    return system.book.run("SELECT id, md5(embedding::text) FROM public.businesses WHERE id <= 10 ORDER BY id")


def test_a_changed_text_is_not_paid_for_until_it_is_approved(system: System) -> None:
    system.book.add(10)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    before = versions(system)
    system.apply_source(text=NEW_TEXT)
    pending = wait_until(
        lambda: system.source()["status"].get("pendingFingerprint"), within_s=30, because="the text has changed"
    )
    condition = system.condition("ReembedRequired")
    assert (condition["status"], condition["reason"]) == ("True", "ApprovalNeeded")
    assert "10 rows would be embedded anew" in condition["message"]
    assert system.source()["status"]["reembed"]["rows"] == 10
    system.book.run("INSERT INTO public.businesses (id, name, city) VALUES (50, 'In between', 'Springfield')")
    wait_until(lambda: system.book.vector(50), within_s=20, because="the text before serves edits meanwhile")
    assert system.book.stale() == []
    assert versions(system) == before
    system.apply_source(text=NEW_TEXT, approvedFingerprint=pending)
    wait_until(lambda: system.book.stale(NEW_TEXT) == [], within_s=30, every_s=0.2, because="it is approved")
    wait_until(lambda: system.condition("ReembedRequired")["status"] == "False", within_s=20, because="it is in force")
    assert system.source()["status"].get("pendingFingerprint") is None


def test_a_changed_model_waits_for_approval_too(system: System, gemini: FakeGemini) -> None:
    system.book.add(5)
    system.with_gemini(gemini)
    system.wait_until_fresh()
    calls = gemini.stats().calls
    system.apply_source(
        model={"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512} | {"taskType": "CLUSTERING"}
    )
    pending = wait_until(
        lambda: system.source()["status"].get("pendingFingerprint"), within_s=30, because="the task type has changed"
    )
    assert pending.startswith("gemini-embedding-001@512/CLUSTERING#")
    assert system.source()["status"]["fingerprint"] == "gemini-embedding-001@512"
    assert gemini.stats().calls == calls


def test_a_pending_text_that_is_wrong_is_told_and_the_one_before_goes_on(system: System) -> None:
    system.book.add(3)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    system.apply_source(text="concat(no_such_column)")
    wait_until(
        lambda: (system.condition("Stalled") or {}).get("status") == "True", within_s=30, because="the text is wrong"
    )
    assert "no_such_column" in system.condition("Stalled")["message"]
    assert system.condition("Ready")["status"] == "False"
    system.book.run("UPDATE public.businesses SET name = 'Edited' WHERE id = 2")
    wait_until(lambda: system.book.stale() == [], within_s=30, every_s=0.2, because="edits are served all the same")


def test_two_sources_on_one_column_the_newer_is_refused(system: System) -> None:
    system.book.add(3)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    system.apply_source("copycat")
    stalled = wait_until(
        lambda: (condition := system.condition("Stalled", "copycat")) and condition["status"] == "True" and condition,
        within_s=30,
        because="the column is taken",
    )
    assert stalled["reason"] == "ColumnTaken"
    assert "EmbeddingSource businesses" in stalled["message"]


def test_a_request_to_reconcile_finds_what_no_trigger_saw_and_is_echoed(system: System) -> None:
    system.book.add(5)
    system.operator(EMBEDDING_AUDIT_ROWS_PER_SECOND="0.001")
    system.apply_source()
    system.wait_until_fresh()
    system.book.run("UPDATE public.businesses SET embedding = NULL WHERE id = 3")
    assert system.book.stale() == [3]
    system.kubectl.run(
        "annotate", "embeddingsource", "businesses", "reconcile.embeddings.yellowbook.dev/requestedAt=now-1"
    )
    wait_until(
        lambda: system.source()["status"].get("lastHandledReconcileAt") == "now-1", within_s=30, because="it was asked"
    )
    wait_until(lambda: system.book.stale() == [], within_s=30, every_s=0.2, because="the audit has been through")


def test_the_days_limit_bounds_every_cause(system: System, gemini: FakeGemini) -> None:
    system.book.add(12)
    system.with_gemini(gemini, maxTextsPerDay=8)
    told = wait_until(
        lambda: (condition := system.condition("ProviderReady")) and condition["status"] == "False" and condition,
        within_s=30,
        because="twelve rows are due and eight texts allowed",
    )
    assert told["reason"] == "DayLimitReached"
    assert gemini.stats().texts == 8
    system.apply_source(
        model={"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}, maxTextsPerDay=100
    )
    system.wait_until_fresh()
    wait_until(lambda: system.source()["status"]["today"]["texts"] == 12, within_s=30, because="they are counted")


def test_the_process_tells_its_health_and_its_figures(system: System) -> None:
    system.book.add(5)
    operator = system.operator()
    system.apply_source()
    system.wait_until_fresh()

    def page(path: str) -> str:
        with urllib.request.urlopen(operator.http_url + path, timeout=10) as answer:  # noqa: S310
            return str(answer.read().decode())

    assert page("/healthz") == page("/readyz") == "ok\n"
    settled = 'embedding_operator_jobs_settled_total{phase="Succeeded",reason="Embedded",source="businesses"} 5.0'
    wait_until(lambda: settled in page("/metrics"), within_s=20, because="five rows were embedded")
    assert 'embedding_operator_due_rows{source="businesses"}' in page("/metrics")
    assert "Business 1" not in json.dumps(page("/metrics"))


def test_a_spec_edited_again_and_again_in_a_backfill_strands_no_job(system: System) -> None:
    system.book.add(600)
    system.operator()
    system.apply_source()
    for seconds in range(40, 46):
        wait_until(
            lambda: [job for job in system.jobs() if job["status"]["phase"] == "Pending"],
            within_s=30,
            every_s=0.1,
            because="the backfill is under way",
        )
        system.apply_source(retry={"initialSeconds": 2, "maxSeconds": seconds})
    system.wait_until_fresh(within_s=60)
    wait_until(
        lambda: not [job for job in system.jobs() if job["status"]["phase"] == "Pending"],
        within_s=20,
        every_s=0.2,
        because="every row is fresh, and repair has not been round yet",
    )


def test_a_suspended_source_with_open_jobs_takes_no_place_from_another(system: System, gemini: FakeGemini) -> None:
    gemini.fault("slow", seconds=3)
    system.book.add(400)
    system.book.run("ALTER TABLE public.businesses ADD COLUMN second vector(512)")
    role = system.database_url.split("//")[1].split(":")[0]
    system.book.run(f'GRANT UPDATE (second) ON public.businesses TO "{role}"')
    system.apply_source("slow", model=GEMINI_MODEL, embeddingColumn="second")
    system.gemini_operator(gemini)
    wait_until(lambda: len(system.jobs()) >= 50, within_s=30, because="the slow source fills the window")
    system.apply_source("slow", model=GEMINI_MODEL, embeddingColumn="second", suspend=True)
    wait_until(
        lambda: system.condition("Ready", "slow")["reason"] == "Suspended", within_s=30, because="it is suspended"
    )
    system.apply_source()
    wait_until(lambda: system.book.stale() == [], within_s=60, every_s=0.5, because="another source goes on beside it")
