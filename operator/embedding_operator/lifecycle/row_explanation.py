"""Decides why one row is not fresh, and how long that may last: the answer to a person's question about the row. Pure.

Called by reconciler/row_explainer.py, which collects the facts. No answer contains a text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from embedding_operator.lifecycle import source_conditions
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.lifecycle.source_summary import all_that_stop
from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import EmbeddingJob
from embedding_worker.rows.one_row import RowFacts, RowsAround
from embedding_worker.rows.records import LastOutcome

Reason = tuple[str, str]
"""In one word, and in a sentence."""
DEAD_LETTER_LIMIT = "DeadLetterLimit"
NEXT_SWEEP = ("NextSweep", "the next sweep creates its job")
NEXT_SWEEP_CLEARS = ("NextSweep", "it needs no call: the next sweep that comes to it deletes its change marks")
WINDOW_FULL = (
    "WindowFull",
    "as many jobs are open as the window allows: it gets its job when those before it are done",
)
DEAD_LETTERS = (
    "FewJobsAllowed",
    "so many dead letters exist that only a few jobs may be open at once: replay or delete them, or correct their rows",
)
BACKFILL = ("Backfill", "a backfill embeds it without a job, in the order of the change marks")


class RowState(StrEnum):
    NO_SUCH_ROW = "NoSuchRow"
    UP_TO_DATE = "UpToDate"
    NOT_MARKED = "NotMarked"
    """It is not up to date, and the audit has not come to it yet."""
    DUE = "Due"


@dataclass(frozen=True)
class Queue:
    """What decides when a due row without a job gets one."""

    left_out: Reason | None
    """Reason and sentence, where just this row gets no job now."""
    window_free: int
    room: int
    """How many jobs may be created now, by all limits together."""
    backfilling: bool
    """Rows that no edit made due are embedded without jobs."""


@dataclass(frozen=True)
class Place:
    """Where a row stands among those that are waited for, and how fast these are worked on."""

    before: int
    """Rows."""
    at_least: bool
    """There are more before it, which were not counted."""
    rows_per_s: float | None
    """None: not known, because no row was made fresh in the last minute, or because the source is stopped."""

    @property
    def estimated_s(self) -> int | None:
        """Rounded up; None if it is not known."""
        if not self.rows_per_s:
            return None
        return math.ceil((self.before + 1) / self.rows_per_s)


@dataclass(frozen=True)
class JobFacts:
    job: EmbeddingJob
    message: str


@dataclass(frozen=True)
class RowExplanation:
    source: str
    """With its namespace."""
    id: str
    leader: str
    at: datetime
    row: RowFacts | None
    """None: it cannot be read, because the source is not set up, or the database is away."""
    job: JobFacts | None
    why: Sequence[Reason]
    """Why it is not fresh, or has no job, the most pressing reason first."""
    place: Place | None
    last_outcomes: tuple[LastOutcome, ...] = ()


def row_state(row: RowFacts) -> RowState:
    if row.marks is not None:
        return RowState.DUE
    if not row.exists:
        return RowState.NO_SUCH_ROW
    return RowState.UP_TO_DATE if row.up_to_date else RowState.NOT_MARKED


def stopped_by(facts: SourceFacts) -> list[Reason]:
    """What stops all rows of the source."""
    conditions = source_conditions.conditions(facts)
    found = all_that_stop(conditions, suspended=facts.suspended, set_up=facts.set_up)
    reasons = {condition.message: (condition.reason, condition.message) for condition in found}
    return list(reasons.values())


def without_new_jobs(facts: SourceFacts) -> list[Reason]:
    """Why rows of the source get no job, although open jobs go on."""
    if not facts.set_up:
        return []
    limit = [facts.refused] if facts.refused is not None and facts.refused[0] == DEAD_LETTER_LIMIT else []
    return [*limit, *([facts.jobs_refused] if facts.jobs_refused is not None else [])]


def why_no_job(facts: SourceFacts, row: RowFacts, queue: Queue) -> list[Reason]:
    """Why a due row has no job, the most pressing reason first: what stops the source, then the row, then what is before it."""
    assert row.marks is not None
    found = [*stopped_by(facts), *without_new_jobs(facts)]
    if queue.backfilling and not row.marks.edited:
        return [*found, BACKFILL]
    if queue.left_out is not None:
        found.append(queue.left_out)
    if found:
        return found
    if queue.room > 0:
        return [NEXT_SWEEP_CLEARS if row.up_to_date or row.blank or not row.exists else NEXT_SWEEP]
    return [DEAD_LETTERS if queue.window_free > 0 else WINDOW_FULL]


def place(around: RowsAround, *, edited: bool, backfilling: bool, rows_per_s: float | None) -> Place:
    """Where a due row stands among the others.

    A sweep takes up to half of its rows from the newest edits, and the others from the oldest marks, so an edited row is reached
    from the end that is nearer to it, and any other from the oldest mark only. A backfill reads the marks in their order.
    """
    nearer = min(around.older, around.newer)
    more_nearer = around.more_older if nearer == around.older else around.more_newer
    if edited:
        return Place(2 * nearer, more_nearer, rows_per_s)
    if backfilling:
        return Place(around.older, around.more_older, rows_per_s)
    return Place(around.older + nearer, around.more_older or more_nearer, rows_per_s)


def why_not_marked(facts: SourceFacts, row: RowFacts) -> list[Reason]:
    """Why a row without a change mark is not up to date: nothing has looked at it since it became so."""
    found = [one for one in stopped_by(facts) if one[0] != "Suspended"]  # a suspended source is audited
    if row.text_problem:
        return [*found, ("TextFails", f"spec.text fails for this row: {row.text_problem}")]
    passes = "this pass of the audit" if facts.filled else "the first audit"
    return [
        *found,
        ("NotAudited", f"{passes} has not come to it yet, and makes it due; {facts.audited_rows} rows are read"),
    ]


def waits_for_approval(facts: SourceFacts) -> list[Reason]:
    """What is said of every row while a changed model or text is not in force."""
    if facts.pending is None:
        return []
    sentence = (
        "a changed model or text waits for approval: until then this row gets the vector of the previous configuration"
    )
    return [("ApprovalNeeded", sentence)]


def as_json(told: RowExplanation) -> dict[str, Any]:
    """The answer of the local endpoint."""
    return {
        "source": told.source,
        "id": told.id,
        "leader": told.leader,
        "time": timestamp(told.at),
        "row": None if told.row is None else _row(told.row),
        "job": None if told.job is None else _job(told.job.job, told.job.message),
        "why": [{"reason": reason, "message": message} for reason, message in told.why],
        "queue": None if told.place is None else _place(told.place),
        "lastOutcomes": [_outcome(one) for one in told.last_outcomes],
    }


def _row(row: RowFacts) -> Mapping[str, Any]:
    marks = row.marks
    return {
        "state": row_state(row),
        "exists": row.exists,
        "blank": row.blank,
        "upToDate": row.up_to_date,
        "textProblem": row.text_problem or None,
        "dueSince": None if marks is None else timestamp(marks.since),
        "foundBy": None if marks is None else "Edit" if marks.edited else "Audit",
        "embeddedAt": None if row.embedded_at is None else timestamp(row.embedded_at),
        "model": row.fingerprint or None,
    }


def _job(job: EmbeddingJob, message: str) -> Mapping[str, Any]:
    following = job.status.next_attempt_time
    return {
        "name": job.name,
        "phase": job.status.phase,
        "reason": job.status.reason,
        "message": message,
        "attempts": job.status.attempts,
        "nextAttemptTime": None if following is None else timestamp(following),
    }


def _place(found: Place) -> Mapping[str, Any]:
    return {
        "rowsBefore": found.before,
        "atLeast": found.at_least,
        "rowsPerSecond": None if found.rows_per_s is None else round(found.rows_per_s, 2),
        "estimatedSeconds": found.estimated_s,
    }


def _outcome(one: LastOutcome) -> Mapping[str, Any]:
    told = {"phase": one.phase, "reason": one.reason, "message": one.message, "attempt": one.attempt}
    return {"time": timestamp(one.at)} | told
