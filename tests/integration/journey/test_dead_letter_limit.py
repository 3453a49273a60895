"""The limit of dead letters: the source that causes them stops loudly and goes on by itself, and no other source waits."""

from pathlib import Path

import psycopg
import pytest

from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until
from tests.support.runbook import Runbook

LIMIT = 500
LIMIT_ALERT = "EmbeddingOperatorDeadLetterLimit"
BAD, GOOD = 600, 5
TABLE = f"""
CREATE TABLE public.archive (
    id bigint PRIMARY KEY, name text, embedding vector(512),
    CONSTRAINT not_searchable CHECK (id <= {GOOD} OR embedding IS NULL));
INSERT INTO public.archive SELECT i, 'archived ' || i FROM generate_series(1, {BAD + GOOD}) i
"""
"""The write of each row but the first five is refused, after its text was sent."""


def start(system: System, gemini: FakeGemini) -> OperatorProcess:
    """Two sources: one of these rows, each of which is tried once, and one without a failure."""
    system.book.run(TABLE)
    role = psycopg.conninfo.conninfo_to_dict(system.database_url)["user"]
    system.book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.archive TO "{role}"')
    system.book.add(20)
    operator = system.start_with_gemini(gemini)
    system.apply_source("archive", table="public.archive", text="name", model=GEMINI_MODEL, retry={"maxAttempts": 1})
    return operator


def embedded(system: System) -> int:
    return int(system.book.run("SELECT count(*) FROM public.archive WHERE embedding IS NOT NULL")[0][0])


def wait_until_stalled(system: System) -> str:
    return str(system.wait_for_condition("Stalled", "DeadLetterLimit", "archive", within_s=120)["message"])


@pytest.mark.timeout(700)
def test_at_the_limit_of_dead_letters_a_source_stops_loudly_others_go_on_and_it_resumes_when_they_are_replayed(
    system: System, gemini: FakeGemini, prometheus_program: Path, tmp_path: Path
) -> None:
    operator = start(system, gemini)
    prometheus = system.watch(prometheus_program, operator)
    assert wait_until_stalled(system).startswith(f"there are {LIMIT} dead letters")
    jobs = [job for job in system.jobs() if job["spec"]["sourceRef"]["name"] == "archive"]
    dead = [job for job in jobs if job["status"]["phase"] == "DeadLettered"]
    assert {job["status"]["phase"] for job in jobs} <= {"DeadLettered", "Succeeded"}
    assert (len(dead), {job["status"]["reason"] for job in dead}) == (LIMIT, {"RetriesExhausted"})
    assert embedded(system) == GOOD
    assert 'embedding_operator_dead_letter_limit_reached{source="archive"} 1.0' in operator.page("/metrics")
    assert 'embedding_operator_dead_letter_limit_reached{source="businesses"} 0.0' in operator.page("/metrics")
    assert system.source("archive")["status"]["summary"] == "DeadLetterLimit"
    wait_until(lambda: system.source()["status"]["summary"] == "Fresh", within_s=60, because="none of its rows fails")
    wait_until(
        lambda: '"reason": "DeadLetterLimit"' in operator.log.read_text(),
        within_s=30,
        because="it is logged after the status is written",
    )
    wait_until(
        lambda: (LIMIT_ALERT, "archive") in prometheus.firing(), within_s=60, every_s=0.5, because="it has an alert"
    )
    assert (LIMIT_ALERT, "businesses") not in prometheus.firing()
    wait_until(
        lambda: "DeadLetterLimit" in system.kubectl.run("get", "events"),
        within_s=30,
        because="an Event is sent soon after",
    )
    system.book.run("UPDATE public.businesses SET name = 'new' WHERE id = 1")
    wait_until(lambda: system.book.outdated_rows() == [], within_s=60, every_s=0.2, because="the other source goes on")

    system.book.run("ALTER TABLE public.archive DROP CONSTRAINT not_searchable")
    replayed = Runbook(system.kubectl, system.book, tmp_path).follow(
        "DeadLettersGrowing", "kubectl embeddings replay", source="archive"
    )
    assert replayed.count("replayed, after RetriesExhausted") == LIMIT
    wait_until(
        lambda: embedded(system) == BAD + GOOD, within_s=120, every_s=0.5, because="the dead letters are replayed"
    )
    system.wait_for_condition("Stalled", "False", "archive", within_s=60)
    assert 'embedding_operator_dead_letter_limit_reached{source="archive"} 0.0' in operator.page("/metrics")
