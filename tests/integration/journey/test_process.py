"""The process around it: it ends cleanly, begins where another ended, and takes up sources as they come and go."""

import json
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from hack.processes.daemons import is_running
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until


def log_events(system: System) -> list[str]:
    return [json.loads(line)["event"] for line in (system.folder / "operator.log").read_text().splitlines()]


def test_sigterm_in_the_middle_ends_cleanly_and_the_next_process_goes_on(system: System) -> None:
    system.book.add(400)
    first = system.operator(EMBEDDING_MAX_OPEN_JOBS="40")
    system.apply_source()
    wait_until(lambda: len(system.book.stale()) < 350, within_s=60, every_s=0.1, because="the operator is at work")
    first.stop()
    assert not is_running(first.daemon)
    assert log_events(system)[-1] == "operator ended"
    assert json.loads(first.log.read_text().splitlines()[-1])["clean"] is True
    half_done = len(system.book.stale())
    assert half_done > 0
    system.operator(EMBEDDING_MAX_OPEN_JOBS="40")
    system.wait_until_fresh(within_s=90)


def test_a_source_deleted_takes_its_jobs_with_it_and_one_made_again_embeds_nothing_twice(system: System) -> None:
    system.book.add(10)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    vectors = system.book.run("SELECT id, xmin::text FROM public.businesses ORDER BY id")
    system.kubectl.run("delete", "embeddingsource", "businesses")
    wait_until(lambda: system.jobs() == [], within_s=30, because="the jobs of a deleted source go")
    system.book.run("INSERT INTO public.businesses (id, name) VALUES (50, 'While nobody looked')")
    system.apply_source()
    system.wait_until_fresh()
    assert system.book.run("SELECT id, xmin::text FROM public.businesses WHERE id <= 10 ORDER BY id") == vectors
    wait_until(lambda: system.reasons(50) == ["Embedded"], within_s=20, because="it is fresh")
    assert len(system.jobs()) == 1


def test_a_bad_source_is_stalled_with_a_sentence_and_another_goes_on_beside_it(system: System) -> None:
    system.book.add(5)
    system.operator()
    system.apply_source("wrong", table="public.busineses")
    system.apply_source()
    system.wait_until_fresh()
    stalled = wait_until(lambda: system.condition("Stalled", "wrong"), within_s=20, because="the source was applied")
    assert (stalled["status"], stalled["reason"]) == ("True", "TableMissing")
    assert "public.busineses does not exist" in stalled["message"]
    assert system.condition("Ready", "wrong")["status"] == "False"


def test_a_source_that_is_stalled_once_its_database_is_back_no_longer_makes_the_pod_unready(system: System) -> None:
    """It would end every `helm upgrade --wait`: nothing is away any more, and a rollout mends no source."""
    role = urlsplit(system.database_url).username
    system.book.run(f'ALTER ROLE "{role}" NOLOGIN')
    system.apply_source(table="public.busineses")
    operator = system.operator()
    wait_until(
        lambda: answer(f"{operator.http_url}/readyz") == 503,
        within_s=20,
        every_s=0.1,
        because="the database refuses us",
    )
    system.book.run(f'ALTER ROLE "{role}" LOGIN')
    wait_until(
        lambda: (system.condition("Stalled") or {}).get("reason") == "TableMissing", within_s=30, because="it is back"
    )
    assert answer(f"{operator.http_url}/readyz") == 200


def test_without_a_source_it_is_ready_only_once_its_database_answers(system: System) -> None:
    """Or `helm install --wait` would call a wrong DATABASE_URL well."""
    role = urlsplit(system.database_url).username
    system.book.run(f'ALTER ROLE "{role}" NOLOGIN')
    operator = system.operator()
    wait_until(
        lambda: "no connection could be made" in words(f"{operator.http_url}/readyz"),
        within_s=60,
        every_s=0.2,
        because="the database refuses us",
    )
    assert answer(f"{operator.http_url}/readyz") == 503
    system.book.run(f'ALTER ROLE "{role}" LOGIN')
    wait_until(
        lambda: answer(f"{operator.http_url}/readyz") == 200, within_s=60, every_s=0.2, because="the database is back"
    )


def words(url: str) -> str:
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310
            return str(response.read().decode())
    except HTTPError as exc:
        return exc.read().decode()


def answer(url: str) -> int:
    try:
        with urlopen(url, timeout=5) as response:  # noqa: S310
            return int(response.status)
    except HTTPError as exc:
        return exc.code


def test_a_suspended_source_makes_no_job_until_it_is_resumed(system: System) -> None:
    system.book.add(5)
    system.operator()
    system.apply_source(suspend=True)
    wait_until(
        lambda: (system.condition("Ready") or {}).get("reason") == "Suspended", within_s=30, because="it is suspended"
    )
    wait_until(
        lambda: system.source()["status"].get("rows", {}).get("due") == 5, within_s=30, because="the audit goes on"
    )
    assert system.jobs() == []
    system.apply_source(suspend=False)
    system.wait_until_fresh()


def test_finished_jobs_expire(system: System) -> None:
    system.book.add(60)
    system.operator(EMBEDDING_FINISHED_JOB_SECONDS="2")
    system.apply_source()
    system.wait_until_fresh()
    wait_until(lambda: system.jobs() == [], within_s=30, because="jobs are kept for two seconds")


def test_a_stalled_source_is_looked_at_again_and_goes_on_once_it_is_mended(system: System) -> None:
    system.book.add(3)
    system.book.run("ALTER TABLE public.businesses RENAME TO not_there_yet")
    system.operator()
    system.apply_source()
    wait_until(
        lambda: (system.condition("Stalled") or {}).get("status") == "True", within_s=30, because="there is no table"
    )
    system.book.run("ALTER TABLE public.not_there_yet RENAME TO businesses")
    system.wait_until_fresh(within_s=60)
