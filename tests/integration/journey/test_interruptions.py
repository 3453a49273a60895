"""Interruptions: an operator that is killed or stopped, rows that change while they are embedded, an edit during a backfill."""

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.yellow_book import fake_gemini_model


@pytest.mark.timeout(900)
def test_an_operator_that_is_killed_three_times_loses_no_row(system: System) -> None:
    system.book.add(2_000)
    system.apply_source()
    for written in (200, 700, 1_200):
        process = system.start_operator(EMBEDDING_MAX_OPEN_JOBS="200")
        wait_until(
            lambda written=written: (  # type: ignore[misc]
                system.book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NOT NULL")[0][0] >= written
            ),
            within_s=120,
            every_s=0.05,
            because="the operator embeds rows",
        )
        process.kill()
    system.start_operator()
    system.wait_until_fresh(within_s=180)
    wait_until(
        lambda: not [job for job in system.jobs() if job["status"]["phase"] in ("Pending", "Retrying")],
        within_s=180,
        every_s=0.5,
        because="a restart finds every open job",
    )


def test_edits_of_a_day_without_an_operator_are_embedded(system: System) -> None:
    system.book.add(20)
    first = system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    first.stop()
    system.book.run("UPDATE public.businesses SET name = name || ' & Co' WHERE id <= 10")
    system.book.run("DELETE FROM public.businesses WHERE id = 20")
    (table,) = system.book.run(
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relname LIKE 'businesses_embedding_%%_marks' AND relkind = 'r' "
        "AND c.relnamespace = 'embedding_operator'::regnamespace"
    )[0]
    system.book.run(f"UPDATE {table} SET since = since - interval '1 day'")
    system.start_operator()
    system.wait_until_fresh()


def begin_to_embed_three_rows(system: System, gemini: FakeGemini) -> None:
    """Return while the texts of all of them are in flight: each has a job, and for some seconds no vector."""
    gemini.fault("slow", seconds=10)
    system.book.add(3)
    system.start_with_gemini(gemini)
    wait_until(lambda: gemini.stats().texts == 3, within_s=60, because="three rows are due")


def test_a_row_that_is_edited_while_it_is_embedded_gets_the_vector_of_its_new_text(
    system: System, gemini: FakeGemini
) -> None:
    begin_to_embed_three_rows(system, gemini)
    system.book.run("UPDATE public.businesses SET name = 'Edited meanwhile' WHERE id = 2")
    system.wait_until_fresh()

    def phases() -> set[str]:
        return {job["status"]["phase"] for job in system.jobs(2)}

    wait_until(lambda: "Succeeded" in phases() and "Pending" not in phases(), within_s=30, because="the row is fresh")
    assert "DeadLettered" not in phases()
    assert {job["status"]["reason"] for job in system.jobs(2)} <= {"TextChanged", "Embedded", None}


def test_the_job_of_a_row_that_is_deleted_while_it_is_embedded_is_superseded(
    system: System, gemini: FakeGemini
) -> None:
    begin_to_embed_three_rows(system, gemini)
    system.book.run("DELETE FROM public.businesses WHERE id = 2")
    system.wait_until_fresh()
    wait_until(lambda: system.reasons(2) == ["RowDeleted"], within_s=20, because="the row was deleted")


def test_an_edit_is_embedded_before_a_backfill_of_thousands_of_rows(system: System, gemini: FakeGemini) -> None:
    gemini.fault("slow", seconds=2, only_matching="Business")
    system.book.add(4_000)
    system.start_with_gemini(gemini)
    wait_until(
        lambda: system.book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NOT NULL")[0][0] > 100,
        within_s=60,
        because="the backfill has begun",
    )
    before = system.book.vector(3_999)
    system.book.run("UPDATE public.businesses SET name = 'An edit' WHERE id = 3999")
    wait_until(lambda: system.book.vector(3_999) != before, within_s=20, because="edits are embedded first")
    due = system.book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NULL")[0][0]
    assert due > 1_000, "the backfill has not ended"
    assert system.book.model is fake_gemini_model


def test_a_source_that_is_suspended_and_resumed_embeds_no_row_twice(system: System, gemini: FakeGemini) -> None:
    system.book.add(30)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    model = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}
    system.apply_source(model=model, suspend=True)
    system.wait_for_condition("Ready", "Suspended")
    system.book.run("UPDATE public.businesses SET name = 'Edited' WHERE id = 7")
    system.apply_source(model=model, suspend=False)
    system.wait_until_fresh()
    assert gemini.stats().texts == 31
