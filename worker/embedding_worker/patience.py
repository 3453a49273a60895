"""Ask the database until it answers. Called by embedding.py and providers/meter.py, which must not lose work that is done
or has been paid for because the database is away for a while.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import DatabaseUnavailable, RowsLocked

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""Short, because all work must continue within ten seconds after the database can be reached again."""
Answer = TypeVar("Answer")


def next_pause(pause_s: float) -> float:
    """The pause after one of `pause_s`: twice as long, up to LONGEST_PAUSE_S."""
    return min(pause_s * 2, LONGEST_PAUSE_S)


async def until_answered(what: str, ask: Callable[[], Awaitable[Answer]], *, clock: Clock) -> Answer:
    """The answer, after as many tries with growing pauses as it takes while the database is away or rows are locked.

    `what` names the statement in the log. Raises every other error of `ask`.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await ask()
        except (DatabaseUnavailable, RowsLocked) as exc:
            log.warning(
                "waiting for the database", what=what, error=type(exc).__name__, message=str(exc), pause_s=pause_s
            )
        await clock.sleep(pause_s)
        pause_s = next_pause(pause_s)
