"""Decides what refused create requests mean: one row's own refusal, or one that all rows share. Pure; called by job_creator.py.

A policy, a quota or a dead webhook refuses every job. Then few probes are sent instead of a create for each due row, and the
source's status says why. A row whose job alone is refused is left out, and stops no other row. Probes are random due rows, so
that one that is accepted is found soon, however many rows are refused. All moments are of the monotonic clock, in seconds.
"""

import math
import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable

ROW_PAUSE_S = 60.0
"""How long a row is left out after its job or its write was refused: trying again at once would most likely fail too."""
LONGEST_ROW_PAUSE_S = 600.0
"""The pause of a row doubles with each refusal, up to this."""
SEVERAL = 3
"""So many rows that are refused alike are not one row's own fault."""
LASTING_S = 60.0
"""If none is accepted for so long, several rows are reported although others were accepted before."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 8.0
"""Between two probes. All work continues within ten seconds after the cause is removed."""
SERVERS_LONGEST_PAUSE_S = 60.0
"""A server may ask for a longer pause, but not for more than this."""
PROBES = 2
MOST_ROWS_LEFT_OUT = 2_000
"""With more, a sweep would read them all to find the others."""
MOST_ROWS_PASSED = 10_000
"""How many rows the probes may pass over before they begin with the oldest again."""
TOLERATED = 500
"""So many rows refused alike, one after the other, hold no job where other rows have been accepted since the first."""
OVERLOADED_FOR_S = 15.0
"""An answer 429 or 5xx is normal for some seconds; after that someone must act."""
MAX_MESSAGE = 1_000
OF_THE_SOURCE = re.compile("exceeded quota|cannot create resource")
"""What Kubernetes says where a quota or a right is the reason, and never a row."""


@dataclass(frozen=True)
class Refused:
    row: str
    job: str
    error: ApiServerError


@dataclass(frozen=True)
class LeftOut:
    """A row that was refused."""

    until: float
    pause_s: float


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
    last_at: float = 0.0
    accepted_at: float | None = None
    """When another row was last accepted, since the first of these refusals."""
    new: set[str] = field(default_factory=set)
    """Rows that were refused for the first time since then."""
    rows: dict[str, LeftOut] = field(default_factory=dict)

    @property
    def stops_all(self) -> bool:
        """Whether other rows would most likely be refused too."""
        return self.whole_source or len(self.new) >= (SEVERAL if self.accepted_at is None else TOLERATED)

    def is_reported(self, now: float) -> bool:
        """Whether someone must act before the jobs of other rows can be created."""
        if self.overload and now - self.since < OVERLOADED_FOR_S:
            return False
        lasting = self.accepted_at is not None and now - self.accepted_at >= LASTING_S
        return self.stops_all or (lasting and len(self.new) >= SEVERAL)

    def is_recent(self, now: float) -> bool:
        """A probe was refused a short time ago. There is none if no row is due any longer, for example if all were deleted."""
        tried = any(row.until > now - ROW_PAUSE_S for row in self.rows.values())
        return tried or now - self.last_at < 2 * ROW_PAUSE_S

    def record(self, row: str, now: float) -> None:
        """This row's job was refused."""
        self.last_at = now
        if self.whole_source:
            return
        before = self.rows.get(row)
        if before is None:
            self.new.add(row)
        pause_s = ROW_PAUSE_S if before is None else min(2 * before.pause_s, LONGEST_ROW_PAUSE_S)
        self.rows[row] = LeftOut(now + pause_s, pause_s)
        self.probe_at = now + LONGEST_PAUSE_S if len(self.rows) >= SEVERAL else math.inf

    def record_accepted(self, now: float) -> None:
        """Another row was accepted."""
        self.accepted_at = now
        self.new.clear()

    def left_out(self, now: float) -> list[str]:
        """Its rows that get no job now: all but one, another one each second, when it is time for a probe."""
        rows = [row for row, left_out in self.rows.items() if left_out.until > now]
        if rows and now >= self.probe_at:
            del rows[int(now) % len(rows)]
        return rows


