"""Decides what refused create requests mean: one row's own refusal, or one that all rows share. Pure; called by job_creator.py.

A policy, a quota or a dead webhook refuses every job. Then few probes are sent instead of a create for each due row, and the
source's status says why. A row whose job alone is invalid is left out for a minute. After either, an accepted probe ends the
pause of all rows at once. All moments are of the monotonic clock, in seconds.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, Invalid

ROW_PAUSE_S = 60.0
"""How long a row is left out after its job or its write was refused: trying again at once would most likely fail too."""
SEVERAL = 3
"""So many refusals alike are not a row's own."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 8.0
"""Between two probes. All work continues within ten seconds after the cause is removed."""
SERVERS_LONGEST_PAUSE_S = 60.0
"""A server may ask for a longer pause, but not for more than this."""
PROBES = 2
MOST_ROWS_LEFT_OUT = 500
"""With more, a sweep would read them all to find the others."""
OVERLOADED_FOR_S = 15.0
"""An answer 429 or 5xx is normal for some seconds; after that someone must act."""
MAX_MESSAGE = 1_000


@dataclass(frozen=True)
class Refused:
    row: str
    job: str
    error: ApiServerError


@dataclass
class Group:
    """Refusals that are alike."""

    message: str
    since: float
    probe_at: float
    """When one of its rows is tried again, before the time of that row has come."""
    overload: bool
    whole_source: bool
    """It cannot be the fault of one row: rights, a quota, an overload."""
    refusals: int = 0
    last_at: float = 0.0
    left_out_until: dict[str, float] = field(default_factory=dict)


class Refusals:
    """The refused creates of one source."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self._pause_s = 0.0
        self._next_probe_at = -math.inf

    @property
    def holding(self) -> bool:
        """Whether only probes are created at the moment."""
        return self._pause_s > 0.0

    def shared(self, now: float) -> tuple[str, str] | None:
        """Reason and message where someone must act before all jobs can be created."""
        for group in self._groups.values():
            lasting = not group.overload or now - group.since >= OVERLOADED_FOR_S
            if lasting and (group.whole_source or group.refusals >= SEVERAL):
                return (
                    "JobsRefused",
                    f"the API server refuses to create jobs: change the policy, quota, webhook or right that its message "
                    f"names: {group.message}",
                )
        return None

    def limit(self, free: int, now: float) -> int:
        """How many jobs may be created now, of so many for which there is room."""
        if not self.holding:
            return free
        return min(free, PROBES) if now >= self._next_probe_at else 0

    def left_out(self, now: float) -> set[str]:
        """The rows that get no job now. One row of each group whose time has come is tried again as a probe."""
        found: set[str] = set()
        for group in self._groups.values():
            rows = [row for row, until in group.left_out_until.items() if until > now]
            found.update(rows[1:] if now >= group.probe_at else rows)
        return found

    def record(self, accepted: Collection[str], refused: Collection[Refused], now: float) -> None:
        """What became of the creates of a sweep."""
        known = {row for group in self._groups.values() for row in group.left_out_until}
        if accepted:
            self._groups = {key: group for key, group in self._groups.items() if not group.whole_source}
        for one in refused:
            self._record_one(one, now)
        self._groups = {
            key: group
            for key, group in self._groups.items()
            if _is_recent(group, now) and (group.whole_source or group.left_out_until.keys().isdisjoint(accepted))
        }
        if accepted and self.holding:  # the cause may have been the same for groups with other messages
            for group in self._groups.values():
                group.probe_at = now
        if accepted or not self._groups:
            self._pause_s = 0.0
        too_many = sum(len(group.left_out_until) for group in self._groups.values()) > MOST_ROWS_LEFT_OUT
        others = any(one.row not in known for one in refused)  # and not only the probes of rows that are left out
        if refused and (too_many or (not accepted and (self.holding or (others and self._any_is_shared())))):
            self._hold(refused, now)

    def _any_is_shared(self) -> bool:
        return any(group.whole_source or group.refusals >= SEVERAL for group in self._groups.values())

    def _hold(self, refused: Collection[Refused], now: float) -> None:
        self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        asked = [one.error.retry_after_s for one in refused if isinstance(one.error, ApiServerUnavailable)]
        self._next_probe_at = now + max(self._pause_s, min(max(asked, default=0.0), SERVERS_LONGEST_PAUSE_S))

    def _record_one(self, one: Refused, now: float) -> None:
        key = alike(one)
        if key not in self._groups:
            overload = isinstance(one.error, ApiServerUnavailable)
            whole = not isinstance(one.error, Invalid)
            self._groups[key] = Group(_shown(one), now, math.inf, overload, whole)
        group = self._groups[key]
        group.refusals += 1
        group.last_at = now
        group.probe_at = now + LONGEST_PAUSE_S if group.refusals >= SEVERAL else math.inf
        if not group.whole_source:
            group.left_out_until[one.row] = now + ROW_PAUSE_S


def _is_recent(group: Group, now: float) -> bool:
    """A probe was refused a short time ago. There is none if no row is due any longer, for example if all were deleted."""
    return now - group.last_at < 2 * ROW_PAUSE_S


def alike(refused: Refused) -> str:
    """What refusals of the same cause have in common: the server's message without names and numbers."""
    business = rf"(?<!\w){re.escape(refused.row)}(?!\w)"
    text = re.sub(business, "#", str(refused.error).replace(refused.job, "#"))
    return f"{type(refused.error).__name__} {re.sub(r'[0-9]+', '#', text)}"


def _shown(refused: Refused) -> str:
    """The server's message without the name of one of the jobs, so that the condition does not change with each of them."""
    return str(refused.error).replace(refused.job, "…")[:MAX_MESSAGE]
