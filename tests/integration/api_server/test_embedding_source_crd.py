"""The API server's validation of an EmbeddingSource: every rule of crds/embeddingsources.yaml, and its message."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog
from embedding_operator.lifecycle.source_facts import Pending, SourceFacts
from embedding_operator.lifecycle.source_status import status
from embedding_operator.resources import SOURCES
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.limits import Limits
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts, Used
from embedding_worker.source import Model
from tests.integration.api_server.conftest import Namespace
from tests.support.manifests import Json, a_source, example_source, merged, validation_messages, without
from tests.support.plain_requests import PlainRequests

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

FORM = "spec.table must be written schema.table, such as public.businesses"
EXPRESSION = "spec.text must be an SQL expression over the row, such as concat_ws(' ', name, city)"
MAX_BELOW_INITIAL = "spec.retry.maxSeconds must be at least spec.retry.initialSeconds"
BOTH_LIMITS = (
    "spec.maxTextsPerDay and spec.limits.textsPerDay are both set: remove spec.maxTextsPerDay, which is deprecated"
)
ADOPT_WITHOUT_TRIGGERS = (
    "spec.existingVectors Adopt needs spec.changeDetection Trigger: without triggers, a row that is edited before the first "
    "audit reads it would keep the vector of its old text"
)
TARGET = (
    "spec.freshnessTarget must be a duration in hours, minutes and seconds, and at least 10s, such as 15m, 1h30m or 24h"
)
ENDPOINT = (
    "spec.model.endpoint must be an address that begins with http:// or https://, without a user, a query and a fragment, such "
    "as http://tei.search.svc:8080/v1"
)
SAME = (
    "spec.model.sameVectorsAs must be a fingerprint, as status.fingerprint shows it, such as gemini-embedding-001@768"
)
SAME_FOR_ANOTHER = (
    "spec.model.sameVectorsAs was declared for another provider, name, endpoint or taskType: remove it in a change of its own, "
    "and declare it again if this model gives the same vectors too"
)
LONG_NAME = "metadata.name may have at most 60 characters: it is part of the names and labels of its jobs"
IMMUTABLE = {
    "table": ("public.others", "spec.table is immutable: declare another EmbeddingSource for another table"),
    "idColumn": ("other_id", "spec.idColumn is immutable: declare another EmbeddingSource"),
    "embeddingColumn": (
        "embedding_2",
        "spec.embeddingColumn is immutable: declare another EmbeddingSource for another column, "
        "and switch your readers over",
    ),
}

REFUSED: list[tuple[Json, str]] = [
    ({"table": ""}, "spec.table in body should be at least 1 chars long"),
    ({"table": "p." + "t" * 126}, "spec.table: Too long: may not be more than 127"),
    ({"table": "businesses"}, FORM),
    ({"table": "database.public.businesses"}, FORM),
    ({"table": ".businesses"}, FORM),
    ({"table": "public."}, FORM),
    ({"idColumn": ""}, "spec.idColumn in body should be at least 1 chars long"),
    ({"idColumn": "c" * 64}, "spec.idColumn: Too long: may not be more than 63"),
    ({"text": ""}, "spec.text in body should be at least 1 chars long"),
    ({"text": "n" * 4097}, "spec.text: Too long: may not be more than 4096"),
    ({"text": " \t\r\n"}, EXPRESSION),
    ({"embeddingColumn": ""}, "spec.embeddingColumn in body should be at least 1 chars long"),
    ({"embeddingColumn": "c" * 64}, "spec.embeddingColumn: Too long: may not be more than 63"),
    *(
        ({"model": {"endpoint": it}}, ENDPOINT)
        for it in (
            "",
            "tei:8080/v1",
            "ftp://tei/v1",
            "https://",
            "https://u:p@tei/v1",
            "https://tei/v1?a=b",
            "https://tei/v1#a",
        )
    ),
    ({"model": {"endpoint": "http://tei/" + "v" * 502}}, "spec.model.endpoint: Too long: may not be more than 512"),
    ({"model": {"apiKeySecretRef": {"name": "a"}}}, "spec.model.apiKeySecretRef.key: Required value"),
    (
        {"model": {"apiKeySecretRef": {"name": "", "key": "k"}}},
        "apiKeySecretRef.name in body should be at least 1 chars",
    ),
    *(({"model": {"sameVectorsAs": it}}, SAME) for it in ("", "768", "m@", "m@x", "m@768#1a2b3c4d", "a model@768")),
    ({"model": {"queryPrefix": "q" * 513}}, "spec.model.queryPrefix: Too long: may not be more than 512"),
    ({"model": {"queryTaskType": "RETRIEVAL_DOCUMENT"}}, "spec.model.queryTaskType: Unsupported value"),
    ({"model": {"provider": "Acme AI"}}, 'spec.model.provider: Invalid value: "Acme AI"'),
    ({"model": {"provider": "a" * 64}}, "spec.model.provider: Too long: may not be more than 63"),
    ({"model": {"name": ""}}, "spec.model.name in body should be at least 1 chars long"),
    ({"model": {"name": "m" * 129}}, "spec.model.name: Too long: may not be more than 128"),
    ({"model": {"dimensions": 0}}, "spec.model.dimensions in body should be greater than or equal to 1"),
    ({"model": {"dimensions": 16_001}}, "spec.model.dimensions in body should be less than or equal to 16000"),
    ({"model": {"dimensions": 7.5}}, "spec.model.dimensions in body must be of type integer"),
    ({"model": {"taskType": "RETRIEVAL_QUERY"}}, 'spec.model.taskType: Unsupported value: "RETRIEVAL_QUERY"'),
    ({"model": {"tooLong": "Split"}}, 'spec.model.tooLong: Unsupported value: "Split"'),
    ({"changeDetection": "Poll"}, 'spec.changeDetection: Unsupported value: "Poll"'),
    ({"existingVectors": "Keep"}, 'spec.existingVectors: Unsupported value: "Keep"'),
    ({"existingVectors": "Adopt", "changeDetection": "Audit"}, ADOPT_WITHOUT_TRIGGERS),
    ({"retry": {"maxAttempts": 0}}, "spec.retry.maxAttempts in body should be greater than or equal to 1"),
    ({"retry": {"maxAttempts": 21}}, "spec.retry.maxAttempts in body should be less than or equal to 20"),
    ({"retry": {"initialSeconds": 0}}, "spec.retry.initialSeconds in body should be greater than or equal to 1"),
    ({"retry": {"initialSeconds": 3_601}}, "spec.retry.initialSeconds in body should be less than or equal to 3600"),
    ({"retry": {"factor": 0}}, "spec.retry.factor in body should be greater than or equal to 1"),
    ({"retry": {"factor": 11}}, "spec.retry.factor in body should be less than or equal to 10"),
    ({"retry": {"maxSeconds": 0}}, "spec.retry.maxSeconds in body should be greater than or equal to 1"),
    ({"retry": {"maxSeconds": 86_401}}, "spec.retry.maxSeconds in body should be less than or equal to 86400"),
    ({"retry": {"initialSeconds": 5, "maxSeconds": 4}}, MAX_BELOW_INITIAL),
    ({"retry": {"initialSeconds": 33}}, MAX_BELOW_INITIAL),
    ({"backfill": {"mode": "Pages"}}, 'spec.backfill.mode: Unsupported value: "Pages"'),
    ({"backfill": {"threshold": 0}}, "spec.backfill.threshold in body should be greater than or equal to 1"),
    ({"backfill": {"threshold": 1_000_001}}, "spec.backfill.threshold in body should be less than or equal to 1000000"),
    ({"backfill": {"concurrency": 0}}, "spec.backfill.concurrency in body should be greater than or equal to 1"),
    ({"backfill": {"concurrency": 65}}, "spec.backfill.concurrency in body should be less than or equal to 64"),
    ({"backfill": {"workers": -1}}, "spec.backfill.workers in body should be greater than or equal to 0"),
    ({"backfill": {"workers": 1_001}}, "spec.backfill.workers in body should be less than or equal to 1000"),
    ({"maxTextsPerDay": 0}, "spec.maxTextsPerDay in body should be greater than or equal to 1"),
    ({"maxTextsPerDay": 5, "limits": {"textsPerDay": 6}}, BOTH_LIMITS),
    ({"limits": {"textsPerDay": 0}}, "spec.limits.textsPerDay in body should be greater than or equal to 1"),
    ({"limits": {"tokensPerDay": 0}}, "spec.limits.tokensPerDay in body should be greater than or equal to 1"),
    (
        {"limits": {"estimatedCostPerMonth": 0}},
        "spec.limits.estimatedCostPerMonth in body should be greater than 0",
    ),
    ({"limits": {"estimatedCostPerMonth": "20"}}, "spec.limits.estimatedCostPerMonth in body must be of type number"),
    (
        {"model": {"pricePerMillionTokens": -0.1}},
        "spec.model.pricePerMillionTokens in body should be greater than or equal",
    ),
    *(
        ({"freshnessTarget": it}, TARGET)
        for it in ("", "15", "1d", "15 m", "-15m", "1.5h", "500ms", "9s", "0m", "123456s")
    ),
    ({"freshnessTarget": 900}, "spec.freshnessTarget in body must be of type string"),
    ({"freshnessTarget": "1" * 18 + "s"}, "spec.freshnessTarget: Too long: may not be more than 18"),
    ({"suspend": "yes"}, "spec.suspend in body must be of type boolean"),
    ({"approvedFingerprint": "f" * 1025}, "spec.approvedFingerprint: Too long: may not be more than 1024"),
]

CONDITION = {
    "type": "Ready",
    "status": "True",
    "reason": "Sweeping",
    "message": "",
    "lastTransitionTime": "2026-03-01T12:00:00Z",
}
REFUSED_STATUS: list[tuple[Json, str]] = [
    ({"observedGeneration": "1"}, "status.observedGeneration: Invalid value"),
    ({"rows": {"total": "1"}}, "status.rows.total: Invalid value"),
    ({"rows": {"freshPercent": 99.5}}, "status.rows.freshPercent: Invalid value"),
    ({"rows": {"oldestDueSince": "yesterday"}}, "status.rows.oldestDueSince: Invalid value"),
    ({"jobs": {"open": 0.5}}, "status.jobs.open: Invalid value"),
    ({"backfill": {"done": "1"}}, "status.backfill.done: Invalid value"),
    ({"backfill": {"rowsPerSecond": 4.5}}, "status.backfill.rowsPerSecond: Invalid value"),
    ({"backfill": {"estimatedCompletion": "soon"}}, "status.backfill.estimatedCompletion: Invalid value"),
    ({"today": {"texts": "1"}}, "status.today.texts: Invalid value"),
    ({"reembed": {"rows": "1"}}, "status.reembed.rows: Invalid value"),
    *(({"conditions": [without(CONDITION, field)]}, f"status.conditions[0].{field}: Required") for field in CONDITION),
    ({"conditions": [CONDITION | {"status": "Maybe"}]}, 'status.conditions[0].status: Unsupported value: "Maybe"'),
    ({"conditions": [CONDITION | {"lastTransitionTime": "now"}]}, "status.conditions[0].lastTransitionTime: Invalid"),
    ({"conditions": [CONDITION, CONDITION]}, "status.conditions[1]: Duplicate value"),
]


async def test_the_documented_example_is_accepted(admin: PlainRequests) -> None:
    answer = await admin.create(SOURCES, example_source(), dryRun="All")
    assert answer.accepted, answer.message


async def test_an_omitted_field_gets_its_documented_default(admin: PlainRequests, name: str) -> None:
    answer = await admin.create(SOURCES, a_source(name), dryRun="All")
    spec = answer.body["spec"]
    assert spec.pop("model")["tooLong"] == "Truncate"
    assert {key: value for key, value in spec.items() if key not in ("table", "idColumn", "text")} == {
        "embeddingColumn": "embedding",
        "changeDetection": "Trigger",
        "existingVectors": "Replace",
        "retry": {"maxAttempts": 6, "initialSeconds": 2, "factor": 2, "maxSeconds": 32},
        "backfill": {"mode": "Jobs", "threshold": 10_000, "concurrency": 4, "workers": 0},
        "suspend": False,
        "approvedFingerprint": "",
    }


async def test_a_retry_with_one_field_gets_the_other_defaults(admin: PlainRequests, name: str) -> None:
    answer = await admin.create(SOURCES, a_source(name, retry={"maxAttempts": 3}), dryRun="All")
    assert answer.body["spec"]["retry"] == {"maxAttempts": 3, "initialSeconds": 2, "factor": 2, "maxSeconds": 32}


async def test_a_backfill_with_one_field_gets_the_other_defaults(admin: PlainRequests, name: str) -> None:
    answer = await admin.create(SOURCES, a_source(name, backfill={"mode": "Auto"}), dryRun="All")
    assert answer.body["spec"]["backfill"] == {"mode": "Auto", "threshold": 10_000, "concurrency": 4, "workers": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {
            "table": "p.t",
            "idColumn": "i",
            "text": "t",
            "embeddingColumn": "e",
            "model": {"provider": "a", "name": "m", "dimensions": 1},
            "retry": {"maxAttempts": 1, "initialSeconds": 1, "factor": 1, "maxSeconds": 1},
            "backfill": {"threshold": 1, "concurrency": 1, "workers": 0},
            "limits": {"textsPerDay": 1, "tokensPerDay": 1, "estimatedCostPerMonth": 0.01},
            "freshnessTarget": "10s",
        },
        {
            "table": "ü" * 63 + "." + "ü" * 63,
            "idColumn": "ü" * 63,
            "text": "ü" * 4096,
            "embeddingColumn": "ü" * 63,
            "model": {"provider": "a" * 63, "name": "ü" * 128, "dimensions": 16_000},
            "retry": {"maxAttempts": 20, "initialSeconds": 3_600, "factor": 10, "maxSeconds": 86_400},
            "backfill": {"threshold": 1_000_000, "concurrency": 64, "workers": 1_000},
            "limits": {"textsPerDay": 2**62, "tokensPerDay": 2**62, "estimatedCostPerMonth": 1e9},
            "freshnessTarget": "99999h99999m99999s",
            "approvedFingerprint": "ü" * 256,
        },
    ],
    ids=["the smallest", "the largest"],
)
async def test_every_value_at_its_limit_is_accepted(admin: PlainRequests, name: str, changes: Json) -> None:
    answer = await admin.create(SOURCES, a_source(name, **changes), dryRun="All")
    assert answer.accepted, answer.message


@pytest.mark.parametrize(
    "changes",
    [
        *({"model": {"taskType": kind}} for kind in ("RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY")),
        *({"model": {"taskType": kind}} for kind in ("CLASSIFICATION", "CLUSTERING")),
        {"model": {"tooLong": "Truncate"}},
        {"model": {"tooLong": "Refuse"}},
        {"backfill": {"mode": "Jobs"}},
        {"backfill": {"mode": "Auto"}},
        {"changeDetection": "Trigger"},
        {"changeDetection": "Audit"},
        {"existingVectors": "Replace"},
        {"existingVectors": "Adopt"},
    ],
    ids=str,
)
async def test_every_documented_value_of_an_enum_is_accepted(admin: PlainRequests, name: str, changes: Json) -> None:
    answer = await admin.create(SOURCES, a_source(name, **changes), dryRun="All")
    assert answer.accepted, answer.message


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
async def test_an_invalid_spec_is_refused_with_the_name_of_the_field(
    admin: PlainRequests, name: str, changes: Json, message: str
) -> None:
    answer = await admin.create(SOURCES, a_source(name, **changes), dryRun="All")
    assert answer.status == 422
    assert message in answer.message


@pytest.mark.parametrize(
    "path",
    [
        "spec",
        "spec.table",
        "spec.idColumn",
        "spec.text",
        "spec.model",
        "spec.model.provider",
        "spec.model.name",
        "spec.model.dimensions",
    ],
)
async def test_a_required_field_that_is_missing_is_named(admin: PlainRequests, name: str, path: str) -> None:
    answer = await admin.create(SOURCES, without(a_source(name), path), dryRun="All")
    assert answer.status == 422
    assert f"{path}: Required value" in answer.message


async def test_a_name_has_at_most_sixty_characters(admin: PlainRequests) -> None:
    assert (await admin.create(SOURCES, a_source("n" * 60), dryRun="All")).accepted
    answer = await admin.create(SOURCES, a_source("n" * 61), dryRun="All")
    assert answer.status == 422
    assert LONG_NAME in answer.message


@pytest.mark.parametrize("field", IMMUTABLE)
async def test_an_immutable_field_cannot_be_changed(admin: PlainRequests, name: str, field: str) -> None:
    other, message = IMMUTABLE[field]
    await admin.create(SOURCES, a_source(name))
    answer = await admin.patch(SOURCES, name, {"spec": {field: other}})
    assert answer.status == 422
    assert message in answer.message


async def test_an_immutable_field_cannot_be_removed(admin: PlainRequests, name: str) -> None:
    _, message = IMMUTABLE["embeddingColumn"]
    await admin.create(SOURCES, a_source(name, embeddingColumn="other_embedding"))
    answer = await admin.patch(SOURCES, name, {"spec": {"embeddingColumn": None}})
    assert answer.status == 422
    assert message in answer.message


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "concat_ws(' ', name, city)"},
        {"model": {"provider": "gemini", "name": "another", "dimensions": 16, "taskType": "CLUSTERING"}},
        {"model": {"tooLong": "Refuse"}},
        {"changeDetection": "Audit"},
        {"retry": {"maxAttempts": 1}},
        {"backfill": {"mode": "Auto", "workers": 3}},
        {"maxTextsPerDay": 5},
        {"limits": {"textsPerDay": 5, "estimatedCostPerMonth": 20}},
        {"model": {"pricePerMillionTokens": 0.15}},
        {"freshnessTarget": "1h30m"},
        {"suspend": True},
        {"approvedFingerprint": "another@16"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_every_other_field_can_be_changed(admin: PlainRequests, name: str, changes: Json) -> None:
    await admin.create(SOURCES, a_source(name))
    answer = await admin.patch(SOURCES, name, {"spec": changes})
    assert answer.accepted, answer.message
    assert answer.body["spec"] == merged(answer.body["spec"], changes)


async def test_a_source_of_an_earlier_version_keeps_its_limit_and_its_default_gives_way_to_a_new_one(
    admin: PlainRequests, name: str
) -> None:
    """An earlier version has stored 1000000 in each source that did not say anything else."""
    await admin.create(SOURCES, a_source(name, maxTextsPerDay=1_000_000))
    suspended = await admin.patch(SOURCES, name, {"spec": {"suspend": True}})
    assert parse_source(suspended.body).spec.limits_in_force == Limits(1_000_000)
    answer = await admin.patch(SOURCES, name, {"spec": {"limits": {"textsPerDay": 5_000_000}}})
    assert answer.accepted, answer.message
    assert parse_source(answer.body).spec.limits_in_force == Limits(5_000_000)


async def test_a_limit_that_was_set_for_an_earlier_version_has_to_be_moved(admin: PlainRequests, name: str) -> None:
    created = await admin.create(SOURCES, a_source(name, maxTextsPerDay=7))
    assert parse_source(created.body).spec.limits_in_force == Limits(7)
    both = await admin.patch(SOURCES, name, {"spec": {"limits": {"textsPerDay": 8}}})
    assert BOTH_LIMITS in both.message
    moved = await admin.patch(SOURCES, name, {"spec": {"limits": {"textsPerDay": 8}, "maxTextsPerDay": None}})
    assert parse_source(moved.body).spec.limits_in_force == Limits(8)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"provider": "local"},
        {"endpoint": "http://tei/v2"},
        {"endpoint": None},
        {"taskType": "CLUSTERING"},
    ],
)
async def test_that_vectors_are_the_same_is_declared_for_one_model_and_does_not_hold_for_the_next(
    admin: PlainRequests, name: str, changed: Json
) -> None:
    claim = {"sameVectorsAs": "bge@1024@old/v1"}
    model = {"provider": "openai", "name": "bge", "dimensions": 1024, "endpoint": "http://tei/v1"}
    await admin.create(SOURCES, a_source(name, model=model | claim))
    other = await admin.patch(SOURCES, name, {"spec": {"model": changed}})
    assert SAME_FOR_ANOTHER in other.message
    assert (await admin.patch(SOURCES, name, {"spec": {"model": {"queryPrefix": "query: "}}})).accepted
    assert (await admin.patch(SOURCES, name, {"spec": {"model": changed | {"sameVectorsAs": None}}})).accepted
    assert (await admin.patch(SOURCES, name, {"spec": {"model": claim}})).accepted


def test_every_message_of_the_crd_is_tested_here() -> None:
    always = {
        FORM,
        EXPRESSION,
        MAX_BELOW_INITIAL,
        BOTH_LIMITS,
        ADOPT_WITHOUT_TRIGGERS,
        LONG_NAME,
        TARGET,
        ENDPOINT,
        SAME,
        SAME_FOR_ANOTHER,
    }
    tested = always | {message for _, message in IMMUTABLE.values()}
    assert validation_messages("embeddingsources.yaml") == tested


@pytest.mark.parametrize(("invalid", "message"), REFUSED_STATUS, ids=[message for _, message in REFUSED_STATUS])
async def test_an_invalid_status_is_refused_with_the_name_of_the_field(
    admin: PlainRequests, name: str, invalid: Json, message: str
) -> None:
    await admin.create(SOURCES, a_source(name))
    answer = await admin.patch_status(SOURCES, name, invalid)
    assert answer.status == 422
    assert message in answer.message


async def test_a_patch_of_the_status_does_not_change_the_generation(admin: PlainRequests, name: str) -> None:
    await admin.create(SOURCES, a_source(name))
    assert (await admin.patch_status(SOURCES, name, {"observedGeneration": 1})).body["metadata"]["generation"] == 1
    assert (await admin.patch(SOURCES, name, {"spec": {"suspend": True}})).body["metadata"]["generation"] == 2


COUNTS = Counts(
    total=200, due=3, due_without_dead_letter=True, oldest_due_since=NOW - timedelta(minutes=5), estimated=False
)
FACTS = SourceFacts(generation=1, fingerprint="any@8")
WHOLE_MODEL = Model(
    "openai",
    "any",
    8,
    "CLUSTERING",
    endpoint="http://tei.search.svc:8080/v1",
    api_key_ref="secret/key",
    query_prefix="query: ",
    query_task_type="RETRIEVAL_QUERY",
)
BACKFILL = BackfillFacts(
    200_000, 50_000, 3, rows_per_s=812.34, workers=3, began_at=NOW - timedelta(minutes=1), completed_at=None
)


def without_nulls(patch: Json) -> Json:
    """What is stored after a merge patch, in which null removes a field."""
    return {
        key: without_nulls(value) if isinstance(value, dict) else value
        for key, value in patch.items()
        if value is not None
    }


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        SourceFacts(1, "any@8", refused=("TableMissing", "public.businesses does not exist: create it")),
        SourceFacts(1, "any@8", set_up=True, filled=True, counts=COUNTS, open_jobs=2, dead_letters=1),
        SourceFacts(1, "any@8", set_up=True, filled=True, counts=Counts(0, 0, False, None, estimated=True)),
        SourceFacts(
            1,
            "any@8",
            set_up=True,
            provider_problem=Problem("QuotaExhausted", "the quota of the day is used up"),
            pending=Pending("other@8#0123abcd", rows=200, tokens=30_000),
            used=Used("2026-03-01", 1_000, 150_000, 90_000, 3, 4_000_000),
            limits=Limits(2_000, 200_000, 20.0, 0.15),
            price_per_million_tokens=0.15,
            reconciled_at="now",
        ),
        SourceFacts(1, "any@8", set_up=True, backfill=BACKFILL),
        SourceFacts(1, "any@8", set_up=True, backfill=replace(BACKFILL, completed_at=NOW)),
        SourceFacts(1, "any@8", set_up=True, backlog=Backlog(50_000, rows_per_s=None)),
        SourceFacts(1, "any@8", set_up=True, model=Model("local", "any", 8)),
        SourceFacts(1, "any@8", set_up=True, model=WHOLE_MODEL),
    ],
    ids=[
        "being set up",
        "stalled",
        "sweeping",
        "empty",
        "waiting for approval and the provider",
        "backfilling",
        "backfilled",
        "with a large backlog",
        "with a model",
        "with a model that sets everything",
    ],
)
async def test_every_status_of_a_source_is_accepted_unchanged(
    admin: PlainRequests, name: str, facts: SourceFacts
) -> None:
    written: dict[str, Any] = status(facts, {}, NOW)
    await admin.create(SOURCES, a_source(name))
    answer = await admin.patch_status(SOURCES, name, written)
    assert answer.accepted, answer.message
    assert answer.body["status"] == without_nulls(written)


async def test_kubectl_prints_the_documented_columns(admin: PlainRequests, namespace: Namespace, name: str) -> None:
    sweeping = SourceFacts(1, "any@8", set_up=True, filled=True, counts=COUNTS, open_jobs=2, dead_letters=1)
    await admin.create(SOURCES, a_source(name))
    await admin.patch_status(SOURCES, name, status(sweeping, {}, NOW))
    header, row = (re.split(r"\s{2,}", line) for line in namespace.kubectl.run("get", "esrc", name).splitlines())
    assert header == ["NAME", "TABLE", "MODEL", "STATUS", "FRESH %", "DUE", "OLDEST", "OPEN", "DEAD", "READY", "AGE"]
    shown = dict(zip(header, row, strict=True))
    assert shown["OLDEST"] not in ("", "<none>", "<invalid>", "<unknown>")
    del shown["AGE"], shown["OLDEST"]
    assert list(shown.values()) == [name, "public.businesses", "any", "Sweeping", "98.5", "3", "2", "1", "True"]


async def test_the_wide_table_also_shows_the_reason_the_fingerprint_and_the_backfill(
    admin: PlainRequests, namespace: Namespace, name: str
) -> None:
    in_force = SourceFacts(1, "any@8", set_up=True, filled=True, counts=COUNTS, backfill=BACKFILL)
    await admin.create(SOURCES, a_source(name))
    await admin.patch_status(SOURCES, name, status(in_force, {}, NOW))
    wide = namespace.kubectl.run("get", "embeddingsources", name, "-o", "wide").splitlines()
    header, row = (re.split(r"\s{2,}", line) for line in wide)
    assert header[-5:] == ["REASON", "FINGERPRINT", "BACKFILL", "ROWS/S", "ETA"]
    assert row[-5:] == ["Sweeping", "any@8", "50000/200000", "812.3", "2026-03-01T12:04:00.000Z"]
