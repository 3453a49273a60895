"""Incidents of the night, caused one at a time: each is told in one word, a condition, an Event, the log and a metric, blames no
innocent row, and is over after its remedy.
"""

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import BlockingTcpProxy, DatabaseProxy

TOLD_WITHIN_S = 60
REQUEST = "reconcile.embeddings.yellowbook.dev/requestedAt"


@dataclass
class Stand:
    """A system whose operator reaches the database through a proxy, and has made its rows fresh."""

    system: System
    gemini: FakeGemini
    database: BlockingTcpProxy

    @property
    def role(self) -> str:
        return str(psycopg.conninfo.conninfo_to_dict(self.system.database_url)["user"])

    def run(self, sql: str) -> None:
        self.system.book.run(sql)

    def retry_now(self) -> None:
        self.system.kubectl.run("annotate", "--overwrite", "esrc/businesses", f"{REQUEST}={time.time_ns()}")


@dataclass(frozen=True)
class Incident:
    name: str
    cause: Callable[[Stand], object]
    word: str
    """The column STATUS, which is the reason of the condition."""
    condition: str
    remedy: Callable[[Stand], object]
    rows: int = 1
    """So many are due meanwhile."""

    @property
    def told_by(self) -> str:
        """The status of the condition that tells of it."""
        return "True" if self.condition == "Stalled" else "False"


def lift_and_retry(stand: Stand) -> None:
    stand.gemini.lift()
    stand.retry_now()


INCIDENTS = [
    Incident("key", lambda on: on.gemini.fault("400-key"), "ApiKeyInvalid", "ProviderReady", lift_and_retry),
    Incident("outage", lambda on: on.gemini.fault("503"), "ProviderUnavailable", "ProviderReady", lift_and_retry),
    Incident(
        "outage_300", lambda on: on.gemini.fault("503"), "ProviderUnavailable", "ProviderReady", lift_and_retry, 300
    ),
    Incident("quota", lambda on: on.gemini.fault("429-day"), "QuotaExhausted", "ProviderReady", lift_and_retry),
    Incident(
        "database",
        lambda on: on.database.stop(),
        "DatabaseUnavailable",
        "DatabaseReady",
        lambda on: on.database.start(),
    ),
    Incident(
        "rights",
        lambda on: on.run(f'REVOKE UPDATE (embedding) ON public.businesses FROM "{on.role}"'),
        "Forbidden",
        "Stalled",
        lambda on: on.run(f'GRANT UPDATE (embedding) ON public.businesses TO "{on.role}"'),
    ),
    Incident(
        "column",
        lambda on: on.run("ALTER TABLE public.businesses RENAME COLUMN description TO about"),
        "TextRefused",
        "Stalled",
        lambda on: on.run("ALTER TABLE public.businesses RENAME COLUMN about TO description"),
        0,
    ),
    Incident(
        "constraint",
        lambda on: on.run("ALTER TABLE public.businesses ADD CONSTRAINT none CHECK (embedding IS NULL) NOT VALID"),
        "DatabaseRefused",
        "Stalled",
        lambda on: on.run("ALTER TABLE public.businesses DROP CONSTRAINT none"),
    ),
    Incident(
        "table",
        lambda on: on.run("ALTER TABLE public.businesses RENAME TO moved"),
        "TableMissing",
        "Stalled",
        lambda on: on.run("ALTER TABLE public.moved RENAME TO businesses"),
        0,
    ),
]


@pytest.fixture
def stand(system: System, gemini: FakeGemini) -> Iterator[Stand]:
    with ExitStack() as stack:
        direct = DatabaseProxy(system.database_url)
        database = stack.enter_context(BlockingTcpProxy(proxy=direct))
        system.database_url = direct.url
        system.book.add(5)
        yield Stand(system, gemini, database)


