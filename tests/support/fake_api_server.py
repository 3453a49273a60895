"""An API server in memory, for unit tests of what talks to one: jobs and sources, final phases, and failures on request.

It keeps to what tests/integration/api_server shows of the real one. What needs more of the real one is tested there.
"""

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping

from embedding_operator.api_errors import AlreadyExists, ApiServerError, ApiServerUnavailable, Gone, Invalid
from embedding_operator.api_server import ApiServer, Json, version_of
from embedding_operator.resources import JOBS, SOURCES
from embedding_operator.resources.embedding_job import COHORT_LABEL, FINISHED
from embedding_worker.clock import Clock, SystemClock


class FakeApiServer(ApiServer):
    """`requests` holds every request in order, as (method's name, object's name or selector)."""

    def __init__(self) -> None:
        self.namespace = "test"
        self.host = "https://fake"
        self.cluster = "cluster-1"
        self.stored_jobs: dict[str, Json] = {}
        self.stored_sources: dict[str, Json] = {}
        self.worker_jobs: dict[str, Json] = {}
        """Jobs of Kubernetes (batch/v1)."""
        self.stored_lease: Json | None = None
        self.clock: Clock = SystemClock()
        self._lease_changed, self._watches_ended = asyncio.Event(), asyncio.Event()
        self.events: list[Json] = []
        self.served = {JOBS, SOURCES}
        self.refuse_jobs_of: set[str] = set()
        """The business ids whose jobs a policy denies."""
        self.denial: type[ApiServerError] = Invalid
        self.requests: list[tuple[str, str]] = []
        self._failures: dict[str, list[ApiServerError]] = defaultdict(list)
        self._lost: dict[str, list[ApiServerError]] = defaultdict(list)
        self._held: dict[str, asyncio.Event] = {}
        self._version = 100

    def fail(self, method: str, *errors: ApiServerError) -> None:
        """The next calls of this method raise these errors, one each, and change nothing."""
        self._failures[method].extend(errors)

    def lose_answers(self, method: str, *errors: ApiServerError) -> None:
        """The next calls of this method do what they are to do, and raise these errors, one each."""
        self._lost[method].extend(errors)

    def hold(self, method: str) -> asyncio.Event:
        """From now on, calls of this method wait until the event is set that this returns."""
        self._held[method] = asyncio.Event()
        return self._held[method]

    def lift(self) -> None:
        """No further failure."""
        self._failures.clear()
        self._lost.clear()

    def put_job(self, body: Json) -> Json:
        """A job that is there already, with its resource version set. Returns it as the server shows it."""
        return self._store(self.stored_jobs, copy.deepcopy(body))

    def put_source(self, body: Json) -> Json:
        return self._store(self.stored_sources, copy.deepcopy(body))

    def count(self, method: str) -> int:
        """How many requests of this method there were."""
        return sum(made == method for made, _ in self.requests)

    def _store(self, objects: dict[str, Json], body: Json) -> Json:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        body["metadata"].setdefault("uid", f"uid-{self._version}")
        objects[body["metadata"]["name"]] = body
        return copy.deepcopy(body)

    async def _begin(self, method: str, what: str) -> None:
        """Before anything is changed."""
        self.requests.append((method, what))
        if method in self._held:
            await self._held[method].wait()
        if self._failures[method]:
            raise self._failures[method].pop(0)

    def _end(self, method: str) -> None:
        """After the change, before the answer."""
        if self._lost[method]:
            raise self._lost[method].pop(0)

    async def answer(self, *, within_s: float) -> None:
        await self._begin("answer", "")

    def abort_connections(self) -> None:
        self.requests.append(("abort_connections", ""))

    async def served_resources(self) -> set[str]:
        await self._begin("served_resources", "")
        return self.served

    async def sources(self) -> list[Json]:
        await self._begin("sources", "")
        return copy.deepcopy(list(self.stored_sources.values()))

    async def jobs(self) -> list[Json]:
        await self._begin("jobs", "")
        return copy.deepcopy(list(self.stored_jobs.values()))

    async def job(self, name: str) -> Json:
        await self._begin("job", name)
        return copy.deepcopy(self._existing(name))

    async def create_job(self, manifest: Json) -> int:
        name = manifest["metadata"]["name"]
        await self._begin("create_job", name)
        if manifest["spec"]["businessId"] in self.refuse_jobs_of:
            raise self.denial(f'embeddingjobs "{name}" is forbidden: denied by the policy')
        if name in self.stored_jobs:
            raise AlreadyExists(f"{name} already exists")
        made = {**copy.deepcopy(manifest), "status": {"phase": "Pending", "attempts": 0}}
        version = version_of(self._store(self.stored_jobs, made))
        self._end("create_job")
        return version

    async def delete_job(self, name: str, *, uid: str) -> None:
        await self._begin("delete_job", name)
        if self._existing(name)["metadata"]["uid"] != uid:
            raise Gone(name)
        del self.stored_jobs[name]
        self._end("delete_job")

    async def delete_jobs(self, *, labels: str = "", fields: str = "") -> None:
        """Selects as the two callers do: a cohort's finished jobs, or all jobs of a source."""
        await self._begin("delete_jobs", labels or fields)
        key, _, value = (labels or fields).partition("=")
        for name, job in list(self.stored_jobs.items()):
            finished = job.get("status", {}).get("phase") in FINISHED
            in_cohort = key == COHORT_LABEL and job["metadata"].get("labels", {}).get(key) == value and finished
            of_source = key == "spec.sourceRef.name" and job["spec"]["sourceRef"]["name"] == value
            if in_cohort or of_source:
                del self.stored_jobs[name]
        self._end("delete_jobs")

    async def patch_job_status(self, name: str, status: Json, *, version: int | None = None) -> int:
        await self._begin("patch_job_status", name)
        job = self._existing(name)
        if version not in (None, version_of(job)):
            raise ApiServerUnavailable("it has been modified")
        before = job.get("status", {}).get("phase", "Pending")
        if before in FINISHED and status.get("phase", before) != before:
            raise Invalid("phases Succeeded and Superseded are final")
        job["status"] = _merged(job.get("status", {}), status)
        version = version_of(self._store(self.stored_jobs, job))
        self._end("patch_job_status")
        return version

    async def annotate_job(self, name: str, annotations: Mapping[str, str | None]) -> None:
        await self._begin("annotate_job", name)
        job = self._existing(name)
        job["metadata"]["annotations"] = _merged(job["metadata"].get("annotations", {}), annotations)
        self._store(self.stored_jobs, job)
        self._end("annotate_job")

    async def patch_source_status(self, name: str, status: Json) -> Json:
        await self._begin("patch_source_status", name)
        if name not in self.stored_sources:
            raise Gone(name)
        source = self.stored_sources[name]
        source["status"] = _merged(source.get("status", {}), status)
        stored: Json = self._store(self.stored_sources, source)["status"]
        self._end("patch_source_status")
        return stored

    async def to_worker_jobs(self, method: str, name: str = "", body: Json | None = None) -> Json:
        await self._begin(f"{method} worker job", name)
        if method == "POST" and body is not None:
            if (name := body["metadata"]["name"]) in self.worker_jobs:
                raise AlreadyExists(f'jobs.batch "{name}" already exists')
            return self._store(self.worker_jobs, copy.deepcopy(body))
        if name not in self.worker_jobs:
            raise Gone(f'jobs.batch "{name}" not found')
        return self.worker_jobs.pop(name) if method == "DELETE" else copy.deepcopy(self.worker_jobs[name])

    async def lease(self, name: str) -> Json:
        await self._begin("lease", name)
        if self.stored_lease is None:
            raise Gone(f'leases "{name}" not found')
        return copy.deepcopy(self.stored_lease)

    async def put_lease(self, name: str, spec: Json, *, version: str | None) -> Json:
        await self._begin("put_lease", name)
        present = self.stored_lease["metadata"]["resourceVersion"] if self.stored_lease is not None else None
        if version != present:
            raise AlreadyExists(f'leases "{name}" has been modified')
        self._version += 1
        metadata = {"name": name, "resourceVersion": str(self._version)}
        self.stored_lease = {"metadata": metadata, "spec": copy.deepcopy(spec)}
        self._lease_changed.set()
        self._lease_changed = asyncio.Event()
        self._end("put_lease")
        return copy.deepcopy(self.stored_lease)

    def end_watches(self) -> None:
        """End the watches of the Lease, as when connections break."""
        self._watches_ended.set()
        self._lease_changed.set()
        self._lease_changed, self._watches_ended = asyncio.Event(), asyncio.Event()

    async def watch_lease(self, name: str, version: str, *, within_s: float) -> AsyncIterator[Json]:
        await self._begin("watch_lease", name)
        until, ended = self.clock.monotonic() + within_s, self._watches_ended
        while (left_s := until - self.clock.monotonic()) > 0 and not ended.is_set():
            if self.stored_lease is not None and self.stored_lease["metadata"]["resourceVersion"] != version:
                version = self.stored_lease["metadata"]["resourceVersion"]
                yield copy.deepcopy(self.stored_lease)
            elif not await self.clock.wait_for(self._lease_changed, within_s=left_s):
                return

    async def create_event(self, manifest: Json) -> None:
        await self._begin("create_event", manifest["metadata"]["name"])
        self.events.append(copy.deepcopy(manifest))

    def _existing(self, name: str) -> Json:
        if name not in self.stored_jobs:
            raise Gone(f"{name} not found")
        return self.stored_jobs[name]


def _merged(old: Mapping[str, object], patch: Mapping[str, object]) -> Json:
    """RFC 7386, one level deep: None removes a key."""
    return {key: value for key, value in (dict(old) | dict(patch)).items() if value is not None}
