"""Runs a statement on rows by id, so that a row that makes it fail does not hide the others. Called by store.py and pages.py.

A text expression may fail for many rows: PostgreSQL finds them in one statement. Where that is not possible, because the
statement fails for another reason or is too slow, the ids are bisected.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from embedding_worker.batching.bisect import AttemptRecord, FailedAlone, StopRule, Unattributed, bisect, never_stop
from embedding_worker.errors import RowsRefused, StatementTimedOut, TableRefused
from embedding_worker.rows.database import Row

Fetch = Callable[[Sequence[str]], Awaitable[Sequence[Row]]]
"""Runs the statement for some ids. The first column of its rows is the id."""
FAILURES_ALIKE = 3
"""A set of rows and its two parts: if all three fail for a reason of the table, the reason is no row's."""


@dataclass(frozen=True)
class EachRow:
    """What a statement returned, by id: a row, or why the row with this id makes it fail. An id in neither is no row's."""

    rows: dict[str, Row] = field(default_factory=dict)
    failures: dict[str, RowsRefused] = field(default_factory=dict)


SucceedsForOthers = Callable[[Sequence[str]], Awaitable[bool]]
"""Whether the statement, or one that needs the same rights, succeeds for any row other than these."""


FindFailing = Callable[[Sequence[str]], Awaitable[Mapping[str, str]]]
"""Finds the rows whose text fails. Returns the kind of the failure by id: failures of one kind have the same error."""


async def of_each_row(
    ids: Sequence[str],
    fetch: Fetch,
    *,
    succeeds_for_others: SucceedsForOthers,
    find_failing: FindFailing | None = None,
) -> EachRow:
    """Run the statement for all ids, and separate those for which it fails.

    Raises TableRefused if the reason is the table, or a right that is missing, and so not a row's own.
    """
    try:
        return EachRow(_by_id(await fetch(ids)))
    except RowsRefused as exc:
        error = exc
    if find_failing is not None and not error.is_of_the_table and not isinstance(error, StatementTimedOut):
        found = await _separate_at_once(ids, fetch, find_failing)
        if found is not None:
            return found
    return await _separate_one_by_one(ids, _known_to_fail(ids, error, fetch), succeeds_for_others)


async def _separate_at_once(ids: Sequence[str], fetch: Fetch, find_failing: FindFailing) -> EachRow | None:
    """With a few statements, however many rows fail. None if these rows do not explain the failure."""
    try:
        failing = await find_failing(ids)
        rest = [row_id for row_id in ids if row_id not in failing]
        rows = _by_id(await fetch(rest)) if rest and failing else {}
    except RowsRefused:
        return None
    examples = {kind: row_id for row_id, kind in failing.items()}
    errors = {kind: await _error_of(row_id, fetch) for kind, row_id in examples.items()}
    failures = {row_id: error for row_id, kind in failing.items() if (error := errors[kind]) is not None}
    unexplained = len(failures) < len(failing) or any(error.is_of_the_table for error in failures.values())
    return EachRow(rows, failures) if failing and not unexplained else None


async def _error_of(row_id: str, fetch: Fetch) -> RowsRefused | None:
    """Why the statement fails for this row alone; None if it succeeds."""
    try:
        await fetch([row_id])
    except RowsRefused as exc:
        return exc
    return None


def _known_to_fail(ids: Sequence[str], error: RowsRefused, fetch: Fetch) -> Fetch:
    """The statement, which has just failed for all these ids together and is not sent again for them."""

    async def fetch_part(part: Sequence[str]) -> Sequence[Row]:
        if len(part) == len(ids):
            raise error
        return await fetch(part)

    return fetch_part


async def _separate_one_by_one(ids: Sequence[str], fetch: Fetch, succeeds_for_others: SucceedsForOthers) -> EachRow:
    try:
        return await separate(ids, fetch, stop=_is_of_the_table)
    except TableRefused as refused:
        try:
            succeeds = await succeeds_for_others(ids)
        except RowsRefused:  # not even the ids of others can be read
            succeeds = False
        if not succeeds:
            raise refused from None
    return await separate(ids, fetch)


async def succeeds_for_any(ids: Sequence[str], fetch: Fetch) -> bool:
    """Whether the statement succeeds for one of these ids alone."""
    for row_id in ids:
        with suppress(RowsRefused):
            await fetch([row_id])
            return True
    return False


async def separate(ids: Sequence[str], fetch: Fetch, *, stop: StopRule = never_stop) -> EachRow:
    """The same, without asking whose the failure is, unless `stop` says that it is the table's."""
    found = EachRow()
    accepted = False

    async def attempt(part: Sequence[str]) -> list[bool]:
        nonlocal accepted
        rows = _by_id(await fetch(part))
        accepted = True
        found.rows.update(rows)
        return [row_id in rows for row_id in part]

    async for outcomes in bisect([ids] if ids else [], attempt, on=RowsRefused, stop=stop):
        for row_id, outcome in outcomes:
            if isinstance(outcome, Unattributed):
                raise TableRefused.by(outcome.error, row_id)
            if isinstance(outcome, FailedAlone):
                found.failures[row_id] = outcome.error
    if not accepted and stop is not never_stop:
        for row_id, error in found.failures.items():
            if error.is_of_the_table:
                raise TableRefused.by(error, row_id)
    return found


async def _is_of_the_table(history: Sequence[AttemptRecord]) -> bool:
    """Whether several attempts have failed for a reason of the table, and none has succeeded, so that others would fail too."""
    return len(history) >= FAILURES_ALIKE and all(
        isinstance(record.error, RowsRefused) and record.error.is_of_the_table for record in history
    )


def _by_id(rows: Iterable[Row]) -> dict[str, Row]:
    return {row[0]: row for row in rows}
