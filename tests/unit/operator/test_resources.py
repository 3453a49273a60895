"""The models of the custom resources say what crds/*.yaml say: that is the contract."""

from datetime import timedelta
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from embedding_operator.resources.embedding_job import (
    FINISHED,
    FINISHED_SELECTOR,
    OPEN,
    OPEN_SELECTOR,
    EmbeddingJob,
    JobSpec,
    JobStatus,
    Phase,
    job_manifest,
    parse_job,
)
from embedding_operator.resources.embedding_source import (
    RECONCILE_ANNOTATION,
    BackfillMode,
    BackfillSpec,
    LimitsSpec,
    ModelSpec,
    RetrySpec,
    SourceSpec,
    parse_source,
)
from embedding_worker.source import ChangeDetection, ExistingVectors, TableColumn, TooLong
from tests.support.manifests import CRDS, a_job, a_source, without


def schema(file: str, *path: str) -> Any:
    place = yaml.safe_load((CRDS / file).read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for step in path:
        place = place["properties"][step]
    return place


SOURCE_SPEC = schema("embeddingsources.yaml", "spec")
MODELS = [
    (SourceSpec, SOURCE_SPEC),
    (ModelSpec, SOURCE_SPEC["properties"]["model"]),
    (LimitsSpec, SOURCE_SPEC["properties"]["limits"]),
    (RetrySpec, SOURCE_SPEC["properties"]["retry"]),
    (BackfillSpec, SOURCE_SPEC["properties"]["backfill"]),
    (JobSpec, schema("embeddingjobs.yaml", "spec")),
]


@pytest.mark.parametrize(("model", "crd"), MODELS)
def test_every_field_of_the_crd_is_read(model: type[BaseModel], crd: Any) -> None:
    assert {field.alias for field in model.model_fields.values()} == set(crd["properties"])


@pytest.mark.parametrize(("model", "crd"), MODELS)
def test_what_is_required_there_has_no_default_here(model: type[BaseModel], crd: Any) -> None:
    needed = {field.alias for field in model.model_fields.values() if field.is_required()}
    assert needed == set(crd.get("required", ()))


@pytest.mark.parametrize(("model", "crd"), MODELS)
def test_a_default_is_the_same_in_both(model: type[BaseModel], crd: Any) -> None:
    by_alias = {field.alias: field.default for field in model.model_fields.values()}
    for name, field in crd["properties"].items():
        if "default" in field:
            ours = by_alias[name]
            assert (ours.model_dump(by_alias=True) if isinstance(ours, BaseModel) else ours) == field["default"]


@pytest.mark.parametrize(
    ("ours", "crd"),
    [
        (Phase, schema("embeddingjobs.yaml", "status", "phase")),
        (ChangeDetection, SOURCE_SPEC["properties"]["changeDetection"]),
        (ExistingVectors, SOURCE_SPEC["properties"]["existingVectors"]),
        (BackfillMode, SOURCE_SPEC["properties"]["backfill"]["properties"]["mode"]),
        (TooLong, SOURCE_SPEC["properties"]["model"]["properties"]["tooLong"]),
    ],
)
def test_the_choices_are_the_same_in_both(ours: Any, crd: Any) -> None:
    assert list(ours) == crd["enum"]


def test_a_new_jobs_status_is_the_default_of_the_crd() -> None:
    default = JobStatus()
    assert {"phase": default.phase, "attempts": default.attempts} == schema("embeddingjobs.yaml", "status")["default"]


def test_a_job_is_open_finished_or_a_dead_letter() -> None:
    assert OPEN | FINISHED | {Phase.DEAD_LETTERED} == set(Phase)
    assert not OPEN & FINISHED


def test_the_selectors_name_every_phase_that_they_exclude() -> None:
    assert OPEN_SELECTOR == "status.phase!=Succeeded,status.phase!=Superseded,status.phase!=DeadLettered"
    assert FINISHED_SELECTOR == "status.phase!=Pending,status.phase!=Retrying,status.phase!=DeadLettered"


def test_a_source_is_read_as_the_data_plane_needs_it() -> None:
    changes = {"changeDetection": "Audit", "existingVectors": "Adopt", "model": {"tooLong": "Refuse"}}
    config = parse_source(a_source("businesses", **changes)).spec.config()
    assert config.at == TableColumn("public", "businesses", "id", "embedding")
    assert config.change_detection is ChangeDetection.AUDIT
    assert config.existing_vectors is ExistingVectors.ADOPT
    assert config.model.too_long is TooLong.REFUSE
    assert config.fingerprint == "any@8"


@pytest.mark.parametrize(
    ("written", "target"),
    [
        (None, None),
        ("10s", timedelta(seconds=10)),
        ("15m", timedelta(minutes=15)),
        ("1h30m", timedelta(minutes=90)),
        ("99999h99999m99999s", timedelta(hours=99_999, minutes=99_999, seconds=99_999)),
    ],
)
def test_a_freshness_target_is_a_duration(written: str | None, target: timedelta | None) -> None:
    assert parse_source(a_source("businesses", freshnessTarget=written)).spec.freshness_target == target


@pytest.mark.parametrize("written", ["15 m", "1d", "m"])
def test_a_freshness_target_that_is_no_duration_is_not_understood(written: str) -> None:
    with pytest.raises(ValidationError):
        parse_source(a_source("businesses", freshnessTarget=written))


def test_fields_that_a_newer_crd_adds_are_ignored() -> None:
    body = a_source("businesses", colour="yellow", model={"colour": "yellow"}) | {"extra": 1}
    assert parse_source(body) == parse_source(a_source("businesses"))


def test_a_job_without_a_status_is_a_new_one() -> None:
    job = parse_job(a_job("any"))
    assert (job.status.phase, job.status.attempts, job.is_open, job.source) == (Phase.PENDING, 0, True, "businesses")


@pytest.mark.parametrize("phase", Phase)
def test_only_pending_and_retrying_are_open(phase: Phase) -> None:
    assert parse_job(a_job("any") | {"status": {"phase": phase}}).is_open is (phase in ("Pending", "Retrying"))


def test_a_manifest_is_read_back_as_the_job_that_it_creates() -> None:
    spec = parse_job(a_job("any")).spec
    job: EmbeddingJob = parse_job(job_manifest(name="any", namespace="here", cohort="abc-1", spec=spec))
    assert (job.name, job.spec, job.cohort) == ("any", spec, "abc-1")
    assert job.metadata.labels["embeddings.yellowbook.dev/source"] == "businesses"


def test_a_manifest_has_no_owner() -> None:
    spec = parse_job(a_job("any")).spec
    assert "ownerReferences" not in job_manifest(name="any", namespace="here", cohort="abc-1", spec=spec)["metadata"]


@pytest.mark.parametrize(("written", "version"), [("7", 7), ("18446744073709551616", 2**64), ("", 0), ("abc", 0)])
def test_a_resource_version_is_a_number_and_zero_where_there_is_none(written: str, version: int) -> None:
    body = a_job("any")
    body["metadata"]["resourceVersion"] = written
    assert parse_job(body).metadata.version == version


@pytest.mark.parametrize("missing", ["spec", "spec.businessId", "spec.sourceRef.name", "metadata.name"])
def test_a_job_without_a_field_that_is_needed_is_not_understood(missing: str) -> None:
    with pytest.raises(ValidationError):
        parse_job(without(a_job("any"), missing))


def test_a_request_to_reconcile_is_the_token_of_its_annotation() -> None:
    body = a_source("businesses")
    assert parse_source(body).requested_reconcile is None
    body["metadata"]["annotations"] = {RECONCILE_ANNOTATION: "2026-03-01"}
    assert parse_source(body).requested_reconcile == "2026-03-01"
