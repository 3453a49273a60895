"""Has the workers of one source run as an Indexed Job of Kubernetes, which places, restarts and counts their pods.

Called by the source's backfill where the chart has enabled workers. It never raises: what goes wrong is `problem`.
"""

from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import structlog
import yaml

from embedding_operator.api_errors import AlreadyExists, ApiServerError, ApiServerUnavailable, Gone
from embedding_operator.api_server import ApiServer, Json
from embedding_operator.reconciler.backfill_workers import Workers, WorkersNotEnabled
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.resources.workers_job import (
    JobState,
    TemplateRefused,
    job_manifest,
    job_name,
    problem_of,
    state_of,
)
from embedding_worker.clock import Clock
from embedding_worker.rows.backfills import BackfillRun

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 10.0
"""How often it is looked whether the Job exists and how it does."""
START_AGAIN_AFTER_S = 300.0
"""A Job that has failed is replaced after this time, so that a correction needs no command."""

Problem = tuple[str, str]


def make_workers(source: EmbeddingSource, *, server: ApiServer, template: Path | None, clock: Clock) -> Workers:
    """What runs the workers of this source. Without a template, the chart has not enabled them."""
    return WorkersNotEnabled() if template is None else WorkersJob(source, server, template, clock=clock)


class WorkersJob:
    """The Job of one source's workers."""

    def __init__(self, source: EmbeddingSource, server: ApiServer, template: Path, *, clock: Clock) -> None:
        self._source = source
        self._server = server
        self._template = template
        self._clock = clock
        self._name = job_name(source.name)
        self._run = ""
        self._seen_since = 0.0
        self._failed_since: float | None = None
        self._next_look_at = float("-inf")
        self._is_removed = False
        self.problem: Problem | None = None
        """Reason and sentence, where the workers do not run as they should; None otherwise."""

    async def ensure(self, run: BackfillRun) -> None:
        """Have the Job of this backfill exist, and none of an earlier one."""
        now = self._clock.monotonic()
        if run.run != self._run:
            self._run, self._seen_since, self._failed_since = run.run, now, None
        elif now < self._next_look_at:
            return
        self._next_look_at, self._is_removed = now + LOOK_EVERY_S, False
        self.problem = await self._unless_refused(self._ensure(run))

    async def remove(self) -> None:
        """Have no Job of this source exist. Its pods write the calls in flight, and end."""
        if not self._is_removed:
            self._run, self._next_look_at = "", float("-inf")
            self.problem = await self._unless_refused(self._remove())

    async def _ensure(self, run: BackfillRun) -> Problem | None:
        job = await self._find()
        if job is None:
            return await self._create(run)
        match state_of(job, self._source, run.run):
            case JobState.FOREIGN:
                return "WorkersRefused", f"there is a Job {self._name} that is not the operator's: rename or delete it"
            case JobState.BEING_DELETED:
                return None
            case JobState.OUTDATED:
                await self._delete(why="it has done its part, or belongs to an earlier backfill")
                return None
            case JobState.FAILED:
                await self._replace_later()
        return problem_of(job, seen_for_s=self._clock.monotonic() - self._seen_since)

    async def _remove(self) -> Problem | None:
        job = await self._find()
        if job is not None and state_of(job, self._source, "") is JobState.OUTDATED:
            await self._delete(why="the backfill has ended, or is suspended")
        self._is_removed = True
        return None

    async def _find(self) -> Json | None:
        try:
            return await self._server.to_worker_jobs("GET", self._name)
        except Gone:
            return None

    async def _create(self, run: BackfillRun) -> Problem | None:
        try:
            manifest = job_manifest(self._read_template(), self._source, run)
        except TemplateRefused as exc:
            return (
                "WorkersRefused",
                f"EMBEDDING_BACKFILL_POD_TEMPLATE_FILE is {self._template}, and {exc}: use the one that the chart makes with "
                "backfill.workers.enabled",
            )
        try:
            await self._server.to_worker_jobs("POST", body=manifest)
        except AlreadyExists:  # by another process that was the leader, or a lost answer
            return None
        self._seen_since = self._clock.monotonic()
        log.info("workers created", source=self._source.name, job=self._name, workers=run.settings.workers)
        return None

    def _read_template(self) -> Any:
        """It is read for each Job, because the kubelet replaces it when the chart's values change."""
        try:
            return yaml.safe_load(self._template.read_text())
        except (OSError, ValueError, yaml.YAMLError) as exc:
            raise TemplateRefused(f"it cannot be read ({type(exc).__name__})") from exc

    async def _delete(self, *, why: str) -> None:
        """Delete the Job and its pods. The next look follows soon, because another one may have to be created."""
        try:
            await self._server.to_worker_jobs("DELETE", self._name, {"propagationPolicy": "Background"})
        except Gone:
            return
        log.info("workers removed", source=self._source.name, job=self._name, why=why)
        self._next_look_at = float("-inf")

    async def _replace_later(self) -> None:
        now = self._clock.monotonic()
        if self._failed_since is None:
            self._failed_since = now
        elif now >= self._failed_since + START_AGAIN_AFTER_S:
            self._failed_since = None
            await self._delete(why="it has failed, and is started again")

    async def _unless_refused(self, work: Awaitable[Problem | None]) -> Problem | None:
        try:
            return await work
        except ApiServerUnavailable:  # the source's own conditions say so; the workers need no API server
            return self.problem
        except ApiServerError as exc:
            return (
                "WorkersRefused",
                f"the API server refuses Job {self._name} ({exc}): correct what it names, such as a quota, a policy, or the "
                "rights on jobs of batch, which backfill.workers.enabled adds to the operator's Role",
            )