class Refusals:
    """The refused creates of one source."""

    def __init__(self, *, choose: Callable[[Sequence[str], int], list[str]] = random.sample) -> None:
        self._choose = choose
        self._groups: dict[str, Group] = {}
        self._pause_s = 0.0
        self._next_probe_at = -math.inf
        self._passed: set[str] = set()
        """Rows that the probes have passed over or tried since the hold began."""

    @property
    def holding(self) -> bool:
        """Whether only probes are created at the moment."""
        return self._pause_s > 0.0

    def shared(self, now: float) -> tuple[str, str] | None:
        """Reason and message where someone must act before all jobs can be created."""
        for group in self._groups.values():
            if group.is_reported(now):
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
        of_groups = {row for group in self._groups.values() for row in group.left_out(now)}
        again = {row for group in self._groups.values() for row in group.rows} - of_groups
        return of_groups | (self._passed - again)

    def why_left_out(self, row: str, now: float) -> tuple[str, str] | None:
        """Reason and message if the job of this row was refused and is not tried again yet; None otherwise."""
        for group in self._groups.values():
            if row in group.rows and group.rows[row].until > now:
                return "JobRefused", f"the API server has refused its job, which is tried again: {group.message}"
        return None

    def choose(self, rows: Sequence[str], free: int, now: float) -> list[str]:
        """Which of these rows get a job now. While jobs are refused: a few at random; the next probes pass over the others.

        When only rows are left that were refused, the probes begin with the oldest again.
        """
        limit = self.limit(free, now)
        if not self.holding or not limit:
            return list(rows)[:limit]
        refused = {row for group in self._groups.values() for row in group.rows}
        if refused.issuperset(rows) or len(self._passed) + len(rows) > MOST_ROWS_PASSED:
            self._passed.clear()
        self._passed.update(rows)
        return self._choose(rows, min(limit, len(rows)))

    def record(self, accepted: Collection[str], refused: Collection[Refused], now: float) -> None:
        """What became of the creates of a sweep."""
        held = self.holding
        if accepted:
            self._groups = {key: group for key, group in self._groups.items() if not group.whole_source}
        known = {row for group in self._groups.values() for row in group.rows}
        for one in refused:
            self._group_of(one, now).record(one.row, now)
        self._groups = {
            key: group
            for key, group in self._groups.items()
            if group.is_recent(now) and (group.whole_source or group.rows.keys().isdisjoint(accepted))
        }
        if accepted:
            self._record_accepted(held, now)
        if accepted or not self._groups:
            self._pause_s = 0.0
            self._passed.clear()
        too_many = sum(len(group.rows) for group in self._groups.values()) > MOST_ROWS_LEFT_OUT
        others = any(one.row not in known for one in refused)  # and not only the probes of rows that are left out
        if refused and (too_many or (not accepted and (held or (others and self._stops_all)))):
            self._hold(refused, now)

    @property
    def _stops_all(self) -> bool:
        return any(group.stops_all for group in self._groups.values())

    def _record_accepted(self, held: bool, now: float) -> None:
        for group in self._groups.values():
            if not group.whole_source:
                group.record_accepted(now)
            if held:  # the cause may have been the same for groups with other messages
                group.probe_at = now

    def _hold(self, refused: Collection[Refused], now: float) -> None:
        self._pause_s = min(max(self._pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        asked = [one.error.retry_after_s for one in refused if isinstance(one.error, ApiServerUnavailable)]
        self._next_probe_at = now + max(self._pause_s, min(max(asked, default=0.0), SERVERS_LONGEST_PAUSE_S))

    def _group_of(self, one: Refused, now: float) -> Group:
        overload = isinstance(one.error, ApiServerUnavailable)
        whole_source = overload or OF_THE_SOURCE.search(str(one.error)) is not None
        return self._groups.setdefault(alike(one), Group(_shown(one), now, math.inf, overload, whole_source))


def alike(refused: Refused) -> str:
    """What refusals of the same cause have in common: the server's message without names and numbers."""
    business = rf"(?<!\w){re.escape(refused.row)}(?!\w)"
    text = re.sub(business, "#", str(refused.error).replace(refused.job, "#"))
    return f"{type(refused.error).__name__} {re.sub(r'[0-9]+', '#', text)}"


def _shown(refused: Refused) -> str:
    """The server's message without the name of one of the jobs, so that the condition does not change with each of them."""
    return str(refused.error).replace(refused.job, "…")[:MAX_MESSAGE]
