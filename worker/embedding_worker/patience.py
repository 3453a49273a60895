"""Ask the database until it answers. Called by embedding.py and providers/meter.py, which must not lose work that is done
or has been paid for because the database is away for a while.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, RowsLocked

log = structlog.get_logger(__name__)

SHOWN_AFTER_TRIES = 5
"""So many tries in a row, in a second and a half, are more than a connection that was lost."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""Short, because all work must continue within ten seconds after the database can be reached again."""
Answer = TypeVar("Answer")


def next_pause(pause_s: float) -> float:
    """The pause after one of `pause_s`: twice as long, up to LONGEST_PAUSE_S."""
    return min(pause_s * 2, LONGEST_PAUSE_S)


class Unanswered:
    """The statements of one source that the database does not answer at the moment, although others may be answered."""

    def __init__(self, source: str = "") -> None:
        self.source = source
        """Its name in the log."""
        self._errors: dict[object, DatabaseUnavailable | RowsLocked] = {}

    @property
    def error(self) -> DatabaseUnavailable | RowsLocked | None:
        """Why one of them is not answered; None if there is none."""
        return next(iter(self._errors.values()), None)

    def record(self, statement: object, error: DatabaseUnavailable | RowsLocked, *, tries: int) -> None:
        """It was tried so often, the last time with this error."""
        if tries >= SHOWN_AFTER_TRIES:
            self._errors[statement] = error

    def forget(self, statement: object) -> None:
        """It was answered, or given up."""
        self._errors.pop(statement, None)


async def until_answered(
    what: str, ask: Callable[[], Awaitable[Answer]], *, clock: Clock, unanswered: Unanswered | None = None
) -> Answer:
    """The answer, after as many tries with growing pauses as it takes while the database is away or rows are locked.

    `what` names the statement in the log. Raises every other error of `ask`. Tells `unanswered` while it waits.
    """
    told, statement = unanswered or Unanswered(), object()
    pause_s, tries = FIRST_PAUSE_S, 0
    try:
        while True:
            try:
                return await ask()
            except (DatabaseUnavailable, RowsLocked) as exc:
                tries += 1
                told.record(statement, exc, tries=tries)
                about = {"source": told.source, "error": type(exc).__name__, "message": str(exc)}
                log.warning("waiting for the database", what=what, pause_s=pause_s, **about)
            await clock.sleep(pause_s)
            pause_s = next_pause(pause_s)
    finally:
        told.forget(statement)
