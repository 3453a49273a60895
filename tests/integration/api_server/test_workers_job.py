"""The Job of a backfill's workers on a real API server: accepted as chart and operator make it, with their rights only."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.workers_job import WorkersJob
from embedding_operator.resources import SOURCES
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.resources.workers_job import RUN_ANNOTATION, job_name
from embedding_worker.clock import SystemClock
from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import ACCOUNT, temporary_namespace
from tests.integration.api_server.conftest import Namespace
from tests.support.chart import Helm, Objects
from tests.support.deadline import eventually
from tests.support.manifests import a_source
from tests.support.plain_requests import PlainRequests, settings_for
from tests.support.rights import wait_until_granted
from tests.support.workers import a_run

VALUES = {
    "backfill": {
        "workers": {
            "enabled": True,
            "labels": {"kueue.x-k8s.io/queue-name": "embeddings"},
            "resources": {"limits": {"nvidia.com/gpu": 1}},
        }
    },
    "gemini": {"existingSecret": "key"},
}


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Objects:
    return helm.render(VALUES, release=ACCOUNT)


@pytest.fixture(scope="module")
def namespace(
    crds: None, cluster: Cluster, rendered: Objects, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Namespace]:
    """With the rights that the chart gives with enabled workers. Only pods of the restricted profile are accepted in it."""
    name = f"test-{secrets.token_hex(4)}"
    kubectl, folder = Kubectl(cluster, name), tmp_path_factory.mktemp(name)
    with temporary_namespace(cluster, name, folder) as kubeconfig:
        role = {**rendered.one("Role"), "metadata": {"name": ACCOUNT, "namespace": name}}
        kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(role))
        wait_until_granted(kubectl, "create", "jobs.batch")
        kubectl.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
        yield Namespace(name, kubectl, kubeconfig)
        kubectl.run("delete", "jobs.batch", "--all", "--cascade=background")


@pytest.fixture
def template(rendered: Objects, tmp_path: Path) -> Path:
    """The file that the chart mounts into the operator's pod."""
    (config,) = rendered.of("ConfigMap")
    path = tmp_path / "job.yaml"
    path.write_text(config["data"]["job.yaml"])
    return path


@pytest.fixture
async def source(admin: PlainRequests, name: str) -> EmbeddingSource:
    created = await admin.create(SOURCES, a_source(name))
    assert created.accepted, created.message
    return parse_source(created.body)


@pytest.fixture
async def workers(source: EmbeddingSource, operator_server: ApiServer, template: Path) -> AsyncIterator[WorkersJob]:
    workers = WorkersJob(source, operator_server, template, clock=SystemClock())
    yield workers
    await workers.remove()


def jobs_of(namespace: Namespace, source: EmbeddingSource) -> list[Any]:
    name = job_name(source.name)
    return [job for job in namespace.kubectl.get("jobs.batch")["items"] if job["metadata"]["name"] == name]


async def test_it_is_created_as_an_indexed_job_that_belongs_to_its_source(
    workers: WorkersJob, namespace: Namespace, source: EmbeddingSource
) -> None:
    run = a_run(workers=3, source=f"{namespace.name}/{source.name}")
    await workers.ensure(run)
    assert workers.problem is None
    (job,) = jobs_of(namespace, source)
    spec, metadata = job["spec"], job["metadata"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert (spec["backoffLimitPerIndex"], spec["podReplacementPolicy"]) == (3, "Failed")
    assert spec["suspend"] is False  # Kueue's webhook sets it, where there is Kueue
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "Ignore"]
    assert metadata["ownerReferences"][0]["uid"] == source.metadata.uid
    assert metadata["labels"]["kueue.x-k8s.io/queue-name"] == "embeddings"
    pod = spec["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["containers"][0]["args"] == ["backfill-worker", run.source, "--run=first"]


async def test_another_backfill_replaces_it_and_the_end_removes_it(
    workers: WorkersJob, namespace: Namespace, source: EmbeddingSource
) -> None:
    await workers.ensure(a_run("first"))
    for _ in range(2):
        await workers.ensure(a_run("second", workers=2))
    (job,) = jobs_of(namespace, source)
    assert (job["metadata"]["annotations"][RUN_ANNOTATION], job["spec"]["completions"]) == ("second", 2)
    await workers.remove()
    assert workers.problem is None
    assert jobs_of(namespace, source) == []


async def test_its_pods_are_of_the_restricted_profile(
    workers: WorkersJob, namespace: Namespace, source: EmbeddingSource
) -> None:
    await workers.ensure(a_run())
    (job,) = jobs_of(namespace, source)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": job["spec"]["template"]["spec"]}
    namespace.kubectl.run("create", "serviceaccount", "default")
    create = ("create", "--dry-run=server", "-f", "-")
    assert "pod/worker created" in namespace.kubectl.run(*create, stdin=yaml.safe_dump(pod))
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    assert "violates PodSecurity" in namespace.kubectl.try_run(*create, stdin=yaml.safe_dump(pod)).stderr


async def test_without_the_right_the_problem_names_the_value_of_the_chart(
    source: EmbeddingSource, namespace: Namespace, template: Path, tmp_path: Path
) -> None:
    namespace.kubectl.run("create", "serviceaccount", "powerless")
    cluster = namespace.kubectl.cluster
    kubeconfig = service_account_kubeconfig(
        cluster.admin_kubeconfig, namespace.name, "powerless", tmp_path / "kubeconfig", kubectl=cluster.kubectl
    )
    async with await ApiServer.connected(settings_for(kubeconfig, namespace.name)) as server:
        workers = WorkersJob(source, server, template, clock=SystemClock())

        async def is_refused() -> bool:
            await workers.ensure(a_run())
            return workers.problem is not None

        await eventually(is_refused, within_s=30, because="the account has no rights")
        reason, message = workers.problem or ("", "")
        assert reason == "WorkersRefused"
        assert "cannot get resource" in message
        assert "backfill.workers.enabled" in message
