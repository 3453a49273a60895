"""What kopf is told of a job: derived from its status, and nothing is stored."""

from typing import Any, cast

import kopf
import pytest

from embedding_operator.handlers.kopf_storage import NoDiffBase, StatusIsTheProgress
from tests.support.manifests import a_job

KEY = kopf.HandlerId("embed")
MOMENT = "2026-03-01T12:00:00.000Z"


def body(**status: Any) -> kopf.Body:
    return kopf.Body(cast(kopf.RawBody, a_job("any") | ({"status": status} if status else {})))


def delayed_until(**status: Any) -> Any:
    record = StatusIsTheProgress().fetch(key=KEY, body=body(**status))
    return None if record is None else record["delayed"]


def test_a_retrying_job_runs_when_its_time_has_come() -> None:
    assert delayed_until(phase="Retrying", nextAttemptTime=MOMENT) == MOMENT


def test_a_delayed_handler_has_neither_succeeded_nor_failed_nor_retries_of_kopfs_own() -> None:
    record = StatusIsTheProgress().fetch(key=KEY, body=body(phase="Retrying", nextAttemptTime=MOMENT))
    assert record is not None
    assert (record["retries"], record["success"], record["failure"]) == (0, False, False)


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
    assert StatusIsTheProgress().fetch(key=KEY, body=body(**status)) is None


def test_a_touch_takes_the_time_away_that_has_come() -> None:
    patch = kopf.Patch()
    StatusIsTheProgress().touch(body=body(phase="Retrying", nextAttemptTime=MOMENT), patch=patch, value="any")
    assert dict(patch) == {"status": {"nextAttemptTime": None}}


def test_the_end_of_a_touch_patches_nothing() -> None:
    patch = kopf.Patch()
    StatusIsTheProgress().touch(body=body(phase="Retrying"), patch=patch, value=None)
    assert not patch


def test_nothing_that_kopf_stores_becomes_a_patch() -> None:
    patch = kopf.Patch()
    progress, diff_base = StatusIsTheProgress(), NoDiffBase()
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
    assert StatusIsTheProgress().clear(essence=essence) == essence
