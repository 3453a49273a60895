"""What kopf learns of a job: it is derived from the job's status, and nothing is stored."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import kopf
import pytest
from kopf._core.actions import application

from embedding_operator.handlers.kopf_storage import NoDiffBase, StatusIsTheProgress
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import TOUCHED_ANNOTATION, Phase, parse_job
from embedding_operator.resources.embedding_source import parse_source
from tests.support.fake_clock import FakeClock
from tests.support.jobs import Register, job_body
from tests.support.kopf_events import KopfSide, progress_of
from tests.support.manifests import Json, a_job, a_source

KEY = kopf.HandlerId("embed")
MOMENT = "2026-03-01T12:00:00.000Z"


def body(**status: Any) -> kopf.Body:
    return kopf.Body(cast(kopf.RawBody, a_job("any") | ({"status": status} if status else {})))


class Progress:
    """The source shops, whose pauses are 100 s at most, and the job of a row that backs off."""

    def __init__(self) -> None:
        self.register = Register()
        catalog = SourceCatalog()
        catalog.put(parse_source(a_source("shops", retry={"maxSeconds": 100})))
        self.storage = StatusIsTheProgress(self.register.table, catalog, clock=self.register.clock)

    def delayed_until(self, next_attempt: str) -> str | None:
        shown = kopf.Body(cast(kopf.RawBody, job_body("1", Phase.RETRYING, nextAttemptTime=next_attempt)))
        record = self.storage.fetch(key=KEY, body=shown)
        return None if record is None else record["delayed"]


def test_a_locked_row_waits_for_its_own_pause_where_the_policys_are_shorter() -> None:
    catalog, register = SourceCatalog(), Register()
    catalog.put(parse_source(a_source("shops", retry={"maxSeconds": 1, "initialSeconds": 1})))
    body = job_body("1", Phase.RETRYING, nextAttemptTime="2026-03-01T12:00:45Z", reason="RowLocked")
    shown = kopf.Body(cast(kopf.RawBody, body))
    record = StatusIsTheProgress(register.table, catalog, clock=register.clock).fetch(key=KEY, body=shown)
    assert record is not None
    assert record["delayed"] == "2026-03-01T12:00:45.000Z"


def storage() -> StatusIsTheProgress:
    return progress_of(longest_pause_s=100, clock=FakeClock())


def test_a_retrying_job_runs_when_its_time_has_come() -> None:
    assert Progress().delayed_until("2026-03-01T12:01:00Z") == "2026-03-01T12:01:00.000Z"


def test_a_delayed_handler_has_neither_succeeded_nor_failed_and_no_retries_of_kopfs_own() -> None:
    shown = kopf.Body(cast(kopf.RawBody, job_body("1", Phase.RETRYING, nextAttemptTime="2026-03-01T12:01:00Z")))
    record = storage().fetch(key=KEY, body=shown)
    assert record is not None
    assert (record["retries"], record["success"], record["failure"]) == (0, False, False)


@pytest.mark.parametrize(
    ("next_attempt", "expected"),
    [
        ("2026-03-01T12:01:50Z", "2026-03-01T12:01:50.000Z"),
        ("2026-03-01T12:01:51Z", "2026-03-01T12:01:50.000Z"),
        ("2026-03-01T14:00:00Z", "2026-03-01T12:01:50.000Z"),
        ("2026-03-01T14:00:00+14:00", None),
        ("9999-12-31T23:59:59-12:00", "2026-03-01T12:01:50.000Z"),
        ("0001-01-01T00:00:00+14:00", None),
        ("2026-03-01T12:01:00", "2026-03-01T12:01:00.000Z"),
        ("2026-03-01T11:59:59Z", None),
        ("2016-12-31T23:59:60Z", None),
        ("soon", None),
    ],
)
def test_no_job_waits_longer_than_the_longest_pause_whatever_its_status_says(
    next_attempt: str, expected: str | None
) -> None:
    assert Progress().delayed_until(next_attempt) == expected


async def test_the_longest_pause_begins_when_the_job_is_first_seen_to_back_off() -> None:
    progress = Progress()
    progress.register.table.observe(parse_job(job_body("1", Phase.RETRYING, nextAttemptTime="2026-03-01T14:00:00Z")))
    await progress.register.clock.advance(60)
    assert progress.delayed_until("2026-03-01T14:00:00Z") == "2026-03-01T12:01:50.000Z"
    await progress.register.clock.advance(51)
    assert progress.delayed_until("2026-03-01T14:00:00Z") is None


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"phase": "Pending"},
        {"phase": "Pending", "nextAttemptTime": MOMENT},
        {"phase": "Retrying"},
        {"phase": "Retrying", "nextAttemptTime": None},
        {"phase": "Succeeded", "nextAttemptTime": MOMENT},
    ],
    ids=str,
)
def test_every_other_job_runs_at_once(status: dict[str, Any]) -> None:
    assert storage().fetch(key=KEY, body=body(**status)) is None


def test_a_touch_changes_an_annotation_and_leaves_the_time_in_the_status() -> None:
    patch = kopf.Patch()
    storage().touch(body=body(phase="Retrying", nextAttemptTime=MOMENT), patch=patch, value="any")
    assert dict(patch) == {"metadata": {"annotations": {TOUCHED_ANNOTATION: "any"}}}


def test_the_end_of_a_touch_patches_nothing() -> None:
    patch = kopf.Patch()
    storage().touch(body=body(phase="Retrying"), patch=patch, value=None)
    assert not patch


def test_nothing_that_kopf_stores_becomes_a_patch() -> None:
    patch = kopf.Patch()
    progress, diff_base = storage(), NoDiffBase()
    progress.store(key=KEY, record=kopf.ProgressRecord(success=True), body=body(), patch=patch)
    progress.purge(key=KEY, body=body(), patch=patch)
    progress.flush()
    diff_base.store(body=body(), patch=patch, essence=diff_base.build(body=body()))
    assert not patch


def test_every_event_of_a_job_is_a_creation_to_kopf() -> None:
    """It has no last state to compare with; and no field of a job is a part of what would be compared."""
    assert NoDiffBase().fetch(body=body(phase="Retrying")) is None
    assert NoDiffBase().build(body=body(phase="Retrying")) == {}


def test_the_essence_of_a_job_is_left_as_it_is() -> None:
    essence = kopf.BodyEssence(spec={"businessId": "1"})
    assert storage().clear(essence=essence) == essence


class Paused:
    """A job that backs off, as kopf handles it: kopf sleeps for a hundredth of a second in place of ten minutes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(application, "WAITING_KEEPALIVE_INTERVAL", 0.01)
        self.runs = 0
        registry = kopf.OperatorRegistry()

        @kopf.on.create("embeddingjobs", registry=registry, id="embed")
        async def embed(**_: Any) -> None:
            self.runs += 1

        self.kopf = KopfSide(registry, monkeypatch)

    async def event(self, pause: timedelta) -> Json:
        """An event of the job while its pause goes on for so long. Returns the job afterwards."""
        until = timestamp(datetime.now(UTC) + pause)
        return await self.kopf.event(job_body("1", Phase.RETRYING, attempts=1, nextAttemptTime=until))


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> Paused:
    return Paused(monkeypatch)


async def test_a_pause_longer_than_kopf_sleeps_goes_on_after_its_touch(paused: Paused) -> None:
    job = await paused.event(timedelta(hours=1))
    until = job["status"]["nextAttemptTime"]
    touched = job["metadata"]["annotations"][TOUCHED_ANNOTATION]
    job = await paused.kopf.event(job)
    assert job["status"]["nextAttemptTime"] == until
    assert job["metadata"]["annotations"][TOUCHED_ANNOTATION] > touched
    assert paused.runs == 0


async def test_kopf_writes_nothing_but_the_touch(paused: Paused) -> None:
    await paused.event(timedelta(hours=1))
    assert [sorted(patch) for patch in paused.kopf.patches] == [["metadata"]]
    assert list(paused.kopf.patches[0]["metadata"]["annotations"]) == [TOUCHED_ANNOTATION]


async def test_a_job_runs_when_its_pause_is_over(paused: Paused) -> None:
    await paused.event(timedelta(seconds=-1))
    assert (paused.runs, paused.kopf.patches) == (1, [])