def metrics(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310
        return str(answer.read().decode())


def events(system: System) -> set[str]:
    """The reasons of the Events of the source."""
    found = json.loads(system.kubectl.run("get", "events", "-o", "json"))["items"]
    return {event["reason"] for event in found if event["involvedObject"]["name"] == "businesses"}


def lines(log: str) -> Iterator[dict[str, Any]]:
    """Those that need attention, of the source."""
    for line in log.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if found.get("level") in ("warning", "error") and found.get("source") == "businesses":
                yield found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_an_incident_is_told_everywhere_blames_no_row_and_is_over_after_its_remedy(
    stand: Stand, incident: Incident
) -> None:
    system = stand.system
    operator = system.start_with_gemini(stand.gemini)
    system.wait_until_fresh()
    incident.cause(stand)
    if incident.rows:
        system.book.add(incident.rows, prefix="During the incident")

    def told() -> bool:
        return bool(system.source()["status"].get("summary") == incident.word)

    wait_until(told, within_s=TOLD_WITHIN_S, because="STATUS is the most pressing reason")
    assert incident.word in system.kubectl.run("get", "esrc", "businesses")
    condition = system.condition(incident.condition)
    assert (condition["status"], condition["reason"]) == (incident.told_by, incident.word)
    wait_until(lambda: incident.word in events(system), within_s=30, because="the transition has an Event")
    assert any(incident.word in (line.get("reason"), line.get("error")) for line in lines(operator.log.read_text()))
    metric = f'source_condition{{condition="{incident.condition}",source="businesses",status="{incident.told_by}"}} 1.0'
    assert metric in metrics(operator.http_url)

    incident.remedy(stand)
    system.wait_until_fresh(within_s=90)
    wait_until(lambda: system.source()["status"]["summary"] == "Fresh", within_s=30, because="the incident is over")
    assert [job for job in system.jobs() if job["status"]["phase"] == "DeadLettered"] == []


def test_a_poison_row_alone_is_a_dead_letter_which_is_told(stand: Stand) -> None:
    system = stand.system
    stand.gemini.fault("400", only_matching="VENOM")
    operator = system.start_with_gemini(stand.gemini)
    (poison,) = add(system, "VENOM")
    job = system.wait_for_phase(poison, "DeadLettered", within_s=60)
    wait_until(
        lambda: system.source()["status"].get("summary") == "FreshExceptDeadLettered",
        within_s=TOLD_WITHIN_S,
        because="all others are fresh",
    )
    assert any(line.get("job") == job["metadata"]["name"] for line in lines(operator.log.read_text()))
    assert 'embedding_operator_source_dead_letters{source="businesses"} 1.0' in metrics(operator.http_url)


def test_a_row_that_stays_locked_says_so_and_delays_no_other(stand: Stand) -> None:
    system = stand.system
    system.start_with_gemini(stand.gemini)
    system.wait_until_fresh()
    stand.gemini.fault("503")
    system.book.run("UPDATE public.businesses SET name = 'edited' WHERE id <= 2")
    with psycopg.connect(system.book.url) as other:
        other.execute("SELECT FROM public.businesses WHERE id = 1 FOR UPDATE")
        lift_and_retry(stand)
        system.wait_for_phase(2, "Succeeded", within_s=60)
        job = system.wait_for_phase(1, "Retrying", within_s=60)
        assert job["status"]["reason"] == "RowLocked"
    system.wait_until_fresh()


def test_pending_jobs_say_what_they_wait_for(stand: Stand) -> None:
    system = stand.system
    system.start_with_gemini(stand.gemini)
    system.wait_until_fresh()
    stand.gemini.fault("400-key")
    (row,) = add(system, "waits for the key")

    def reason() -> bool:
        return bool(system.jobs(row) and system.job(row)["status"].get("reason") == "ApiKeyInvalid")

    wait_until(reason, within_s=TOLD_WITHIN_S, because="it waits for longer than ten seconds")
    assert system.job(row)["status"]["phase"] == "Pending"
