"""The API server's validation of an EmbeddingJob: every rule of crds/embeddingjobs.yaml, and the transitions of its phases."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator.lifecycle.job_status import replay_begun, settled, superseded
from embedding_operator.resources import JOBS
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import (
    FINISHED_SELECTOR,
    OPEN_SELECTOR,
    JobSpec,
    Phase,
    SourceRef,
    job_manifest,
    job_name,
    parse_job,
)
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import OutcomeKind, RowOutcome, outcome
from tests.integration.api_server.conftest import Namespace
from tests.support.job_life import ALLOWED
from tests.support.manifests import Json, a_job, merged, validation_messages, without
from tests.support.plain_requests import PlainRequests

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MOMENT = "2026-03-01T12:00:00Z"
FAILURE = RowOutcome(OutcomeKind.FAILED, "ProviderUnavailable", "the server answered 503", code="503 UNAVAILABLE")

IMMUTABLE = "spec is immutable: a job belongs to one text of one business; edit the row, and it gets a job of its own"
NO_HASH = "spec.contentHash must be a SHA-256 in 64 hexadecimal digits"
FINAL = "phases Succeeded and Superseded are final: edit the row, and it gets a job of its own"
ONLY_REPLAYED = "a DeadLettered job can only be replayed: patch its status.phase to Pending"

REFUSED: list[tuple[Json, str]] = [
    ({"sourceRef": {"name": ""}}, "spec.sourceRef.name in body should be at least 1 chars long"),
    ({"sourceRef": {"name": "s" * 61}}, "spec.sourceRef.name: Too long: may not be more than 60"),
    ({"businessId": "1" * 8193}, "spec.businessId: Too long: may not be more than 8192"),
    ({"businessId": 42}, "spec.businessId in body must be of type string"),
    ({"contentHash": ""}, NO_HASH),
    ({"contentHash": "a" * 63}, NO_HASH),
    ({"contentHash": "a" * 63 + "g"}, NO_HASH),
    ({"contentHash": "A" * 64}, NO_HASH),
    ({"contentHash": "a" * 65}, "spec.contentHash: Too long: may not be more than 64"),
    ({"fingerprint": ""}, "spec.fingerprint in body should be at least 1 chars long"),
    ({"fingerprint": "f" * 1025}, "spec.fingerprint: Too long: may not be more than 1024"),
]

ATTEMPT = {"time": MOMENT, "reason": "Timeout"}
CONDITION = {
    "type": "Succeeded",
    "status": "False",
    "reason": "InputRejected",
    "message": "",
    "lastTransitionTime": MOMENT,
}
REFUSED_STATUS: list[tuple[Json, str]] = [
    ({"phase": "Running"}, 'status.phase: Unsupported value: "Running"'),
    ({"phase": ""}, 'status.phase: Unsupported value: ""'),
    ({"attempts": -1}, "attempts in body should be greater than or equal to 0"),
    ({"attempts": 0.5}, "status.attempts: Invalid value"),
    ({"reason": "r" * 129}, "status.reason: Too long: may not be more than 128"),
    ({"message": "m" * 1025}, "status.message: Too long: may not be more than 1024"),
    *(
        ({field: "in a minute"}, f"status.{field}: Invalid value")
        for field in ("nextAttemptTime", "startTime", "completionTime")
    ),
    ({"replays": -1}, "replays in body should be greater than or equal to 0"),
    ({"history": [ATTEMPT] * 11}, "status.history: Too many: 11: must have at most 10 items"),
    ({"history": [without(ATTEMPT, "time")]}, "status.history[0].time: Required value"),
    ({"history": [without(ATTEMPT, "reason")]}, "status.history[0].reason: Required value"),
    ({"history": [ATTEMPT | {"time": "then"}]}, "status.history[0].time: Invalid value"),
    ({"history": [ATTEMPT | {"reason": "r" * 129}]}, "status.history[0].reason: Too long: may not be more than 128"),
    ({"history": [ATTEMPT | {"code": "c" * 65}]}, "status.history[0].code: Too long: may not be more than 64"),
    *(({"conditions": [without(CONDITION, field)]}, f"status.conditions[0].{field}: Required") for field in CONDITION),
    ({"conditions": [CONDITION | {"type": "Ready"}]}, 'status.conditions[0].type: Unsupported value: "Ready"'),
    ({"conditions": [CONDITION | {"status": "Maybe"}]}, 'status.conditions[0].status: Unsupported value: "Maybe"'),
    ({"conditions": [CONDITION | {"lastTransitionTime": "now"}]}, "status.conditions[0].lastTransitionTime: Invalid"),
    ({"conditions": [CONDITION, CONDITION]}, "status.conditions: Too many: 2: must have at most 1 item"),
]

MESSAGE = {Phase.SUCCEEDED: FINAL, Phase.SUPERSEDED: FINAL, Phase.DEAD_LETTERED: ONLY_REPLAYED}


async def create_job_in(admin: PlainRequests, name: str, phase: Phase = Phase.PENDING, **spec: Any) -> None:
    """Create a job, and set its phase."""
    created = await admin.create(JOBS, a_job(name, **spec))
    assert created.accepted, created.message
    patched = await admin.patch_status(JOBS, name, {"phase": phase})
    assert patched.accepted, patched.message


async def status_of(admin: PlainRequests, name: str) -> Json:
    status: Json = (await admin.get(JOBS, name)).body["status"]
    return status


async def status_after(admin: PlainRequests, name: str, happened: RowOutcome, *, attempts: int = 0) -> Json:
    """The status that the operator would write after this outcome, and after so many earlier attempts."""
    body = merged((await admin.get(JOBS, name)).body, {"status": {"attempts": attempts}})
    started = NOW - timedelta(seconds=2)
    return settled(happened, parse_job(body), policy=RetrySpec(), started=started, now=NOW, jitter=0).status


async def test_the_operators_manifest_is_accepted_unchanged(admin: PlainRequests) -> None:
    spec = JobSpec(
        source_ref=SourceRef(name="s" * 60), business_id="ü " * 512, content_hash="0" * 64, fingerprint="f" * 256
    )
    name = job_name(
        source="s" * 60, business_id=spec.business_id, content_hash=spec.content_hash, fingerprint=spec.fingerprint
    )
    manifest = job_manifest(name=name, namespace=admin.namespace, cohort="abc123-1", spec=spec)
    answer = await admin.create(JOBS, manifest, dryRun="All", fieldValidation="Strict")
    assert answer.accepted, answer.message
    assert answer.body["spec"] == manifest["spec"]
    assert answer.body["metadata"]["labels"] == manifest["metadata"]["labels"]


async def test_the_api_server_records_who_manages_spec_and_status_but_not_each_of_their_fields(
    admin: PlainRequests, name: str
) -> None:
    """Each field that is recorded is in every answer and event, and is compared in every request."""
    await create_job_in(admin, name)
    embedded = await status_after(admin, name, outcome(OutcomeKind.EMBEDDED))
    patched = await admin.patch_status(JOBS, name, embedded)
    assert patched.accepted, patched.message
    managed = [entry["fieldsV1"] for entry in (await admin.get(JOBS, name)).body["metadata"]["managedFields"]]
    assert [fields.get("f:spec", fields.get("f:status")) for fields in managed] == [{}, {}]


async def test_a_new_job_is_pending_and_has_no_attempts(admin: PlainRequests, name: str) -> None:
    answer = await admin.create(JOBS, a_job(name))
    assert answer.body["status"] == {"phase": "Pending", "attempts": 0}
    assert await status_of(admin, name) == {"phase": "Pending", "attempts": 0}


async def test_a_status_in_a_create_request_is_ignored(admin: PlainRequests, name: str) -> None:
    answer = await admin.create(JOBS, a_job(name) | {"status": {"phase": "Succeeded", "attempts": 3}})
    assert answer.body["status"] == {"phase": "Pending", "attempts": 0}


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[f"{changes}"[:40] for changes, _ in REFUSED])
async def test_an_invalid_spec_is_refused_with_the_name_of_the_field(
    admin: PlainRequests, name: str, changes: Json, message: str
) -> None:
    answer = await admin.create(JOBS, a_job(name, **changes), dryRun="All")
    assert answer.status == 422
    assert message in answer.message


@pytest.mark.parametrize(
    "path",
    ["spec", "spec.sourceRef", "spec.sourceRef.name", "spec.businessId", "spec.contentHash", "spec.fingerprint"],
)
async def test_a_required_field_that_is_missing_is_named(admin: PlainRequests, name: str, path: str) -> None:
    answer = await admin.create(JOBS, without(a_job(name), path), dryRun="All")
    assert answer.status == 422
    assert f"{path}: Required value" in answer.message


@pytest.mark.parametrize(
    "change",
    [{"sourceRef": {"name": "others"}}, {"businessId": "43"}, {"contentHash": "f" * 64}, {"fingerprint": "other@8"}],
    ids=lambda change: next(iter(change)),
)
async def test_no_field_of_a_spec_can_be_changed(admin: PlainRequests, name: str, change: Json) -> None:
    await create_job_in(admin, name)
    answer = await admin.patch(JOBS, name, {"spec": change})
    assert answer.status == 422
    assert IMMUTABLE in answer.message


async def test_labels_and_annotations_can_be_changed(admin: PlainRequests, name: str) -> None:
    await create_job_in(admin, name, Phase.SUCCEEDED)
    answer = await admin.patch(JOBS, name, {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})
    assert answer.accepted, answer.message


def test_every_message_of_the_crd_is_tested_here() -> None:
    assert validation_messages("embeddingjobs.yaml") == {IMMUTABLE, NO_HASH, FINAL, ONLY_REPLAYED}


@pytest.mark.parametrize(("invalid", "message"), REFUSED_STATUS, ids=[message for _, message in REFUSED_STATUS])
async def test_an_invalid_status_is_refused_with_the_name_of_the_field(
    admin: PlainRequests, name: str, invalid: Json, message: str
) -> None:
    await create_job_in(admin, name)
    answer = await admin.patch_status(JOBS, name, invalid)
    assert answer.status == 422
    assert message in answer.message
    assert await status_of(admin, name) == {"phase": "Pending", "attempts": 0}


async def test_every_status_field_at_its_limit_is_accepted(admin: PlainRequests, name: str) -> None:
    largest = {
        "phase": "Retrying",
        "attempts": 20,
        "reason": "r" * 128,
        "message": "ü" * 1024,
        "nextAttemptTime": MOMENT,
        "startTime": MOMENT,
        "completionTime": MOMENT,
        "replays": 0,
        "history": [{"time": MOMENT, "reason": "r" * 128, "code": "c" * 64}] * 10,
        "conditions": [CONDITION | {"status": "Unknown"}],
    }
    await create_job_in(admin, name)
    answer = await admin.patch_status(JOBS, name, largest)
    assert answer.accepted, answer.message
    assert answer.body["status"] == largest


@pytest.mark.parametrize(("before", "after"), list(itertools.product(Phase, Phase)), ids=str)
async def test_only_the_documented_transitions_of_a_phase_are_accepted(
    admin: PlainRequests, name: str, before: Phase, after: Phase
) -> None:
    await create_job_in(admin, name, before)
    answer = await admin.patch_status(JOBS, name, {"phase": after})
    if after in ALLOWED[before]:
        assert answer.accepted, answer.message
        assert answer.body["status"]["phase"] == after
    else:
        assert answer.status == 422
        assert MESSAGE[before] in answer.message
        assert (await status_of(admin, name))["phase"] == before


EMPTY_PATCHES: list[object] = [{"phase": None}, None, {}, {"phase": None, "attempts": None}]


@pytest.mark.parametrize(("phase", "empty"), list(itertools.product(Phase, EMPTY_PATCHES)), ids=str)
async def test_an_empty_patch_never_makes_a_job_unpatchable(
    admin: PlainRequests, name: str, phase: Phase, empty: object
) -> None:
    await create_job_in(admin, name, phase)
    emptied = await admin.patch_status(JOBS, name, empty)
    now = (await status_of(admin, name))["phase"]
    if emptied.accepted:
        assert now == (phase if empty == {} else Phase.PENDING)
    else:
        assert FINAL in emptied.message
        assert now == phase
    afterwards = await admin.patch_status(JOBS, name, {"phase": now, "reason": "Again"})
    assert afterwards.accepted, afterwards.message
    assert (await status_of(admin, name))["reason"] == "Again"


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SUPERSEDED])
async def test_a_final_phase_cannot_be_removed(admin: PlainRequests, name: str, phase: Phase) -> None:
    await create_job_in(admin, name, phase)
    for empty in ({"phase": None}, None):
        assert (await admin.patch_status(JOBS, name, empty)).status == 422


async def test_a_patch_of_the_job_does_not_change_its_status(admin: PlainRequests, name: str) -> None:
    await create_job_in(admin, name, Phase.SUCCEEDED)
    answer = await admin.patch(JOBS, name, {"status": {"phase": "Pending"}})
    assert answer.accepted, answer.message
    assert (await status_of(admin, name))["phase"] == "Succeeded"


@pytest.mark.parametrize("kind", OutcomeKind, ids=lambda kind: kind.value)
async def test_the_status_of_every_outcome_is_accepted_unchanged(
    admin: PlainRequests, name: str, kind: OutcomeKind
) -> None:
    await create_job_in(admin, name)
    pause_s = 15.0 if kind is OutcomeKind.ROW_LOCKED else None
    happened = RowOutcome(kind, kind.value, "any message", code="503 UNAVAILABLE", retry_after_s=pause_s)
    written = await status_after(admin, name, happened)
    answer = await admin.patch_status(JOBS, name, written)
    assert answer.accepted, answer.message
    assert answer.body["status"] == {key: value for key, value in written.items() if value is not None}


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.RETRYING, Phase.DEAD_LETTERED], ids=str)
async def test_an_open_job_and_a_dead_letter_can_be_superseded(admin: PlainRequests, name: str, phase: Phase) -> None:
    await create_job_in(admin, name, phase)
    answer = await admin.patch_status(JOBS, name, superseded(row_gone=False, now=NOW))
    assert answer.accepted, answer.message
    assert answer.body["status"]["phase"] == "Superseded"


async def test_the_status_of_exhausted_retries_is_accepted_unchanged(admin: PlainRequests, name: str) -> None:
    await create_job_in(admin, name)
    written = await status_after(admin, name, FAILURE, attempts=5)
    assert written["reason"] == "RetriesExhausted"
    answer = await admin.patch_status(JOBS, name, written)
    assert answer.accepted, answer.message
    assert answer.body["status"] == {key: value for key, value in written.items() if value is not None}


async def test_a_replay_removes_the_previous_result_and_keeps_the_history(admin: PlainRequests, name: str) -> None:
    await create_job_in(admin, name)
    await admin.patch_status(JOBS, name, await status_after(admin, name, FAILURE, attempts=5))
    await admin.patch_status(JOBS, name, {"phase": "Pending"})
    begun = replay_begun(parse_job((await admin.get(JOBS, name)).body), NOW).status
    answer = await admin.patch_status(JOBS, name, begun)
    assert answer.accepted, answer.message
    now = answer.body["status"]
    assert (now["phase"], now["attempts"], now["replays"]) == ("Pending", 0, 1)
    assert not {"reason", "message", "nextAttemptTime", "completionTime"} & set(now)
    assert len(now["history"]) == 1


async def test_the_documented_command_replays_a_job(admin: PlainRequests, namespace: Namespace, name: str) -> None:
    await create_job_in(admin, name, Phase.DEAD_LETTERED)
    replay = '{"status":{"phase":"Pending"}}'
    namespace.kubectl.run("patch", "embeddingjob", name, "--subresource=status", "--type=merge", "-p", replay)
    assert (await status_of(admin, name))["phase"] == "Pending"


async def test_kubectl_waits_for_the_condition(admin: PlainRequests, namespace: Namespace, name: str) -> None:
    await create_job_in(admin, name)
    await admin.patch_status(JOBS, name, await status_after(admin, name, outcome(OutcomeKind.EMBEDDED)))
    printed = namespace.kubectl.run("wait", "--for=condition=Succeeded", f"embeddingjob/{name}", "--timeout=40s")
    assert printed == f"embeddingjob.embeddings.yellowbook.dev/{name} condition met\n"


async def test_kubectl_prints_the_documented_columns(admin: PlainRequests, namespace: Namespace, name: str) -> None:
    in_an_hour = timestamp(datetime.now(UTC) + timedelta(hours=1))
    await create_job_in(admin, name)
    retrying = {"phase": "Retrying", "attempts": 2, "reason": "Timeout", "nextAttemptTime": in_an_hour}
    await admin.patch_status(JOBS, name, retrying)
    header, row = (re.split(r"\s{2,}", line) for line in namespace.kubectl.run("get", "ej", name).splitlines())
    assert header == ["NAME", "SOURCE", "BUSINESS", "PHASE", "ATTEMPTS", "REASON", "NEXT ATTEMPT", "AGE"]
    assert row[:-1] == [name, "businesses", "42", "Retrying", "2", "Timeout", in_an_hour]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("spec.businessId=7", {"of-seven", "of-seven-too"}),
        ("spec.businessId!=7,spec.sourceRef.name=fields-a", {"of-eight"}),
        ("spec.sourceRef.name=fields-b", {"of-seven-too"}),
        ("status.phase=DeadLettered,spec.businessId=8", {"of-eight"}),
        ("metadata.name=of-eight", {"of-eight"}),
    ],
)
async def test_jobs_are_selected_by_their_fields(admin: PlainRequests, selector: str, expected: set[str]) -> None:
    for name, business, source in (("of-seven", "7", "a"), ("of-eight", "8", "a"), ("of-seven-too", "7", "b")):
        await admin.create(JOBS, a_job(name, businessId=business, sourceRef={"name": f"fields-{source}"}))
    await admin.patch_status(JOBS, "of-eight", {"phase": "DeadLettered"})
    assert await admin.names(JOBS, fieldSelector=selector) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (OPEN_SELECTOR, {Phase.PENDING, Phase.RETRYING}),
        (FINISHED_SELECTOR, {Phase.SUCCEEDED, Phase.SUPERSEDED}),
    ],
    ids=["open", "finished"],
)
async def test_the_operators_selectors_match_only_their_phases(
    admin: PlainRequests, name: str, selector: str, expected: set[Phase]
) -> None:
    for phase in Phase:
        await create_job_in(admin, f"{name}-{phase.lower()}", phase, sourceRef={"name": name})
    found = await admin.names(JOBS, fieldSelector=f"{selector},spec.sourceRef.name={name}")
    assert found == {f"{name}-{phase.lower()}" for phase in expected}


async def test_a_new_job_is_selected_as_open_before_its_status_is_written(admin: PlainRequests, name: str) -> None:
    await admin.create(JOBS, a_job(name, sourceRef={"name": name}))
    assert await admin.names(JOBS, fieldSelector=f"{OPEN_SELECTOR},spec.sourceRef.name={name}") == {name}
    assert await admin.names(JOBS, fieldSelector=f"status.phase=Pending,spec.sourceRef.name={name}") == {name}
