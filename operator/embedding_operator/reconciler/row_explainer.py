"""Answers what has become of one row: collects what the loop, the window, the job table and the database know of it.

Called by local_endpoint.py for a person's question. lifecycle/row_explanation.py decides what the answer says. Changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from embedding_operator.api_errors import ApiServerError, Gone
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle import row_explanation as explanation
from embedding_operator.lifecycle.row_explanation import JobFacts, Place, Queue, Reason, RowExplanation, RowState
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.reconciler.ready_source import ReadySource
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.sources import Sources
from embedding_operator.reconciler.tracked_job import JobState, TrackedJob
from embedding_operator.resources.embedding_job import parse_job
from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.rows.one_row import MakeOneRow, OneRow, Outcomes, RowFacts, RowMarks

LONGEST_ID = 1_024
"""A resource can carry no longer one."""
AT_WORK = frozenset({JobState.CREATING, JobState.QUEUED, JobState.RUNNING})


class QuestionRefused(Exception):
    """The answer is this status of HTTP, and a sentence."""

    def __init__(self, status: int, message: str, *, leader: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.leader = leader


@dataclass(frozen=True)
class Lead:
    """Who leads."""

    may_work: Callable[[], bool]
    holder: Callable[[], str]


@dataclass(frozen=True)
class Asked:
    """A row, and what is known of its source."""

    source: str
    row_id: str
    facts: SourceFacts
    ready: ReadySource | None


class RowExplainer:
    def __init__(
        self,
        sources: Sources,
        *,
        server: ApiServer,
        jobs: JobRegisters,
        lead: Lead,
        clock: Clock,
        one_row: MakeOneRow = OneRow.of,
    ) -> None:
        """`one_row` answers what the database knows."""
        self._sources = sources
        self._server = server
        self._table, self._window = jobs.table, jobs.window
        self._lead = lead
        self._clock = clock
        self._one_row = one_row

    async def answer(self, source: str, row_id: str) -> dict[str, Any]:
        """The answer about this row of the source NAMESPACE/NAME. Raises QuestionRefused, and SourceRefused.

        While the database is away, the answer says so, and what is known without it.
        """
        asked = self._asked(source, row_id)
        row, outcomes, unread = await self._stored(asked)
        tracked = self._tracked(asked)
        job = None if tracked is None else await self._job(tracked.name)
        why, place = await self._why(asked, row, tracked if job is not None else None)
        why += [*([] if why else unread), *explanation.waits_for_approval(asked.facts)]
        leader, now = self._lead.holder(), self._clock.now()
        return explanation.as_json(RowExplanation(source, row_id, leader, now, row, job, why, place, outcomes))

    def _asked(self, source: str, row_id: str) -> Asked:
        if not self._lead.may_work():
            leader = self._lead.holder()
            raise QuestionRefused(
                503, f"only the leader knows that: ask {leader or 'it when there is one'}", leader=leader
            )
        namespace, _, name = source.partition("/")
        if not namespace or not name:
            raise QuestionRefused(400, f"source is {source!r}: give it as NAMESPACE/NAME")
        if not row_id or len(row_id) > LONGEST_ID:
            raise QuestionRefused(400, f"id has {len(row_id)} characters: give one of 1 to {LONGEST_ID}")
        loop = dict(self._sources.loops()).get(name) if namespace == self._server.namespace else None
        if loop is None:
            known = ", ".join(f"{self._server.namespace}/{name}" for name, _ in self._sources.loops()) or "none"
            raise QuestionRefused(404, f"no source {source} is known: there is {known}")
        facts, ready = loop.view
        return Asked(name, row_id, facts if ready is not None else replace(facts, set_up=False), ready)

    async def _stored(self, asked: Asked) -> tuple[RowFacts | None, Outcomes, list[Reason]]:
        """What the database knows, or why it says nothing."""
        if asked.ready is None:
            return None, (), []
        stored = self._one_row(asked.ready.store)
        try:
            return await stored.facts(asked.row_id), await stored.last_outcomes(asked.row_id), []
        except SourceRefused as exc:
            return None, (), [(exc.reason, exc.message)]
        except (DatabaseUnavailable, RowsLocked) as exc:
            return None, (), [(type(exc).__name__, f"the database: {exc}")]

    def _tracked(self, asked: Asked) -> TrackedJob | None:
        return next((job for job in self._table.jobs(asked.source) if job.business_id == asked.row_id), None)

    async def _job(self, name: str) -> JobFacts | None:
        try:
            body = await self._server.job(name)
        except Gone:
            return None
        except ApiServerError as exc:
            raise QuestionRefused(503, f"the API server gives no answer about the row's job: {exc}") from exc
        return JobFacts(parse_job(body), (body.get("status") or {}).get("message") or "")

    async def _why(
        self, asked: Asked, row: RowFacts | None, tracked: TrackedJob | None
    ) -> tuple[list[Reason], Place | None]:
        stopped = explanation.stopped_by(asked.facts)
        if tracked is not None:
            return ([], None) if tracked.state is JobState.DEAD_LETTERED else (stopped, self._place_of_job(tracked))
        if row is None or asked.ready is None:
            return stopped, None
        match explanation.row_state(row):
            case RowState.DUE if row.marks is not None:
                queue = self._queue(asked, asked.ready)
                why = explanation.why_no_job(asked.facts, row, queue)
                is_stopped = bool(stopped or explanation.without_new_jobs(asked.facts))
                return why, await self._place(asked.ready, asked, row.marks, is_stopped=is_stopped)
            case RowState.NOT_MARKED:
                return explanation.why_not_marked(asked.facts, row), None
        return [], None

    def _queue(self, asked: Asked, ready: ReadySource) -> Queue:
        sweeper = ready.sweeper
        return Queue(
            sweeper.why_left_out(asked.row_id),
            window_free=self._window.free(asked.source),
            room=sweeper.room,
            backfilling=ready.backfill.is_active,
        )

    async def _place(self, ready: ReadySource, asked: Asked, marks: RowMarks, *, is_stopped: bool) -> Place | None:
        backfilling = ready.backfill.is_active
        left_out = ready.sweeper.without_jobs_now()
        try:
            stored = self._one_row(ready.store)
            around = await stored.rows_around(marks, leave_out=left_out, edits_only=backfilling and marks.edited)
        except (DatabaseUnavailable, RowsLocked, SourceRefused):  # what is known already is worth more than no answer
            return None
        rate = self._window.per_s(asked.source) or None
        if backfilling and not marks.edited:
            rate = asked.facts.backfill.rows_per_s if asked.facts.backfill is not None else None
        return explanation.place(
            around, edited=marks.edited, backfilling=backfilling, rows_per_s=None if is_stopped else rate
        )

    def _place_of_job(self, job: TrackedJob) -> Place | None:
        """Edited rows are sent first."""
        if job.state not in AT_WORK:
            return None
        before = [other for other in self._table.jobs(job.source, AT_WORK) if _rank(other) < _rank(job)]
        return Place(len(before), False, self._window.per_s(job.source) or None)


def _rank(job: TrackedJob) -> tuple[bool, bool, float]:
    return job.state is not JobState.RUNNING, not job.edited, job.since
