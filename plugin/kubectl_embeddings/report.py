"""`kubectl embeddings report`: an archive for a bug report, of what the user may read, without secrets.

Called by operator_verbs.py. A part that cannot be read is named in the archive with the reason, and the others are written. No
Secret is read.
"""

import platform
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from embedding_operator.api_errors import ApiServerError, ApiServerUnreachable, Unauthorized
from embedding_operator.lifecycle.lease import LEASE
from embedding_operator.resources import GROUP, JOBS, SOURCES
from embedding_operator.resources.base import timestamp
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import DONE, CommandFailed, WrongUse
from kubectl_embeddings.layout import Screen
from kubectl_embeddings.leader import ask_leader, find_leader
from kubectl_embeddings.report_archive import Archive

OURS = {"labelSelector": "app.kubernetes.io/name=embedding-operator"}
MOST_JOBS, MOST_EVENTS = 500, 500
LOG_LIMITS = {"tailLines": "5000", "limitBytes": str(10 * 1024 * 1024)}
OWN_CONTAINERS = frozenset({"operator", "worker", "check"})
"""What other containers write into their logs is not known."""
OWN_KINDS = frozenset({"EmbeddingSource", "EmbeddingJob"})
RELEASE_LABELS = ("app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart")
FIRST_PARTS = frozenset({"versions.json", "sources.json", "jobs.json"})
"""Where these fail because the API server cannot be reached or a login has ended, so do the others."""
EVENTS = "apis/events.k8s.io/v1/namespaces/{namespace}/events"
Read = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Options:
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The archive.  [default: named by the time, here]"),
    ] = None
    operator_namespace: Annotated[
        str | None,
        typer.Option("--operator-namespace", help="Where the operator's pods are.  [default: the namespace]"),
    ] = None


