"""How many jobs may be open, and whose turn it is: custom resources are the scarce thing. It decides only."""

from collections.abc import Mapping


def share(limit: int, due: Mapping[str, int], source: str) -> int:
    """The part of the window that is this source's, by what is due in each; at least one where anything is due.

    A source that is alone has all of it; a small one is never starved by a large one's backfill.
    """
    mine = due.get(source, 0)
    total = sum(due.values())
    if mine == 0 or mine == total:
        return limit
    return max(1, min(limit * mine // total, limit))


def free(limit: int, *, open_here: int, open_in_all: int, my_share: int) -> int:
    """How many jobs this source may make now: neither its own share nor the whole window is passed."""
    return max(0, min(my_share - open_here, limit - open_in_all))
