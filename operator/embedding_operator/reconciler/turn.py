"""Decides what a source's loop does in a turn, and how it goes on after an error. Pure; called by source_loop.py."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from embedding_operator.api_errors import ApiServerUnavailable, RequestRefused
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.providers.problem import Problem

REFUSED_PAUSE_S = 5.0
"""A refused source is looked at again this often: the remedy may be in the database, which does not notify us."""
UNREACHABLE_PAUSE_S = 2.0
LONGEST_PAUSE_S = 5.0
COUNT_EVERY_S = 0.5
CALM_PAUSE_S = 9.0
"""The pause of a source with nothing to do, which a peek ends. It bounds the age of its counts, which are written every ten
seconds, and the delay of a mark that peeks cannot see, because a mark with a higher number stays."""
LOCKED_TURNS = 5
"""Rows that are locked now and then are normal; after so many turns in a row the status says it."""


@dataclass(frozen=True)
class LoopSettings:
    interval_s: float
    """The pause after a turn without an error, while there is work, or while marks cannot be peeked at."""
    price_per_million_tokens: float
    may_work: Callable[[], bool] = lambda: True
    """Whether this process leads, and so may create jobs and begin backfills."""


class Step(Enum):
    SWEEP = "Sweep"
    AUDIT_WHOLE_TABLE = "AuditWholeTable"
    AUDIT_STEP = "AuditStep"


@dataclass(frozen=True)
class Look:
    """What a loop sees at the beginning of a turn."""

    suspended: bool
    draining: bool
    requested: str | None
    """The token of the newest request to reconcile."""
    handled: str | None
    """The token of the last request that was carried out."""
    nothing_to_sweep: bool = False
    """It is known that there is no change mark, and no job."""


def steps(look: Look) -> tuple[Step, ...]:
    """What is to be done in this turn, in order."""
    sweep = () if look.suspended or look.draining or look.nothing_to_sweep else (Step.SWEEP,)
    whole = (Step.AUDIT_WHOLE_TABLE,) if look.requested != look.handled else ()
    return (*sweep, *whole, Step.AUDIT_STEP)


def must_count(*, counted_s_ago: float | None, changed: bool) -> bool:
    """Whether the due rows are counted now: the last count is old or missing, or an audit has changed what it counted."""
    return changed or counted_s_ago is None or counted_s_ago >= COUNT_EVERY_S


def goes_on(error: Exception) -> bool:
    """Whether audit and count are done although the sweep of the same turn has failed: they do not need the API server."""
    return isinstance(error, (ApiServerUnavailable, RequestRefused))


@dataclass(frozen=True)
class Reaction:
    """How a loop goes on after an error."""

    pause_s: float
    waiting_for: Problem | None = None
    """What cannot be reached, or is locked; None where the error is of the source itself."""
    refused: tuple[str, str] | None = None
    """Reason and message of Stalled."""


def pause_s(interval_s: float, reaction: Reaction | None, *, calm_s: float | None) -> float:
    """How long to wait after a turn. `calm_s`: how long the audit may pause where nothing is left to do, and a new mark ends the
    pause; 0 where there is work. None: the first pass of the audit goes on, which takes no pauses.
    """
    if reaction is not None:
        return max(reaction.pause_s, interval_s)
    return 0.0 if calm_s is None else max(min(calm_s, CALM_PAUSE_S), interval_s)


def after_failed_turn(error: Exception, *, locked_turns: int) -> Reaction | None:
    """How a source that is set up goes on; None where it has to be set up again. `locked_turns` counts this one too."""
    match error:
        case RowsLocked() if locked_turns < LOCKED_TURNS:
            return Reaction(0.0)
        case RowsLocked():
            problem = Problem("RowsLocked", f"the database: {error}, several times in a row")
            return Reaction(UNREACHABLE_PAUSE_S, problem)
        case DatabaseUnavailable():
            return Reaction(UNREACHABLE_PAUSE_S, _of_the_database(error))
        case ApiServerUnavailable(retry_after_s=seconds):
            pause_s = min(max(seconds, UNREACHABLE_PAUSE_S), LONGEST_PAUSE_S)
            return Reaction(pause_s, Problem("ApiServerUnavailable", f"the API server: {error}"))
        case RequestRefused():
            return Reaction(LONGEST_PAUSE_S, Problem("RequestRefused", f"the API server refuses: {error}"))
    return None


def after_failed_setup(error: Exception) -> Reaction:
    """How a source goes on that could not be set up, or has to be set up again."""
    match error:
        case SourceRefused(reason=reason, message=message):
            return Reaction(REFUSED_PAUSE_S, refused=(reason, message))
        case DatabaseUnavailable() | RowsLocked():
            return Reaction(UNREACHABLE_PAUSE_S, _of_the_database(error))
    message = f"an unexpected error, {type(error).__name__}: see the operator's log, and report it"
    return Reaction(REFUSED_PAUSE_S, refused=("InternalError", message))


def _of_the_database(error: Exception) -> Problem:
    return Problem(type(error).__name__, f"the database: {error}")
