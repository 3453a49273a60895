"""The process: it ends cleanly, continues the work of an earlier process, and follows changes of sources."""

from urllib.parse import urlsplit

import pytest

from hack.processes.daemons import is_running
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines

NOT_CLOSED = "a connection was not closed: it ends with the process"
"""The only line that may come after the last one, on a machine that stalls."""


@pytest.mark.timeout(600)
def test_sigterm_during_work_ends_the_process_cleanly_and_the_next_one_continues(system: System) -> None:
    system.book.add(1_000)
    first = system.start_operator(EMBEDDING_MAX_OPEN_JOBS="40")
    system.apply_source()
    # Not by the oracle, which takes so long on a busy machine that all rows might be done.
    embedded = "SELECT id FROM public.businesses WHERE embedding IS NOT NULL"
    wait_until(lambda: len(system.book.run(embedded)) > 50, within_s=120, because="the operator embeds rows")
    first.stop()
    assert not is_running(first.daemon)
    *_, ended = [line for line in json_lines(first.log) if line["event"] != NOT_CLOSED]
    assert (ended["event"], ended["clean"]) == ("operator ended", True)
    assert len(system.book.outdated_rows()) > 0
    system.start_operator(EMBEDDING_MAX_OPEN_JOBS="40")
    system.wait_until_fresh(within_s=240)


def test_the_jobs_of_a_deleted_source_are_deleted_and_a_source_created_again_embeds_no_row_twice(
    system: System,
) -> None:
    system.book.add(10)
    system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    vectors = system.book.run("SELECT id, xmin::text FROM public.businesses ORDER BY id")
    system.kubectl.run("delete", "embeddingsource", "businesses")
    wait_until(lambda: system.jobs() == [], within_s=30, because="the source was deleted")
    system.book.run("INSERT INTO public.businesses (id, name) VALUES (50, 'Without a source')")
    system.apply_source()
    system.wait_until_fresh()
    assert system.book.run("SELECT id, xmin::text FROM public.businesses WHERE id <= 10 ORDER BY id") == vectors
    wait_until(lambda: system.reasons(50) == ["Embedded"], within_s=20, because="the row is fresh")
    assert len(system.jobs()) == 1


def test_a_source_with_a_wrong_table_is_stalled_and_another_source_works(system: System) -> None:
    system.book.add(5)
    system.start_operator()
    system.apply_source("wrong", table="public.busineses")
    system.apply_source()
    system.wait_until_fresh()
    stalled = system.wait_for_condition("Stalled", "True", "wrong")
    assert stalled["reason"] == "TableMissing"
    assert "public.busineses does not exist" in stalled["message"]
    assert system.condition("Ready", "wrong")["status"] == "False"


def test_a_stalled_source_does_not_make_the_pod_unready_when_its_database_is_reachable_again(system: System) -> None:
    """Otherwise every `helm upgrade --wait` would fail, although a rollout cannot fix a source."""
    role = urlsplit(system.database_url).username
    system.book.run(f'ALTER ROLE "{role}" NOLOGIN')
    system.apply_source(table="public.busineses")
    operator = system.start_operator()
    wait_until(
        lambda: operator.page_or_error("/readyz")[0] == 503,
        within_s=60,
        every_s=0.1,
        because="the role may not log in",
    )
    system.book.run(f'ALTER ROLE "{role}" LOGIN')
    system.wait_for_condition("Stalled", "TableMissing", within_s=60)
    wait_until(
        lambda: operator.page_or_error("/readyz")[0] == 200,
        within_s=60,
        every_s=0.2,
        because="the database answers, which is looked at every five seconds",
    )


def test_a_process_without_a_source_is_ready_only_when_its_database_answers(system: System) -> None:
    """Otherwise `helm install --wait` would succeed with a wrong DATABASE_URL."""
    role = urlsplit(system.database_url).username
    system.book.run(f'ALTER ROLE "{role}" NOLOGIN')
    operator = system.start_operator()
    wait_until(
        lambda: "no connection could be made" in operator.page_or_error("/readyz")[1],
        within_s=60,
        every_s=0.2,
        because="the role may not log in",
    )
    assert operator.page_or_error("/readyz")[0] == 503
    system.book.run(f'ALTER ROLE "{role}" LOGIN')
    wait_until(
        lambda: operator.page_or_error("/readyz")[0] == 200,
        within_s=60,
        every_s=0.2,
        because="the role may log in",
    )


def test_a_suspended_source_creates_no_job_until_it_is_resumed(system: System) -> None:
    system.book.add(5)
    system.start_operator()
    system.apply_source(suspend=True)
    system.wait_for_condition("Ready", "Suspended")
    wait_until(
        lambda: system.source()["status"].get("rows", {}).get("due") == 5,
        within_s=60,
        because="the audit runs in a suspended source too",
    )
    assert system.jobs() == []
    system.apply_source(suspend=False)
    system.wait_until_fresh()


def test_finished_jobs_expire(system: System) -> None:
    system.book.add(60)
    system.start_operator(EMBEDDING_FINISHED_JOB_SECONDS="2")
    system.apply_source()
    system.wait_until_fresh()
    wait_until(lambda: system.jobs() == [], within_s=30, because="finished jobs are kept for two seconds")


def test_a_stalled_source_is_checked_again_and_works_when_its_table_exists(system: System) -> None:
    system.book.add(3)
    system.book.run("ALTER TABLE public.businesses RENAME TO not_there_yet")
    system.start_operator()
    system.apply_source()
    system.wait_for_condition("Stalled", "True")
    system.book.run("ALTER TABLE public.not_there_yet RENAME TO businesses")
    system.wait_until_fresh(within_s=60)
