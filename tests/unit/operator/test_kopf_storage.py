"""kopf stores nothing: not in memory that outlives an event, and not in the objects."""

from typing import Any, cast

import kopf

from embedding_operator.handlers.kopf_storage import NoDiffBase, NoProgress
from tests.support.manifests import Json, a_job

KEY = kopf.HandlerId("embed")


def body(**status: Any) -> kopf.Body:
    shown: Json = a_job("any") | {"status": status}
    return kopf.Body(cast(kopf.RawBody, shown))


def test_nothing_that_kopf_stores_becomes_a_patch() -> None:
    patch = kopf.Patch()
    progress, diff_base = NoProgress(), NoDiffBase()
    progress.store(key=KEY, record=kopf.ProgressRecord(success=True), body=body(), patch=patch)
    progress.purge(key=KEY, body=body(), patch=patch)
    progress.touch(body=body(), patch=patch, value="any")
    progress.flush()
    diff_base.store(body=body(), patch=patch, essence=diff_base.build(body=body()))
    assert not patch


def test_kopf_finds_nothing_of_an_earlier_event() -> None:
    assert NoProgress().fetch(key=KEY, body=body(phase="Retrying")) is None
    assert NoDiffBase().fetch(body=body(phase="Retrying")) is None


def test_no_field_of_an_object_is_copied_to_be_compared() -> None:
    essence = NoDiffBase().build(body=body(phase="Retrying"))
    assert essence == {}
    assert NoProgress().clear(essence=essence) is essence
