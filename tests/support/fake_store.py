"""A source's rows and change marks in memory, for unit tests of the sweep, the audit and the source's loop.

It keeps to what tests/integration/rows shows of the real store, but for the order of a sweep: oldest mark first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from embedding_worker.errors import EmbeddingError, RowsRefused
from embedding_worker.limits import Granted, Limits, Sent, reached
from embedding_worker.rows.backfills import BackfillRecords, BackfillRun, BackfillSettings, WorkerReport
from embedding_worker.rows.backlog import Backlog, MarkPage, Share
from embedding_worker.rows.index_advice import IndexFacts
from embedding_worker.rows.one_row import OneRow, RowFacts, RowMarks, RowsAround
from embedding_worker.rows.records import (
    AuditPage,
    Counts,
    DueRow,
    LastOutcome,
    NewerMark,
    PresentRow,
    RateGrant,
    RateLimits,
    UsageNote,
    Used,
    VectorWrite,
    WriteResult,
)
from embedding_worker.rows.store import RowStore
from embedding_worker.text import content_hash, is_blank

BEGUN_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Mark:
    number: int
    edited: bool


class FakeRecords(BackfillRecords):
    """Backfills on record, in memory: what is read of one is what the database would have of it."""

    def __init__(self) -> None:
        self.runs: list[BackfillRun] = []
        self.reported: dict[int, WorkerReport] = {}
        self.lost_reports = 0
        """So many of the next reports are not recorded."""

    async def begin(self, run: str, source: str, settings: BackfillSettings, *, total: int) -> BackfillRun:
        if not self.runs or not self.runs[-1].is_active:
            recorded = BackfillSettings.of_record(settings.as_record())
            self.runs.append(BackfillRun(source, run, recorded, total, BEGUN_AT, None))
            self.reported.clear()
        return self.runs[-1]

    def _is_on_record(self, run: BackfillRun) -> bool:
        return bool(self.runs) and self.runs[-1].run == run.run

    async def present(self, bookkeeping: str) -> BackfillRun | None:
        return self.runs[-1] if self.runs else None

    async def end(self, run: BackfillRun) -> BackfillRun | None:
        self._replace(run, ended_at=BEGUN_AT)
        return self.runs[-1] if self.runs else None

    async def record_total(self, run: BackfillRun, total: int) -> BackfillRun:
        return self._replace(run, total=total)

    async def record_paused(self, run: BackfillRun, *, paused: bool) -> BackfillRun:
        return self._replace(run, paused=paused)

    def _replace(self, run: BackfillRun, **changes: Any) -> BackfillRun:
        if self._is_on_record(run):
            self.runs[-1] = replace(self.runs[-1], **changes)
        return replace(run, **changes)

    async def report(self, run: BackfillRun, report: WorkerReport) -> bool:
        if self.lost_reports:
            self.lost_reports -= 1
            return False
        if not self._is_on_record(run):
            return True
        before = self.reported.get(report.worker, WorkerReport(report.worker))
        self.reported[report.worker] = replace(
            report, done=before.done + report.done, failed=before.failed + report.failed
        )
        return True

    async def reports(self, run: BackfillRun) -> list[WorkerReport]:
        return list(self.reported.values())


class FakeBacklog(Backlog):
    """The marks of a FakeStore that no edit has made."""

    records: FakeRecords

    def __init__(self, store: "FakeStore") -> None:
        self.records = FakeRecords()
        self.indexes = IndexFacts()
        self._store = store

    @property
    def _unedited(self) -> list[tuple[int, str]]:
        return sorted((mark.number, row_id) for row_id, mark in self._store.marks.items() if not mark.edited)

    async def reaches(self, rows: int) -> bool:
        return len(self._unedited) >= rows

    async def is_empty(self) -> bool:
        return not self._unedited

    async def count(self) -> int:
        return len(self._unedited)

    async def page(self, *, after_seq: int, limit: int, share: Share) -> MarkPage:
        page = [(seq, row_id) for seq, row_id in self._unedited if seq > after_seq][:limit]
        return MarkPage([row_id for _, row_id in page], page[-1][0] if page else None)

    async def index_facts(self) -> IndexFacts:
        return self.indexes

    async def hand_over(self, ids: Sequence[str]) -> None:
        for _, row_id in self._unedited:
            if row_id in ids:
                self._store.mark(row_id, edited=True)


class FakeOneRow(OneRow):
    """Questions about the rows of a FakeStore."""

    def __init__(self, store: "FakeStore") -> None:
        self._store = store
        self.outcomes: tuple[LastOutcome, ...] = ()

    async def facts(self, row_id: str) -> RowFacts:
        store = self._store
        store.record("one_row")
        if row_id not in store.texts and row_id not in store.marks:
            return RowFacts()
        mark = store.marks.get(row_id)
        newest_edit = mark.number if mark is not None and mark.edited else 0
        return RowFacts(
            exists=row_id in store.texts,
            up_to_date=row_id in store.texts and store.embedded.get(row_id) == store.hash_of(row_id),
            blank=is_blank(store.texts.get(row_id, "")),
            marks=None if mark is None else RowMarks(BEGUN_AT, mark.edited, mark.number, newest_edit),
        )

    async def rows_around(self, marks: RowMarks, *, leave_out: Iterable[str], edits_only: bool) -> RowsAround:
        left_out = set(leave_out)
        others = [mark for row_id, mark in self._store.marks.items() if row_id not in left_out]
        older = sum(mark.number < marks.first and (mark.edited or not edits_only) for mark in others)
        newer = sum(mark.number > (marks.newest_edit or marks.first) and mark.edited for mark in others)
        return RowsAround(older, newer)

    async def last_outcomes(self, row_id: str) -> tuple[LastOutcome, ...]:
        return self.outcomes


class FakeStore(RowStore):
    """`requests` holds the name of every method that was called, in order."""

    backlog: FakeBacklog
    marks_table = "the marks"

    def __init__(self, texts: Mapping[str, str] | None = None) -> None:
        """These rows exist from before: no trigger has seen them, and only an audit marks them."""
        self.texts: dict[str, str] = dict(texts or {})
        self.embedded: dict[str, str] = {}
        """Of each row with a vector: the hash of the text that it was made of."""
        self.marks: dict[str, Mark] = {}
        self.refused: set[str] = set()
        """Ids of rows that the database refuses to change."""
        self.suppressed: set[str] = set()
        """Ids of rows whose update a trigger suppresses."""
        self.locked: set[str] = set()
        """Ids of rows that another session has locked."""
        self.failing: set[str] = set()
        """Ids of rows for which the text expression fails."""
        self.backlog = FakeBacklog(self)
        self.filled = False
        self.adopted: int | None = None
        """How many rows the first audit has adopted; None if it was not to adopt any."""
        self.used: Used | None = None
        self.recorded: list[tuple[str, LastOutcome]] = []
        self.notes: list[UsageNote] = []
        """The last outcomes of rows."""
        self.requests: list[str] = []
        self.asked: list[str] = []
        """The rows whose newer marks were last asked for."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens during each look for newer marks."""
        self._failures: dict[str, list[Exception]] = defaultdict(list)
        self._number = 0

    def edit(self, row_id: str, text: str) -> None:
        """The application writes a row, and the trigger marks it."""
        self.texts[row_id] = text
        self.mark(row_id, edited=True)

    def delete(self, row_id: str) -> None:
        """The application deletes a row. Its marks stay."""
        self.texts.pop(row_id)

    def embed(self, row_id: str) -> None:
        """The row gets the vector of its present text, and its marks are cleared."""
        self.embedded[row_id] = content_hash(self.texts[row_id])
        self.marks.pop(row_id, None)

    def fail(self, method: str, *errors: EmbeddingError | Exception) -> None:
        """The next calls of this method raise these errors, one each, and change nothing."""
        self._failures[method].extend(errors)

    def count(self, method: str) -> int:
        """How often this method was called."""
        return self.requests.count(method)

    def hash_of(self, row_id: str) -> str:
        """The hash of the row's present text."""
        return content_hash(self.texts[row_id])

    def mark(self, row_id: str, *, edited: bool) -> None:
        self._number += 1
        self.marks[row_id] = Mark(self._number, edited)

    def record(self, method: str) -> None:
        """This was called; it fails if it is to."""
        self._request(method)

    def _request(self, method: str) -> None:
        self.requests.append(method)
        if self._failures[method]:
            raise self._failures[method].pop(0)

    def _is_up_to_date(self, row_id: str) -> bool:
        return row_id in self.texts and self.embedded.get(row_id) == self.hash_of(row_id)

    def id_problem(self, row_id: str) -> str | None:
        return None

    async def sweep(self, *, leave_out: Iterable[str], limit: int, edits_only: bool = False) -> list[DueRow]:
        self._request("sweep")
        left_out = set(leave_out)
        due = [
            row_id for row_id, mark in self.marks.items() if row_id not in left_out and (mark.edited or not edits_only)
        ]
        return [self._due_row(row_id) for row_id in due[: max(limit, 0)]]

    def _due_row(self, row_id: str) -> DueRow:
        text, mark = self.texts.get(row_id), self.marks[row_id]
        if row_id in self.failing:
            return DueRow(row_id, mark.number, mark.edited, None, text_fails=True)
        return DueRow(
            row_id,
            mark.number,
            mark.edited,
            None if text is None else content_hash(text),
            blank=text is not None and is_blank(text),
            up_to_date=self._is_up_to_date(row_id),
            gone=text is None,
        )

    async def newer_marks(self, known: Mapping[str, int]) -> list[NewerMark]:
        self._request("newer_marks")
        self.asked = list(known)
        self.meanwhile()
        found = []
        for row_id, newest in known.items():
            mark = self.marks.get(row_id, Mark(0, edited=False))
            if mark.number > newest:
                text, gone = self.texts.get(row_id), row_id not in self.texts
                content = None if text is None or row_id in self.failing else content_hash(text)
                found.append(NewerMark(row_id, mark.number, content, gone=gone))
        return found

    async def read(self, ids: Sequence[str], *, characters: int) -> dict[str, PresentRow]:
        self._request("read")
        return {row_id: self._present(row_id) for row_id in ids if row_id in self.texts}

    def _present(self, row_id: str) -> PresentRow:
        text = self.texts[row_id]
        return PresentRow(
            row_id,
            content_hash(text),
            blank=is_blank(text),
            up_to_date=self._is_up_to_date(row_id),
            text=text,
            text_bytes=len(text.encode()),
        )

    async def write(self, rows: Sequence[VectorWrite]) -> WriteResult:
        self._request("write")
        if self.refused & {row.id for row in rows}:
            raise RowsRefused(
                "DatabaseRefused", "PostgreSQL refuses the statement: CheckViolation (23514)", sqlstate="23514"
            )
        unlocked = [row for row in rows if row.id in self.texts and row.id not in self.locked]
        written = {row.id for row in unlocked if self.hash_of(row.id) == row.content_hash}
        for row_id in written - self.suppressed:
            self.embed(row_id)
        return WriteResult(written - self.suppressed, written & self.suppressed)

    async def try_write(self, ids: Sequence[str], vector: Sequence[float] | None = None) -> WriteResult:
        self._request("try_write")
        tried = set(ids) - self.locked
        return WriteResult(tried - self.suppressed, tried & self.suppressed)

    async def find_locked(self, ids: Sequence[str]) -> set[str]:
        self._request("find_locked")
        return set(ids) & self.locked

    async def rows_to_compare(self, *, except_ids: Sequence[str]) -> list[str]:
        self._request("rows_to_compare")
        return [row_id for row_id in self.embedded if row_id not in except_ids]

    async def clear(self, ids: Sequence[str]) -> None:
        self._request("clear")
        for row_id in ids:
            self.marks.pop(row_id, None)

    async def audit(self, *, after_id: str | None, limit: int) -> AuditPage:
        self._request("audit")
        ids = sorted(row_id for row_id in self.texts if after_id is None or row_id > after_id)
        page = ids[:limit]
        found = [row_id for row_id in page if not self._is_up_to_date(row_id) and row_id not in self.marks]
        for row_id in found:
            self.mark(row_id, edited=False)
        return AuditPage(page[-1] if len(page) == limit else None, len(page), len(found))

    async def counts_and_use(self, *, dead_letters: Iterable[str] = ()) -> tuple[Counts, Used | None]:
        return await self.counts(dead_letters=dead_letters), await self.used_today()

    async def counts(self, *, dead_letters: Iterable[str] = ()) -> Counts:
        self._request("counts")
        alive = bool(set(self.marks) - set(dead_letters))
        blank = sum(is_blank(self.texts[row_id]) for row_id in self.embedded if row_id in self.texts)
        return Counts(len(self.texts), len(self.marks), alive, None, estimated=False, blank=blank)

    async def acquire_texts(self, tokens: Sequence[int], limits: Limits) -> Granted:
        self._request("acquire_texts")
        used = self.used or Used("2026-03-01", 0, 0)
        granted = max(0, min(len(tokens), limits.texts_per_day - used.texts))
        self.used = replace(used, texts=used.texts + granted, tokens=used.tokens + tokens[-1])
        sent = Sent(self.used.texts, self.used.tokens, self.used.tokens)
        return Granted(granted, None if granted == len(tokens) else reached(limits, sent, next_tokens=0))

    async def record_usage(self, notes: Sequence[UsageNote], *, now: float) -> None:
        self._request("record_usage")
        self.notes.extend(notes)

    async def return_texts(self, texts: int, *, tokens: int, counted_s_ago: float) -> None:
        self._request("return_texts")
        if self.used is not None:
            self.used = replace(self.used, texts=self.used.texts - texts, tokens=self.used.tokens - tokens)

    async def acquire_rate(
        self, key: str, limits: RateLimits, *, texts: int, tokens: int, longest_wait_s: float
    ) -> RateGrant:
        return RateGrant(granted=True, wait_s=0.0)

    async def used_today(self) -> Used | None:
        self._request("used_today")
        return self.used

    async def record_outcomes(self, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
        self._request("record_outcomes")
        self.recorded.extend(outcomes)

    async def is_filled(self) -> bool:
        self._request("is_filled")
        return self.filled

    async def record_filled(self) -> int | None:
        self._request("record_filled")
        self.filled = True
        return self.adopted
