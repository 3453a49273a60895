"""What `watch` shows: the sources as they are, how many texts they send in a second, and their newest transitions. Pure.

Called by watching.py with each change.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings.cluster import Json
from kubectl_embeddings.layout import one_line, printable, table
from kubectl_embeddings.source_watch import Change, Kind
from kubectl_embeddings.status import HEADERS, cells, pressing
from kubectl_embeddings.views import source_of

RATE_OVER = timedelta(minutes=1)
KEPT_TRANSITIONS = 50
ALL_HEADERS = (*HEADERS, "TEXTS/S")
DELETED = "(deleted)"


@dataclass(frozen=True, order=True)
class Transition:
    at: datetime
    source: str
    what: str


@dataclass
class Sent:
    """How many texts a source had sent today, at the moments of its last minute."""

    samples: deque[tuple[datetime, str, int]] = field(default_factory=deque)

    def add(self, now: datetime, body: Json) -> None:
        today = (body.get("status") or {}).get("today") or {}
        self.samples.append((now, today.get("date", ""), today.get("texts", 0)))
        while len(self.samples) > 2 and self.samples[1][0] <= now - RATE_OVER:
            self.samples.popleft()

    def per_second(self, now: datetime) -> str:
        """Since the oldest sample; empty before there are two of one day."""
        if len(self.samples) < 2:
            return ""
        (since, day, before), (_, same_day, after) = self.samples[0], self.samples[-1]
        passed = (now - since).total_seconds()
        return f"{max(0, after - before) / passed:.1f}" if day == same_day and passed > 0 else ""


class LiveState:
    def __init__(self) -> None:
        self.problem = ""
        """What is wrong with the API server, while it is."""
        self._bodies: dict[str, Json] = {}
        self._sent: dict[str, Sent] = {}
        self._transitions: list[Transition] = []

    def apply(self, change: Change, now: datetime) -> None:
        before = self._bodies.get(change.name)
        if change.kind is Kind.DELETED:
            self._bodies.pop(change.name, None)
            self._sent.pop(change.name, None)
            self._remember([Transition(now, change.name, "deleted")])
            return
        self._bodies[change.name] = change.body
        self._sent.setdefault(change.name, Sent()).add(now, change.body)
        self._remember(transitions(before, change.body, now))

    def _remember(self, found: Sequence[Transition]) -> None:
        self._transitions = sorted({*self._transitions, *found})[-KEPT_TRANSITIONS:]

    def row(self, name: str, now: datetime) -> list[str]:
        """The cells of a source; of one that was deleted, its name."""
        if name not in self._bodies:
            return [name, DELETED, *("" for _ in ALL_HEADERS[2:])]
        found = [*cells(source_of(self._bodies[name]), now), self._sent[name].per_second(now)]
        return [one_line(cell) for cell in found]

    def lines(self, now: datetime, *, width: int, height: int) -> list[str]:
        """The table, and below it as many of the newest transitions as there is room for, the newest first."""
        rows = [self.row(name, now) for name in sorted(self._bodies)]
        shown = table(ALL_HEADERS, rows, width=width).splitlines() if rows else ["no EmbeddingSource"]
        shown += ["", one_line(self.problem)] if self.problem else []
        room = max(height - len(shown) - 2, 0)
        newest = [
            printable(f"{one.at:%Y-%m-%d %H:%M:%SZ}  {one.source}  {one.what}") for one in self._transitions[::-1]
        ][:room]
        return [line if len(line) <= width else f"{line[: width - 1]}…" for line in (*shown, "", *newest)]

    def needs_attention(self) -> set[str]:
        """The names of the sources whose rows do not become fresh, or of which somebody should know something."""
        return {name for name, body in self._bodies.items() if pressing(source_of(body))}


def transitions(before: Json | None, body: Json, now: datetime) -> list[Transition]:
    """The conditions that have changed; at first, when each of them did. A reason that changed alone has no time of its own."""
    known = {} if before is None else {one["type"]: one for one in _conditions(before)}
    found = []
    for one in _conditions(body):
        earlier = known.get(one["type"], {})
        if (earlier.get("status"), earlier.get("reason")) == (one.get("status"), one.get("reason")):
            continue
        since = parsed_timestamp(one.get("lastTransitionTime")) or now
        at = now if earlier and earlier.get("status") == one.get("status") else since
        message = " ".join(str(one.get("message") or "").split())
        what = f"{one['type']} is {one.get('status')} ({one.get('reason')})"
        found.append(Transition(at, body["metadata"]["name"], f"{what}: {message}" if message else what))
    return found


def _conditions(body: Json) -> list[Json]:
    return list((body.get("status") or {}).get("conditions") or ())
