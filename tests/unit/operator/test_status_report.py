"""A source's status is written when it has changed, and its transitions are emitted as Events."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerError, ApiServerUnreachable, Gone, RequestRefused
from embedding_operator.lifecycle.source_facts import SourceFacts, facts_of
from embedding_operator.reconciler.status_report import StatusReport
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts
from tests.support.operator_parts import SOURCE, Parts, job_of, source

NEW = facts_of(source(), price_per_million_tokens=0.0)
SET_UP = SourceFacts(1, "any@8", set_up=True, filled=True)


class System:
    def __init__(self, status: dict[str, Any] | None = None) -> None:
        self.parts = Parts()
        self.server, self.clock = self.parts.server, self.parts.clock
        self.server.put_source({"metadata": {"name": SOURCE}})
        shown = source().model_copy(update={"status": status or {}})
        self.report = StatusReport(
            shown, server=self.server, events=self.parts.events, table=self.parts.table, clock=self.clock
        )

    def ready(self) -> str:
        """The status of the condition Ready on the server."""
        (found,) = [one for one in self.status()["conditions"] if one["type"] == "Ready"]
        return str(found["status"])

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.stored_sources[SOURCE]["status"]
        return found

    async def list_and_write(self, facts: SourceFacts) -> None:
        """What happens in each minute: the list, and then the loop's next turn."""
        system_status = self.server.stored_sources[SOURCE].get("status", {})
        self.report.compare(system_status, listed_at=self.clock.monotonic())
        await self.report.write(facts)

    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.reason) for event in self.parts.events.emitted]


@pytest.fixture
def system() -> System:
    return System()


async def test_the_first_status_is_written(system: System) -> None:
    await system.report.write(NEW)
    assert system.ready() == "False"


async def test_a_status_that_has_not_changed_is_written_once(system: System) -> None:
    await system.report.write(NEW)
    await system.clock.advance(60)
    await system.report.write(NEW)
    assert system.server.count("patch_source_status") == 1


async def test_a_transition_is_written_a_second_after_the_last_write(system: System) -> None:
    await system.report.write(NEW)
    await system.report.write(SET_UP)
    assert system.ready() == "False"
    await system.clock.advance(1)
    await system.report.write(SET_UP)
    assert system.ready() == "True"


async def test_what_stalls_a_source_is_written_at_once(system: System) -> None:
    await system.report.write(SET_UP)
    await system.report.write(SourceFacts(1, "any@8", refused=("TableMissing", "no table")), at_once=True)
    assert system.ready() == "False"


async def test_counts_alone_are_written_every_ten_seconds(system: System) -> None:
    await system.report.write(SourceFacts(1, "any@8", set_up=True, counts=counted(due=5)))
    await system.clock.advance(9)
    await system.report.write(SourceFacts(1, "any@8", set_up=True, counts=counted(due=4)))
    assert system.status()["rows"]["due"] == 5
    await system.clock.advance(1)
    await system.report.write(SourceFacts(1, "any@8", set_up=True, counts=counted(due=4)))
    assert system.status()["rows"]["due"] == 4


async def test_open_jobs_and_dead_letters_of_the_source_are_counted(system: System) -> None:
    system.parts.track(job_of("1", "Bakery"))
    system.parts.track(job_of("2", "Garage", Phase.RETRYING))
    system.parts.track(job_of("3", "Florist", Phase.DEAD_LETTERED))
    system.parts.track(job_of("4", "Butcher", of="others"))
    await system.report.write(SET_UP)
    assert system.status()["jobs"] == {"open": 2, "deadLettered": 1}
    assert system.report.dead_letters() == ["3"]


@pytest.mark.parametrize("error", [ApiServerUnreachable("no route"), RequestRefused("forbidden"), Gone("not found")])
async def test_a_status_that_could_not_be_written_is_written_next_time(system: System, error: ApiServerError) -> None:
    system.server.fail("patch_source_status", error)
    await system.report.write(SET_UP)
    assert "status" not in system.server.stored_sources[SOURCE]
    assert system.events() == []
    await system.clock.advance(5)
    await system.report.write(SET_UP)
    assert system.ready() == "True"
    assert system.events() == [("Normal", "Ready")]


async def test_a_status_that_is_refused_is_sent_every_five_seconds_and_logged_once(system: System) -> None:
    system.server.fail("patch_source_status", *[RequestRefused("denied by a policy")] * 99)
    with capture_logs() as logs:
        for _ in range(40):
            await system.report.write(SET_UP)
            await system.clock.advance(0.5)
    assert system.server.count("patch_source_status") == 4
    assert [line["event"] for line in logs] == ["source status not written"]


