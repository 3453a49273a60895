"""Decides what is most pressing of a source: one word for the column STATUS of `kubectl get esrc`, and why its jobs wait. Pure.

Called with the source's conditions, by source_status.py and reconciler/waiting_jobs.py. What stops every row goes before what
stops some, and that before what is well.
"""

from collections.abc import Sequence

from embedding_operator.lifecycle.condition import Condition
from embedding_operator.lifecycle.source_conditions import LOCKED

STOPPED = (("Stalled", True), ("DatabaseReady", False), ("Reconciling", True))
"""Types of conditions, and the statuses in which no row becomes fresh; the most pressing one first."""
HINDERED = (
    ("Fresh", None),
    ("ProviderReady", False),
    ("RowsLocked", True),
    ("ReembedRequired", True),
    ("BlankTexts", True),
    ("Backfilling", True),
)
WELL = {"RowsDue": "Sweeping", "AllFresh": "Fresh"}
"""Words for reasons of the condition Fresh that need no attention. Its other reasons are shown as they are."""
SUSPENDED = Condition("Suspended", True, "Suspended", "the source is suspended: set spec.suspend to false")
CALLS_GO_ON = {"SomeCallsFail"}
"""Reasons of ProviderReady=False with which other calls succeed."""


def summary(conditions: Sequence[Condition], *, suspended: bool) -> str:
    """The reason of the most pressing condition."""
    pressing = [*_that_stop(conditions, suspended=suspended), *_found(conditions, HINDERED)]
    if pressing:
        return pressing[0].reason
    (fresh,) = (condition for condition in conditions if condition.type == "Fresh")
    return WELL.get(fresh.reason, fresh.reason)


def why_jobs_wait(conditions: Sequence[Condition], *, suspended: bool, set_up: bool) -> Condition | None:
    """The most pressing condition because of which no open job of the source gets on; None if there is none."""
    return next(iter(all_that_stop(conditions, suspended=suspended, set_up=set_up)), None)


def all_that_stop(conditions: Sequence[Condition], *, suspended: bool, set_up: bool) -> list[Condition]:
    """The conditions because of which no open job of the source gets on, the most pressing one first.

    A source that is set up goes on with its open jobs while it is stalled: it gets no new ones, or keeps its configuration.
    """
    stopped = [one for one in _that_stop(conditions, suspended=suspended) if one.type != "Stalled" or not set_up]
    locked = [one for one in _found(conditions, [("Fresh", None)]) if one.reason == LOCKED]
    provider = [one for one in _found(conditions, [("ProviderReady", False)]) if one.reason not in CALLS_GO_ON]
    return [*stopped, *locked, *provider]


def _that_stop(conditions: Sequence[Condition], *, suspended: bool) -> list[Condition]:
    return [*_found(conditions, STOPPED), *([SUSPENDED] if suspended else [])]


def _found(conditions: Sequence[Condition], wanted: Sequence[tuple[str, bool | None]]) -> list[Condition]:
    by_type = {condition.type: condition for condition in conditions}
    return [by_type[kind] for kind, status in wanted if by_type[kind].status is status]
