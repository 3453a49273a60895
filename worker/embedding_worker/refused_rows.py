"""What became of rows that were written together, and which of their failures are their own. Pure; called by writer.py."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from embedding_worker.errors import RowsLocked, RowsRefused, StatementTimedOut

LOCKED = "55P03"
"""PostgreSQL's code for a lock that was not granted in time."""


@dataclass(frozen=True)
class Written:
    """What became of rows that were to be written. A row in none was edited, deleted, or is locked by another session."""

    ids: set[str] = field(default_factory=set)
    suppressed: set[str] = field(default_factory=set)
    """Their update has changed nothing, because a trigger or a rule of the application suppresses it."""
    refused: dict[str, RowsRefused] = field(default_factory=dict)
    """Rows that the database refuses to change: they break a constraint, or a trigger of the application raises."""


def are_refused_alike(written: Written) -> bool:
    """Whether rows were refused for the same reason, and none was accepted."""
    reasons = {(error.sqlstate, error.constraint) for error in written.refused.values()}
    return len(reasons) == 1 and not written.ids and not written.suppressed


@contextmanager
def as_refusal() -> Iterator[None]:
    """A lock that a trigger of the application waits for is one row's: the rows are separated, as if one was refused."""
    try:
        yield
    except RowsLocked as exc:
        raise RowsRefused("RowLocked", str(exc), sqlstate=LOCKED) from exc


def own_failures(failures: Mapping[str, RowsRefused]) -> dict[str, RowsRefused]:
    """Without the rows that are locked, and those that take too long: the database is slow, and that is not their failure."""
    return {
        row: error
        for row, error in failures.items()
        if error.sqlstate != LOCKED and not isinstance(error, StatementTimedOut)
    }
