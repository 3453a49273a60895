"""Rows that cannot be kept fresh, in great number: no other row and no other source waits for them, and each is shown."""

from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until

BAD = 600
FIRST_GOOD = BAD + 1
KEEP_ARCHIVED = """
CREATE FUNCTION keep_archived() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN IF OLD.archived THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE TRIGGER keep_archived BEFORE UPDATE ON public.archive FOR EACH ROW EXECUTE FUNCTION keep_archived()
"""
FORBID_ARCHIVED = KEEP_ARCHIVED.replace("RETURN NULL", "RAISE EXCEPTION 'archived'")


def make_archive(system: System) -> None:
    """A second table, of 600 archived rows and 5 others, that are there before any trigger of the operator's."""
    system.book.run(
        "CREATE TABLE public.archive (id bigint PRIMARY KEY, name text, archived boolean, divisor int, embedding vector(512))"
    )
    system.book.run(
        "INSERT INTO public.archive SELECT i, 'archived ' || i, i <= %s, CASE WHEN i <= %s THEN 0 ELSE i END "
        "FROM generate_series(1, %s) i",
        BAD,
        BAD,
        BAD + 5,
    )
    role = psycopg.conninfo.conninfo_to_dict(system.database_url)["user"]
    system.book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.archive TO "{role}"')


def start(system: System, gemini: FakeGemini, **archive: str) -> None:
    system.book.add(20)
    system.start_with_gemini(gemini)
    system.apply_source("archive", table="public.archive", model=GEMINI_MODEL, **archive)


def good_rows_are_fresh(system: System) -> bool:
    missing = "SELECT count(*) FROM public.archive WHERE id > %s AND embedding IS NULL"
    return system.book.run(missing, BAD) == [(0,)] and system.book.outdated_rows() == []


def dead_letters(system: System, reason: str) -> int:
    found = [job for job in system.jobs() if job["status"]["phase"] == "DeadLettered"]
    return sum(job["status"]["reason"] == reason for job in found)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("prepare", "text", "reason"),
    [
        (KEEP_ARCHIVED, "name", "UpdateSuppressed"),
        ("SELECT", "concat(name, ' ', (1000000 / divisor)::text)", "TextExpressionFailed"),
    ],
    ids=["suppressed updates", "failing texts"],
)
def test_six_hundred_rows_that_fail_stop_no_other_row_and_no_other_source(
    system: System, gemini: FakeGemini, prepare: str, text: str, reason: str
) -> None:
    make_archive(system)
    system.book.run(prepare)
    start(system, gemini, text=text)
    wait_until(lambda: good_rows_are_fresh(system), within_s=60, every_s=0.5, because="no row waits for a bad one")
    wait_until(lambda: dead_letters(system, reason) >= 500, within_s=120, every_s=1, because="bad rows are shown")
    system.book.run("INSERT INTO public.archive VALUES (9999, 'new', false, 1)")
    wait_until(
        lambda: system.book.run("SELECT embedding IS NOT NULL FROM public.archive WHERE id = 9999") == [(True,)],
        within_s=60,
        every_s=0.2,
        because="new rows are embedded while bad ones stay due",
    )
    assert system.wait_for_condition("Fresh", "RowsDue", "archive")["status"] == "False"
    wait_until(
        lambda: system.source("archive")["status"]["rows"]["due"] == BAD, within_s=60, because="bad rows stay due"
    )


def test_a_corrected_row_is_embedded_and_its_dead_letter_superseded(system: System, gemini: FakeGemini) -> None:
    make_archive(system)
    system.book.run("DELETE FROM public.archive WHERE id < %s", BAD)
    start(system, gemini, text="concat(name, ' ', (1000000 / divisor)::text)")
    wait_until(lambda: dead_letters(system, "TextExpressionFailed") == 1, within_s=30, because="one row fails")
    job = system.job(BAD)
    assert "spec.text fails for this row" in job["status"]["message"]
    assert "DivisionByZero" in job["status"]["message"]
    system.book.run("UPDATE public.archive SET divisor = 1 WHERE id = %s", BAD)
    wait_until(
        lambda: system.book.run("SELECT embedding IS NOT NULL FROM public.archive WHERE id = %s", BAD) == [(True,)],
        within_s=60,
        because="the row is corrected",
    )
    assert dead_letters(system, "TextExpressionFailed") == 0


@pytest.mark.timeout(400)
def test_six_hundred_locked_rows_wait_and_are_written_without_another_call(system: System, gemini: FakeGemini) -> None:
    make_archive(system)
    with closing(psycopg.connect(system.book.url)) as session:
        session.execute("SELECT FROM public.archive WHERE id <= 600 FOR UPDATE")
        start(system, gemini, text="name")
        wait_until(lambda: good_rows_are_fresh(system), within_s=120, every_s=0.5, because="no row waits for a lock")
        locked = wait_until(
            lambda: [job for job in system.jobs() if job["status"].get("reason") == "RowLocked"],
            within_s=60,
            because="locked rows say so",
        )
        assert {job["status"]["phase"] for job in locked} == {"Retrying"}
        assert "has locked the row since" in locked[0]["status"]["message"]
        assert {job["status"]["attempts"] for job in locked} == {0}
    wait_until(
        lambda: system.book.run("SELECT count(*) FROM public.archive WHERE embedding IS NULL") == [(0,)],
        within_s=150,
        every_s=0.5,
        because="the locks are gone",
    )
    assert gemini.stats().texts == BAD + 5 + 20  # no text was sent twice


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("take", "give_back"),
    [
        (
            "REVOKE UPDATE (embedding) ON public.businesses FROM {role}",
            "GRANT UPDATE (embedding) ON public.businesses TO {role}",
        ),
        ("REVOKE SELECT ON public.businesses FROM {role}", "GRANT SELECT ON public.businesses TO {role}"),
        (
            "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no'; END$$; "
            "CREATE TRIGGER no BEFORE UPDATE ON public.businesses FOR EACH ROW WHEN (OLD.name = NEW.name) "
            "EXECUTE FUNCTION public.no()",
            "DROP TRIGGER no ON public.businesses",
        ),
    ],
    ids=["the right to write", "the right to read", "a trigger that refuses every write"],
)
def test_what_refuses_every_row_stalls_the_source_costs_nothing_and_goes_on_after_the_fix(
    system: System, gemini: FakeGemini, take: str, give_back: str
) -> None:
    role = '"' + str(psycopg.conninfo.conninfo_to_dict(system.database_url)["user"]) + '"'
    system.book.add(40)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    sent = gemini.stats().texts
    system.book.run(take.format(role=role))
    system.book.run("UPDATE public.businesses SET name = name || '!'")
    assert system.wait_for_condition("Stalled", "True", within_s=60)["message"]
    paid = gemini.stats().texts - sent
    assert paid <= 80  # two batches, where the refusal shows only in the write
    wait_until(
        stays(lambda: gemini.stats().texts - sent == paid, looks=20), within_s=90, every_s=0.5, because="none is sent"
    )
    assert dead_letters(system, "RetriesExhausted") == 0
    system.book.run(give_back.format(role=role))
    wait_until(lambda: system.book.outdated_rows() == [], within_s=60, every_s=0.2, because="the cause is gone")
    system.wait_for_condition("Ready", "True")


def stays(holds: Callable[[], bool], *, looks: int) -> Callable[[], bool]:
    """True after so many looks, in each of which it must hold."""
    seen = iter(range(looks))

    def look() -> bool:
        assert holds()
        return next(seen, None) is None

    return look
