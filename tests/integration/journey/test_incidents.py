"""Incidents of the night, caused one at a time: each is told in one word, a condition, an Event, the log and a metric, blames no
innocent row, and is over after its remedy.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hack.dashboard.prometheus import Prometheus
from hack.database.postgres import unique_name
from hack.installation.operator_process import OperatorProcess
from hack.processes.daemons import whole_lines
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.support.deadline import wait_until
from tests.support.runbook import Runbook
from tests.support.small_disk import small_disk
from tests.support.tcp_proxy import BlockingTcpProxy, DatabaseProxy

TOLD_WITHIN_S = 60


@dataclass
class Stand:
    """A system whose operator reaches the database through a proxy, and has made its rows fresh."""

    system: System
    gemini: FakeGemini
    database: BlockingTcpProxy
    runbook: Runbook

    @property
    def role(self) -> str:
        return str(psycopg.conninfo.conninfo_to_dict(self.system.database_url)["user"])

    def run(self, sql: str) -> None:
        self.system.book.run(sql)


@dataclass(frozen=True)
class Incident:
    name: str
    cause: Callable[[Stand], object]
    word: str
    """The column STATUS, which is the reason of the condition."""
    condition: str
    alert: str
    remedy: Callable[[Stand], object]
    """What ends the cause outside of the cluster, and then what the runbook says."""
    rows: int = 1
    """So many are due meanwhile."""

    @property
    def told_by(self) -> str:
        """The status of the condition that tells of it."""
        return "True" if self.condition == "Stalled" else "False"


def runbook(containing: str, alert: str = "SourceStalled") -> Callable[[Stand], object]:
    return lambda on: on.runbook.follow(alert, containing)


def provider_is_well(alert: str) -> Callable[[Stand], object]:
    def remedy(on: Stand) -> None:
        on.gemini.lift()
        on.runbook.follow(alert, "requestedAt")

    return remedy


def run_the_grant_of_the_message(on: Stand) -> None:
    message = on.system.condition("Stalled")["message"]
    (grant,) = re.findall(r"GRANT .*", message)
    on.run(grant)


DOWN, NOT_READY = "ProviderDown", "ProviderNotReady"
AWAY = "ProviderUnavailable"
INCIDENTS = [
    Incident(
        "key",
        lambda on: on.gemini.fault("400-key"),
        "ApiKeyInvalid",
        "ProviderReady",
        DOWN,
        provider_is_well(DOWN),
    ),
    Incident("outage", lambda on: on.gemini.fault("503"), AWAY, "ProviderReady", DOWN, provider_is_well(DOWN)),
    Incident("outage_300", lambda on: on.gemini.fault("503"), AWAY, "ProviderReady", DOWN, provider_is_well(DOWN), 300),
    Incident(
        "quota",
        lambda on: on.gemini.fault("429-day"),
        "QuotaExhausted",
        "ProviderReady",
        NOT_READY,
        provider_is_well(NOT_READY),
    ),
    Incident(
        "database",
        lambda on: on.database.stop(),
        "DatabaseUnavailable",
        "DatabaseReady",
        "DatabaseDown",
        lambda on: on.database.start(),
    ),
    Incident(
        "rights",
        lambda on: on.run(f'REVOKE UPDATE (embedding) ON public.businesses FROM "{on.role}"'),
        "Forbidden",
        "Stalled",
        "SourceStalled",
        run_the_grant_of_the_message,
    ),
    Incident(
        "column",
        lambda on: on.run("ALTER TABLE public.businesses RENAME COLUMN description TO about"),
        "TextRefused",
        "Stalled",
        "SourceStalled",
        runbook("RENAME COLUMN about TO description"),
        0,
    ),
    Incident(
        "constraint",
        lambda on: on.run(
            "ALTER TABLE public.businesses ADD CONSTRAINT no_vectors CHECK (embedding IS NULL) NOT VALID"
        ),
        "DatabaseRefused",
        "Stalled",
        "SourceStalled",
        runbook("DROP CONSTRAINT no_vectors"),
    ),
    Incident(
        "table",
        lambda on: on.run("ALTER TABLE public.businesses RENAME TO companies"),
        "TableMissing",
        "Stalled",
        "SourceStalled",
        runbook("RENAME TO businesses"),
        0,
    ),
]


@pytest.fixture
def stand(system: System, gemini: FakeGemini, tmp_path: Path) -> Iterator[Stand]:
    with ExitStack() as stack:
        direct = DatabaseProxy(system.database_url)
        database = stack.enter_context(BlockingTcpProxy(proxy=direct))
        system.database_url = direct.url
        system.book.add(5)
        yield Stand(system, gemini, database, Runbook(system.kubectl, system.book, tmp_path))


@pytest.fixture
def watched(stand: Stand, prometheus_program: Path) -> "Watched":
    """The stand with an operator whose rows are fresh, and a Prometheus that scrapes it."""
    system = stand.system
    operator = system.start_with_gemini(stand.gemini)
    system.wait_until_fresh()
    prometheus = system.watch(prometheus_program, operator, deadLettersPerHour=1)
    wait_until(lambda: prometheus.query("embedding_operator_leader == 1"), within_s=60, because="it is scraped")
    return Watched(stand, operator, prometheus)


@dataclass
class Watched:
    stand: Stand
    operator: OperatorProcess
    prometheus: Prometheus

    def wait_until_told(self, word: str, *, condition: str, status: str, alert: str) -> None:
        """By STATUS, the condition, an Event, the log, a metric and an alert."""
        system = self.stand.system
        wait_until(
            lambda: system.source()["status"].get("summary") == word,
            within_s=TOLD_WITHIN_S,
            because=f"STATUS becomes {word}",
        )
        assert word in system.kubectl.run("get", "esrc", "businesses")
        found = system.condition(condition)
        assert (found["status"], found["reason"]) == (status, word)
        wait_until(lambda: word in events(system), within_s=30, because="the transition has an Event")
        assert any(word in (line.get("reason"), line.get("error")) for line in lines(self.operator.log))
        metric = f'source_condition{{condition="{condition}",source="businesses",status="{status}"}} 1.0'
        assert metric in self.operator.page("/metrics")
        wait_until(lambda: self.fires(alert), within_s=60, because=f"{alert} fires")

    def fires(self, alert: str) -> bool:
        return f"EmbeddingOperator{alert}" in {name for name, _ in self.prometheus.firing()}

    def wait_until_over(self, alert: str, *, within_s: float = 90) -> None:
        """All rows are fresh, nothing innocent is dead-lettered, and the alert has ended."""
        system = self.stand.system
        system.wait_until_fresh(within_s=within_s)
        wait_until(lambda: system.source()["status"]["summary"] == "Fresh", within_s=30, because="the incident is over")
        assert [job for job in system.jobs() if job["status"]["phase"] == "DeadLettered"] == []
        wait_until(lambda: not self.fires(alert), within_s=60, because=f"{alert} has ended")


def events(system: System, *, of: str = "businesses") -> set[str]:
    """The reasons of the Events of the source, or of a job."""
    found = json.loads(system.kubectl.run("get", "events", "-o", "json"))["items"]
    return {event["reason"] for event in found if event["involvedObject"]["name"] == of}


def lines(log: Path) -> Iterator[dict[str, Any]]:
    """Those that need attention, of the source."""
    for line in whole_lines(log):
        if line.startswith("{"):
            found = json.loads(line)
            if found.get("level") in ("warning", "error") and found.get("source") == "businesses":
                yield found


@pytest.mark.timeout(700)
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_an_incident_is_told_everywhere_blames_no_row_and_is_over_after_its_remedy(
    watched: Watched, incident: Incident
) -> None:
    incident.cause(watched.stand)
    if incident.rows:
        watched.stand.system.book.add(incident.rows, prefix="During the incident")
    watched.wait_until_told(incident.word, condition=incident.condition, status=incident.told_by, alert=incident.alert)
    incident.remedy(watched.stand)
    watched.wait_until_over(incident.alert)


@pytest.mark.timeout(700)
def test_a_poison_row_alone_is_a_dead_letter_which_is_told_and_replayed_by_the_runbook(watched: Watched) -> None:
    system = watched.stand.system
    watched.stand.gemini.fault("400", only_matching="VENOM")
    (poison,) = add(system, "VENOM")
    job = system.wait_for_phase(poison, "DeadLettered", within_s=60)["metadata"]["name"]
    wait_until(
        lambda: system.source()["status"].get("summary") == "FreshExceptDeadLettered",
        within_s=TOLD_WITHIN_S,
        because="all others are fresh",
    )
    assert system.condition("Fresh")["reason"] == "FreshExceptDeadLettered"
    assert any(line.get("job") == job for line in lines(watched.operator.log))
    assert 'embedding_operator_source_dead_letters{source="businesses"} 1.0' in watched.operator.page("/metrics")
    wait_until(lambda: "InputRejected" in events(system, of=job), within_s=30, because="it has an Event")
    wait_until(lambda: watched.fires("DeadLettersGrowing"), within_s=60, because="there is one more")
    watched.stand.gemini.lift()
    assert "replayed, after InputRejected" in watched.stand.runbook.follow(
        "DeadLettersGrowing", "kubectl embeddings replay"
    )
    system.wait_until_fresh()


@pytest.mark.timeout(700)
def test_a_row_that_stays_locked_says_so_delays_no_other_and_is_written_when_the_session_is_ended(
    watched: Watched,
) -> None:
    system = watched.stand.system
    watched.stand.gemini.fault("503")
    system.book.run("UPDATE public.businesses SET name = 'edited' WHERE id <= 2")
    with contextlib.closing(psycopg.connect(system.book.url)) as other:
        other.execute("SELECT FROM public.businesses WHERE id = 1 FOR UPDATE")
        # A call that failed just before a canary succeeds would count as an attempt, of another reason.
        system.wait_for_condition("ProviderReady", "False", within_s=TOLD_WITHIN_S)
        provider_is_well(DOWN)(watched.stand)
        wait_until(
            lambda: [job["status"]["phase"] for job in system.jobs(2)] == ["Succeeded"] * 2,
            within_s=60,
            because="only the other row is locked",
        )
        assert system.wait_for_phase(1, "Retrying", within_s=60)["status"]["reason"] == "RowLocked"
        watched.wait_until_told("RowsLocked", condition="RowsLocked", status="True", alert="RowsLocked")
        wait_until(
            lambda: (
                watched.stand.runbook.follow("RowsLocked", "pg_terminate_backend") == ""
                and is_ended(system, other.info.backend_pid)
            ),
            within_s=60,
            every_s=2,
            because="the session is idle for long enough",
        )
    watched.wait_until_over("RowsLocked", within_s=120)


def is_ended(system: System, pid: int) -> bool:
    """Whether the server has ended the session. The session itself is not used, so that it stays idle."""
    return system.book.run(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}") == []


@pytest.mark.timeout(700)
def test_a_full_disk_is_told_loses_nothing_that_was_paid_for_and_work_goes_on_when_there_is_room(
    watched: Watched,
) -> None:
    system, run = watched.stand.system, watched.stand.run
    ((data_folder,),) = system.book.run("SELECT current_setting('data_directory')")
    ((state,),) = system.book.run(
        "SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'businesses%_state' AND relkind = 'r'"
    )
    with small_disk(Path(data_folder)) as disk:
        space = f"small_{unique_name('disk')}"
        run(f"CREATE TABLESPACE {space} LOCATION '{disk}'")
        run(f"ALTER TABLE {state} SET TABLESPACE {space}")
        run(f"CREATE TABLE public.ballast (content bytea) TABLESPACE {space}")
        fill(system, "public.ballast")
        sent = watched.stand.gemini.stats().texts
        system.book.add(300, prefix="During the incident")
        watched.wait_until_told(
            "DatabaseUnavailable", condition="DatabaseReady", status="False", alert="DatabaseNotReady"
        )
        assert "disk of PostgreSQL is full" in system.condition("DatabaseReady")["message"]
        assert not watched.fires("DatabaseDown")
        run("DROP TABLE public.ballast")
        watched.wait_until_over("DatabaseNotReady")
        assert watched.stand.gemini.stats().texts - sent == 300
        run(f"ALTER TABLE {state} SET TABLESPACE pg_default")
        run(f"DROP TABLESPACE {space}")


def fill(system: System, table: str) -> None:
    """Insert rows until there is no room."""
    for size in (100_000, 1_000, 100):
        with contextlib.suppress(psycopg.errors.DiskFull):
            while True:
                system.book.run(
                    f"INSERT INTO {table} SELECT decode(string_agg(md5(random()::text), ''), 'hex') "
                    f"FROM generate_series(1, {size // 16})"
                )


@pytest.mark.timeout(300)
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