async def write_report(cluster: Requests, options: Options, screen: Screen, *, now: datetime) -> int:
    """Raises WrongUse where the file cannot be written, ApiServerUnreachable and Unauthorized."""
    path = options.file or Path(f"embedding-operator-report-{cluster.namespace}-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    if path.exists() or not path.parent.is_dir():
        raise WrongUse(f"{path} {'exists' if path.exists() else 'is in no folder'}: name another file with -o")
    report = Report(cluster, options.operator_namespace or cluster.namespace, screen)
    archive = await report.collect()
    about = {"made": timestamp(now), "namespace": cluster.namespace, "operatorNamespace": report.operator_namespace}
    try:
        removed = archive.write(path, about, now=now)
    except OSError as exc:
        raise WrongUse(f"{path} cannot be written ({exc.strerror}): name another file with -o") from exc
    if archive.missing:
        screen.note(f"parts that could not be read: {archive.missing}; manifest.json in the archive says why")
    screen.note(f"values that were removed: {removed}; look through the archive before you send it")
    screen.emit(str(path))
    return DONE


class Report:
    """What is read, one part after the other."""

    def __init__(self, cluster: Requests, operator_namespace: str, screen: Screen) -> None:
        self.operator_namespace = operator_namespace
        self._cluster = cluster
        self._screen = screen
        self._archive = Archive()

    async def collect(self) -> Archive:
        """Raises ApiServerUnreachable where the first request is not answered, and Unauthorized where the login has ended."""
        namespace = f"namespaces/{self.operator_namespace}"
        await self._part("versions.json", self._versions)
        await self._part("sources.json", self._cluster.sources)
        await self._part("jobs.json", self._jobs)
        for resource in (SOURCES, JOBS):
            await self._part(f"crds/{resource}.json", lambda resource=resource: self._crd(resource))  # type: ignore[misc]
        deployments = await self._part("deployments.json", self._list(f"apis/apps/v1/{namespace}/deployments"))
        await self._part("release.json", self._release(deployments))
        pods = await self._part("pods.json", self._list(f"api/v1/{namespace}/pods"))
        await self._part("workers.json", self._list(f"apis/batch/v1/{namespace}/jobs"))
        lease = f"apis/coordination.k8s.io/v1/{namespace}/leases/{LEASE}"
        await self._part("lease.json", lambda: self._cluster.read(lease))
        await self._part("events.json", lambda: self._events(self._cluster.namespace, pods or []))
        if self.operator_namespace != self._cluster.namespace:
            await self._part("operator-events.json", lambda: self._events(self.operator_namespace, pods or []))
        await self._part("metrics.txt", self._metrics)
        for pod in pods or []:
            await self._logs(pod)
        return self._archive

    async def _part(self, name: str, read: Read) -> Any:
        """Add this part. Returns it; None if it cannot be read."""
        self._screen.note(f"reading {name}")
        try:
            content = await read()
        except (ApiServerUnreachable, Unauthorized) as exc:
            if name in FIRST_PARTS and (name == "versions.json" or isinstance(exc, Unauthorized)):
                raise
            self._archive.miss(name, str(exc))
        except (ApiServerError, CommandFailed) as exc:
            self._archive.miss(name, str(exc))
        except (
            Exception
        ) as exc:  # an answer of another form, such as that of another version: the other parts are still wanted
            self._archive.miss(name, f"an unexpected error, {type(exc).__name__}")
        else:
            self._archive.add(name, content)
            return content
        return None

    def _list(self, path: str) -> Read:
        async def read() -> list[Json]:
            items: list[Json] = (await self._cluster.read(path, **OURS))["items"]
            return items

        return read

    async def _versions(self) -> Json:
        server = await self._cluster.read("version")
        plugin = {"plugin": version("embedding-operator"), "python": platform.python_version()}
        return plugin | {"system": platform.platform(), "server": server}

    async def _jobs(self) -> list[Json]:
        jobs = await self._cluster.jobs()
        return sorted(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp")), reverse=True)[:MOST_JOBS]

    async def _crd(self, resource: str) -> Json:
        path = f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{resource}.{GROUP}"
        crd = await self._cluster.read(path)
        served = [{key: one.get(key) for key in ("name", "served", "storage")} for one in crd["spec"]["versions"]]
        metadata = {key: crd["metadata"].get(key) for key in ("name", "creationTimestamp", "generation", "labels")}
        return {"metadata": metadata, "versions": served, "status": crd.get("status")}

    def _release(self, deployments: list[Json] | None) -> Read:
        async def read() -> list[Json]:
            if deployments is None:
                raise CommandFailed("the Deployments, which say it, could not be read")
            return [_release_of(deployment["metadata"]) for deployment in deployments]

        return read

    async def _events(self, namespace: str, pods: list[Json]) -> list[Json]:
        """Those of our resources where the sources are, and those of the operator's pods where these are."""
        found = (await self._cluster.read(EVENTS.format(namespace=namespace), limit="5000"))["items"]
        kinds = OWN_KINDS if namespace == self._cluster.namespace else frozenset()
        names = {pod["metadata"]["name"] for pod in pods} if namespace == self.operator_namespace else set()
        ours = [event for event in found if _is_ours(event.get("regarding") or {}, kinds, names)]
        return sorted(ours, key=_happened, reverse=True)[:MOST_EVENTS]

    async def _metrics(self) -> str:
        leader = await find_leader(self._cluster, self.operator_namespace)
        answer = await ask_leader(self._cluster, leader, "http", "/metrics")
        if answer.status != 200:
            raise CommandFailed(f"the pod {leader.pod} has answered {answer.status}")
        return answer.body.decode(errors="replace")

    async def _logs(self, pod: Json) -> None:
        name, path = pod["metadata"]["name"], f"api/v1/namespaces/{self.operator_namespace}/pods"
        states = {one["name"]: one for one in (pod.get("status") or {}).get("containerStatuses") or ()}
        for container in sorted(OWN_CONTAINERS & {one["name"] for one in pod["spec"]["containers"]}):
            restarted = states.get(container, {}).get("restartCount", 0) > 0
            for previous in (False, True) if restarted else (False,):
                given = {**LOG_LIMITS, "container": container, "timestamps": "true", "previous": str(previous).lower()}
                suffix = "-previous" if previous else ""

                async def read(given: dict[str, str] = given) -> str:
                    return await self._cluster.read_text(f"{path}/{name}/log", **given)

                await self._part(f"logs/{name}-{container}{suffix}.log", read)


def _release_of(metadata: Json) -> Json:
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    found = {label: labels.get(label) for label in RELEASE_LABELS}
    return {"deployment": metadata["name"], "helmRelease": annotations.get("meta.helm.sh/release-name")} | found


def _is_ours(regarding: Json, kinds: Set[str], pods: Set[str]) -> bool:
    return regarding.get("kind") in kinds or regarding.get("name") in pods


def _happened(event: Json) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))