async def test_a_transition_is_emitted_once_and_only_when_it_is_written(system: System) -> None:
    await system.report.write(NEW)
    await system.report.write(SET_UP)
    assert system.events() == []
    await system.clock.advance(1)
    await system.report.write(SET_UP)
    await system.report.write(SET_UP)
    assert system.events() == [("Normal", "Ready")]


async def test_what_needs_attention_is_a_line_in_the_log_once(system: System) -> None:
    away = Problem("DatabaseUnavailable", "the database: connection refused")
    await system.report.write(SET_UP)
    with capture_logs() as logs:
        for _ in range(3):
            await system.clock.advance(1)
            await system.report.write(replace(SET_UP, waiting_for=away))
    (line,) = logs
    assert (line["log_level"], line["source"], line["condition"]) == ("warning", SOURCE, "DatabaseReady")
    assert (line["reason"], line["message"]) == (away.reason, away.message)


@pytest.mark.parametrize(
    "change",
    [
        {"conditions": None},
        {"observedGeneration": 9},
        {"rows": {"total": 1}},
        {"conditions": [], "fingerprint": None, "observedGeneration": None, "jobs": None},
        {"pendingFingerprint": "other"},
    ],
    ids=str,
)
async def test_a_status_that_somebody_has_changed_is_written_again(system: System, change: dict[str, Any]) -> None:
    facts = SourceFacts(1, "any@8", set_up=True, filled=True, counts=counted(due=5))
    await system.report.write(facts)
    written = system.status()
    await system.server.patch_source_status(SOURCE, change)
    await system.clock.advance(60)
    await system.list_and_write(facts)
    assert system.status() == written
    assert system.events() == [("Normal", "Ready")]


async def test_a_status_as_it_was_written_causes_no_request_however_often_it_is_listed(system: System) -> None:
    await system.report.write(SET_UP)
    for _ in range(3):
        await system.clock.advance(60)
        await system.list_and_write(SET_UP)
    assert system.server.count("patch_source_status") == 1


async def test_values_that_the_api_server_normalises_cause_no_further_requests(system: System) -> None:
    system.server.put_source({"metadata": {"name": SOURCE}, "status": {"default": "of the CRD"}})
    await system.report.write(SET_UP)
    await system.clock.advance(60)
    await system.list_and_write(SET_UP)
    assert system.server.count("patch_source_status") == 1


async def test_a_list_that_is_older_than_the_last_write_is_not_compared(system: System) -> None:
    listed_at = system.clock.monotonic()
    await system.clock.advance(1)
    await system.report.write(SET_UP)
    system.report.compare({}, listed_at=listed_at)
    await system.report.write(SET_UP)
    assert system.server.count("patch_source_status") == 1


async def test_a_status_that_another_program_changes_all_the_time_is_written_once_for_each_list(system: System) -> None:
    await system.report.write(SET_UP)
    for _ in range(5):
        await system.server.patch_source_status(SOURCE, {"observedGeneration": 9})
        await system.clock.advance(60)
        await system.list_and_write(SET_UP)
        await system.report.write(SET_UP)
    assert system.server.count("patch_source_status") == 1 + 2 * 5


async def test_a_restart_emits_no_event_of_what_the_status_says_already() -> None:
    before = System()
    await before.report.write(SET_UP)
    restarted = System(before.status())
    await restarted.clock.advance(60)
    await restarted.report.write(SET_UP)
    assert restarted.events() == []


async def test_a_restart_keeps_the_times_of_transition() -> None:
    before = System()
    await before.report.write(SET_UP)
    restarted = System(before.status())
    await restarted.clock.advance(60)
    await restarted.report.write(SET_UP)
    assert {one["lastTransitionTime"] for one in restarted.status()["conditions"]} == {"2026-03-01T12:00:00.000Z"}


def counted(*, due: int) -> Counts:
    return Counts(100, due, True, None, estimated=False)


async def test_the_adopted_rows_are_told_by_one_event(system: System) -> None:
    for adopted in (None, 7, 7, None):
        system.report.emit_adopted(adopted)
    (event,) = system.parts.events.emitted
    assert (event.type, event.reason) == ("Normal", "VectorsAdopted")
    assert event.note == "7 rows keep the vectors that embedding already held: no text of theirs was sent"


async def test_that_no_row_was_adopted_is_an_event_too(system: System) -> None:
    system.report.emit_adopted(0)
    assert system.events() == [("Normal", "VectorsAdopted")]
