"""A namespace in memory in place of a cluster, for the verbs of `kubectl embeddings`. Called by their unit tests."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

from kubectl_embeddings.cluster import Json
from kubectl_embeddings.failures import NotFound
from kubectl_embeddings.layout import Format, Screen
from kubectl_embeddings.pod_tunnel import Answer
from kubectl_embeddings.shown_commands import Commands
from tests.support.manifests import a_source, merged

VERSION = "100"
"""That of a list."""
Key = TypeVar("Key")
Found = TypeVar("Found")
UID = "5b1f3a0e-7c2d-4e55-9f0a-2d6c1b8e4a90"
CREATED = "2026-03-01T11:00:00Z"


def condition(kind: str, status: str, reason: str, message: str) -> Json:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": CREATED,
    }


def source_body(name: str = "businesses", *, status: Json | None = None, **spec: Any) -> Json:
    """A source that an operator has processed, with this status."""
    body = a_source(name, **spec)
    body["metadata"] |= {"uid": UID, "creationTimestamp": CREATED, "managedFields": [{"manager": "kubectl"}]}
    return body | {"status": {"observedGeneration": 1} | (status or {})}


class FakeRequests:
    """Sources and jobs by name, in the namespace `shops`. Every write is noted, in order."""

    namespace = "shops"
    commands = Commands()

    def __init__(self, *, sources: Sequence[Json] = (), jobs: Sequence[Json] = ()) -> None:
        self._sources = {body["metadata"]["name"]: body for body in sources}
        self._jobs = {body["metadata"]["name"]: body for body in jobs}
        self.refusals: dict[str, Exception] = {}
        """What is raised in place of a write to the object of this name."""
        self.writes: list[tuple[str, Json]] = []
        self.objects: dict[str, Json | Exception] = {}
        """Other objects and lists by path."""
        self.texts: dict[str, str | Exception] = {}
        """What is no JSON, by path."""
        self.pods: dict[tuple[str, int, str], Answer | Exception] = {}
        """What the ports of pods answer, by pod, port and path without the query."""
        self.asked: list[str] = []
        """The paths with which pods were asked."""
        self.watches: list[Sequence[Json | Exception]] = []
        """What each watch of sources says, in order. An error ends it. After the last one, `end` is raised."""
        self.end: BaseException = KeyboardInterrupt()
        self.watched_from: list[str] = []
        """The version from which each watch began."""

    async def sources_at(self) -> tuple[list[Json], str]:
        return await self.sources(), VERSION

    async def watch_sources(self, version: str, *, within_s: float) -> AsyncIterator[Json]:
        self.watched_from.append(version)
        if not self.watches:
            raise self.end
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event

    async def sources(self) -> list[Json]:
        return list(self._sources.values())

    async def source(self, name: str) -> Json:
        return self._found(self._sources, name)

    async def jobs(self, at_most: int | None = None, /, **fields: str) -> list[Json]:
        found = [body for body in self._jobs.values() if all(_field(body, key) == fields[key] for key in fields)]
        return found[:at_most]

    async def job(self, name: str) -> Json:
        return self._found(self._jobs, name)

    async def patch_source(self, name: str, patch: Json) -> Json:
        return self._write(self._sources, name, patch)

    async def set_phase(self, job: str, phase: str) -> Json:
        return self._write(self._jobs, job, {"status": {"phase": phase}})

    async def read(self, path: str, **params: str) -> Json:
        return self._given(self.objects, path)

    async def read_text(self, path: str, **params: str) -> str:
        return self._given(self.texts, path)

    async def ask_pod(self, namespace: str, pod: str, port: int, path: str) -> Answer:
        self.asked.append(path)
        return self._given(self.pods, (pod, port, path.partition("?")[0]))

    @staticmethod
    def _given(known: Mapping[Key, Found | Exception], key: Key) -> Found:
        found = known.get(key, NotFound(f"there is no {key}"))
        if isinstance(found, Exception):
            raise found
        return found

    def leads(self, pod: str = "operator-1", **answer: Any) -> None:
        """This pod leads, and answers every question about a row with this."""
        self.objects |= {
            f"apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/embedding-operator": {
                "spec": {"holderIdentity": pod}
            },
            f"api/v1/namespaces/{self.namespace}/pods/{pod}": {"spec": {"containers": [{}]}},
        }
        self.pods[pod, 8081, "/v1/rows"] = Answer(200, json.dumps(answer).encode())

    def change(self, source: str, patch: Json) -> None:
        """As the operator does: it is not noted."""
        self._sources[source] = merged(self._sources[source], patch)

    def _write(self, bodies: dict[str, Json], name: str, patch: Json) -> Json:
        if name in self.refusals:
            raise self.refusals[name]
        bodies[name] = merged(self._found(bodies, name), patch)
        self.writes.append((name, patch))
        return bodies[name]

    def _found(self, bodies: Mapping[str, Json], name: str) -> Json:
        if name not in bodies:
            raise NotFound(f"namespace {self.namespace} has no {name}")
        return bodies[name]


def _field(body: Json, name: str) -> str:
    spec, status = body["spec"], body.get("status", {})
    return str({"source": spec["sourceRef"]["name"], "id": spec["businessId"], "phase": status.get("phase")}[name])


class Printed:
    """A screen whose lines are kept."""

    def __init__(self, *, width: int | None = None, output: Format | None = None) -> None:
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.screen = Screen(self.lines.append, self.notes.append, width, output)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)
