"""Decides the one word that `kubectl get esrc` shows in its column STATUS: the most pressing reason of a source. Pure.

Called by source_status.py with the conditions. What stops every row goes before what stops some, and that before what is well.
"""

from collections.abc import Sequence

from embedding_operator.lifecycle.condition import Condition

STOPPED = (("Stalled", True), ("DatabaseReady", False), ("Reconciling", True))
"""Types of conditions, and the statuses in which no row becomes fresh; the most pressing one first."""
HINDERED = (
    ("Fresh", None),
    ("ProviderReady", False),
    ("ReembedRequired", True),
    ("BlankTexts", True),
    ("Backfilling", True),
)
WELL = {"RowsDue": "Sweeping", "AllFresh": "Fresh"}
"""Words for reasons of the condition Fresh that need no attention. Its other reasons are shown as they are."""


def summary(conditions: Sequence[Condition], *, suspended: bool) -> str:
    """The reason of the most pressing condition."""
    found = {condition.type: condition for condition in conditions}
    pressing = [*_reasons(found, STOPPED), *(["Suspended"] if suspended else []), *_reasons(found, HINDERED)]
    if pressing:
        return pressing[0]
    return WELL.get(found["Fresh"].reason, found["Fresh"].reason)


def _reasons(found: dict[str, Condition], shown: Sequence[tuple[str, bool | None]]) -> list[str]:
    return [found[kind].reason for kind, status in shown if found[kind].status is status]
