"""The Job of a backfill's workers: its manifest, and what its status says."""

import copy
import re
from typing import Any

import pytest

from embedding_operator.cli.backfill_worker import STOPPED as EXIT_CODE
from embedding_operator.resources.embedding_source import parse_source
from embedding_operator.resources.workers_job import (
    JobState,
    TemplateRefused,
    job_manifest,
    job_name,
    problem_of,
    state_of,
)
from tests.support.manifests import a_source
from tests.support.workers import TEMPLATE, a_run

Json = dict[str, Any]
BODY = a_source("businesses")
BODY["metadata"] |= {"uid": "uid-1", "namespace": "test"}
SOURCE = parse_source(BODY)


def a_job(run: str = "first", **status: Any) -> Json:
    job = job_manifest(TEMPLATE, SOURCE, a_run(run))
    return {**job, "status": status}


def ended(kind: str) -> list[Json]:
    return [{"type": kind, "status": "True", "message": "why it has ended"}]


def test_it_has_a_pod_for_each_share() -> None:
    spec = job_manifest(TEMPLATE, SOURCE, a_run(workers=5))["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 5)
    assert spec["backoffLimitPerIndex"] == 3


def test_its_pods_are_told_the_source_and_the_backfill_and_no_secret() -> None:
    (container,) = job_manifest(TEMPLATE, SOURCE, a_run("abc"))["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["backfill-worker", "test/businesses", "--run=abc"]
    assert container["image"] == "registry.example/embedding-operator:1"


def test_it_is_deleted_with_its_source() -> None:
    (owner,) = job_manifest(TEMPLATE, SOURCE, a_run())["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
        "kind": "EmbeddingSource",
        "name": "businesses",
        "uid": "uid-1",
    }


def test_it_keeps_the_labels_and_annotations_of_the_template() -> None:
    before = copy.deepcopy(TEMPLATE)
    metadata = job_manifest(TEMPLATE, SOURCE, a_run())["metadata"]
    assert metadata["labels"] == TEMPLATE["metadata"]["labels"]
    assert metadata["annotations"]["team"] == "search"
    assert before == TEMPLATE


def test_evictions_and_workers_that_were_told_to_stop_are_no_failures() -> None:
    rules = job_manifest(TEMPLATE, SOURCE, a_run())["spec"]["podFailurePolicy"]["rules"]
    assert {rule["action"] for rule in rules} == {"Ignore"}
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == [EXIT_CODE]


@pytest.mark.parametrize("source", ["businesses", "a" * 253, "shops.of.berlin", "x" * 29 + ".y"])
def test_its_name_and_those_of_its_pods_are_dns_labels(source: str) -> None:
    name = job_name(source)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-{99_999}-abcde") <= 63


def test_sources_with_similar_names_have_different_jobs() -> None:
    names = {job_name(source) for source in ("a.b", "a-b", "a" * 40, "a" * 41)}
    assert len(names) == 4


@pytest.mark.parametrize(
    "template", [{}, {"spec": {}}, {"spec": {"template": {"spec": {"containers": []}}}}, {"spec": None}]
)
def test_a_template_without_a_container_is_refused(template: Json) -> None:
    with pytest.raises(TemplateRefused):
        job_manifest(template, SOURCE, a_run())


STATES: dict[str, tuple[Json, JobState]] = {
    "its pods work": (a_job(active=3, ready=3), JobState.RUNNING),
    "it was just created": (a_job(), JobState.RUNNING),
    "an index has failed, and others work": (a_job(failedIndexes="1", active=2), JobState.RUNNING),
    "it has failed": (a_job(conditions=ended("Failed")), JobState.FAILED),
    "it is complete, and rows have become due since": (a_job(conditions=ended("Complete")), JobState.OUTDATED),
    "of an earlier backfill": (a_job("earlier", active=3), JobState.OUTDATED),
    "of an earlier backfill, failed": (a_job("earlier", conditions=ended("Failed")), JobState.OUTDATED),
}


@pytest.mark.parametrize(("job", "state"), STATES.values(), ids=STATES)
def test_a_job_has_the_state_that_decides_what_is_done(job: Json, state: JobState) -> None:
    assert state_of(job, SOURCE, "first") is state


def test_a_job_that_is_being_deleted_is_waited_for() -> None:
    job = a_job("earlier")
    job["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert state_of(job, SOURCE, "first") is JobState.BEING_DELETED


def test_the_job_of_a_deleted_source_of_the_same_name_is_outdated() -> None:
    job = a_job()
    job["metadata"]["ownerReferences"][0]["uid"] = "of the deleted one"
    assert state_of(job, SOURCE, "first") is JobState.OUTDATED


@pytest.mark.parametrize("missing", ["ownerReferences", "annotations"])
def test_a_job_of_somebody_else_is_left_alone(missing: str) -> None:
    job = a_job()
    del job["metadata"][missing]
    assert state_of(job, SOURCE, "first") is JobState.FOREIGN


PROBLEMS: dict[str, tuple[Json, str, str]] = {
    "an index has failed": (
        a_job(failedIndexes="1,3-5", active=2),
        "WorkersFailed",
        "index 1,3-5 of Job businesses-backfill-",
    ),
    "all have failed": (a_job(conditions=ended("Failed")), "WorkersFailed", "why it has ended"),
    "no pod is ready": (a_job(active=3, ready=0), "WorkersPending", "no worker pod of Job businesses-backfill-"),
    "no pod can be created": (a_job(), "WorkersPending", "kubectl describe job businesses-backfill-"),
}


@pytest.mark.parametrize(("job", "reason", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_a_problem_is_said_in_a_sentence_with_a_remedy(job: Json, reason: str, words: str) -> None:
    found = problem_of(job, seen_for_s=61)
    assert found is not None
    assert found[0] == reason
    assert words in found[1]
    assert "`kubectl " in found[1]


def test_a_suspended_job_waits_for_its_queue() -> None:
    job = a_job()
    job["spec"]["suspend"] = True
    assert (problem_of(job, seen_for_s=600) or ("", ""))[0] == "WorkersQueued"


@pytest.mark.parametrize("job", [a_job(active=3, ready=1), a_job(active=0, succeeded=3)], ids=["working", "done"])
def test_workers_that_work_or_are_done_have_no_problem(job: Json) -> None:
    assert problem_of(job, seen_for_s=600) is None


def test_pods_have_a_minute_to_start() -> None:
    assert problem_of(a_job(active=3), seen_for_s=59) is None
