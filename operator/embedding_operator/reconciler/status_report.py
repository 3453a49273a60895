"""Writes a source's status when it has changed, and emits the Events of its transitions. Called by the source's loop."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from embedding_operator.api_errors import ApiServerUnavailable, Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.event_poster import EventPoster
from embedding_operator.lifecycle import backfill_events, events, source_status
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.tracked_job import OPEN, JobState
from embedding_operator.reconciler.waiting_jobs import WaitingJobs
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

REFUSED_PAUSE_S = 5.0


class StatusReport:
    def __init__(
        self, source: EmbeddingSource, *, server: ApiServer, events: EventPoster, table: JobTable, clock: Clock
    ) -> None:
        self._source = source
        self._server = server
        self._events = events
        self._table = table
        self._clock = clock
        self._written: dict[str, Any] = {}
        self._written_at = -math.inf
        self._stored: dict[str, Any] | None = None
        """The status that the API server has stored, as it answered to the last write."""
        self._altered = False
        self._late = False
        self._refused: str | None = None
        self._adopted: int | None = None
        self._next_try_at = -math.inf
        self._waiting = WaitingJobs(source.name, server=server, table=table, clock=clock)

    def dead_letters(self) -> list[str]:
        """The business ids of the source's dead letters."""
        jobs = self._table.jobs(self._source.name, {JobState.DEAD_LETTERED})
        return [job.business_id for job in jobs]

    @property
    def rows_locked(self) -> bool:
        """Whether another session keeps a row locked."""
        return self._waiting.are_locked

    @property
    def is_late(self) -> bool:
        """Whether the status is to be written, as soon as the time for that has come."""
        return self._late or self._altered

    def compare(self, listed: Mapping[str, Any], *, listed_at: float) -> None:
        """Find out whether somebody else has changed the status. `listed` was requested at `listed_at` (monotonic)."""
        if self._stored is not None and self._written_at < listed_at and listed != self._stored:
            log.warning("the status was changed by somebody else, and is written again", source=self._source.name)
            self._altered = True

    def emit_adopted(self, rows: int | None) -> None:
        """Emit an Event if the first audit has just ended, and has adopted so many rows. None: it has not."""
        if rows is not None and rows != self._adopted:
            self._events.emit(events.vectors_adopted(self._source, rows))
        self._adopted = rows

    async def begin(self, facts: SourceFacts) -> None:
        """Show that the source is being set up, unless the status is of its present generation, as after a restart."""
        if not self._written and self._source.status.get("observedGeneration") != self._source.metadata.generation:
            await self.write(facts)

    async def write(self, facts: SourceFacts, *, at_once: bool = False) -> None:
        """Write what has changed, into the statuses of waiting jobs too. A server that cannot be reached, or a deleted source, is
        logged and not raised.
        """
        await self._write(facts, at_once=at_once)
        await self._waiting.show(source_status.why_jobs_wait(facts))

    async def _write(self, facts: SourceFacts, *, at_once: bool) -> None:
        name, now = self._source.name, self._clock.monotonic()
        self._late = True
        if now < self._next_try_at:
            return
        facts = replace(
            facts,
            open_jobs=self._table.count(OPEN, source=name),
            dead_letters=self._table.count({JobState.DEAD_LETTERED}, source=name),
        )
        before = self._written or self._source.status
        new = source_status.status(facts, before, self._clock.now())
        since_written_s = math.inf if at_once else now - self._written_at
        if not self._altered and not source_status.worth_writing(new, self._written, since_written_s=since_written_s):
            self._late = new != self._written
            return
        try:
            self._stored = await self._server.patch_source_status(name, new)
        except (ApiServerUnavailable, Gone, RequestRefused) as exc:
            self._not_written(exc, now)
            return
        self._refused = None
        is_first = not self._written
        self._written, self._written_at, self._altered, self._late = new, self._clock.monotonic(), False, False
        of_conditions = events.of_source(self._source, before.get("conditions", ()), new["conditions"])
        of_backfill = backfill_events.of_backfill(self._source, before, new, index_advice=facts.index_advice)
        for event in (*of_conditions, *of_backfill):
            self._events.emit(event)
        # The log of a process says what needs attention, also if it did so before.
        of_log = events.of_source(self._source, (), new["conditions"]) if is_first else of_conditions
        for event in (*of_log, *of_backfill):
            if event.type == events.WARNING:
                log.warning(
                    "source needs attention",
                    source=name,
                    condition=event.action,
                    reason=event.reason,
                    message=event.note,
                )

    def _not_written(self, error: Exception, now: float) -> None:
        """A refusal, for example by a policy, will most likely be repeated: it is tried again after a pause, and logged once."""
        if isinstance(error, RequestRefused):
            self._next_try_at = now + REFUSED_PAUSE_S
        if str(error) != self._refused:
            self._refused = str(error)
            name = self._source.name
            log.warning("source status not written", source=name, error=type(error).__name__, message=str(error))
