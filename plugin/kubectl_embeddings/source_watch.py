"""Follows the sources of a namespace for as long as it is asked to: one watch after the other, and a list where that is needed.

Called by watching.py; the requests are those of cluster.py.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from embedding_operator.api_errors import ApiServerUnavailable, Unauthorized
from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Json, Requests, VersionExpired

WATCH_S = 60.0
SHORTEST_S = 1.0
"""A watch that ends at once is not requested again at once."""
LONGEST_PAUSE_S = 15.0
ANSWERS_AGAIN = "the API server answers again"


class Kind(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True)
class Change:
    """A source as it is now; of one that was deleted, as it was last."""

    kind: Kind
    body: Json

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])


class SourceWatch:
    """What is known of the sources, and the version up to which it is known."""

    def __init__(self, cluster: Requests, *, clock: Clock, note: Callable[[str], None]) -> None:
        """`note` is called with a sentence when the API server is lost, and when it answers again."""
        self._cluster = cluster
        self._clock = clock
        self._note = note
        self._known: dict[str, Json] = {}
        self._version: str | None = None
        self._failures = 0

    async def changes(self) -> AsyncIterator[Change]:
        """What is there, and then each change, without end. Raises ApiServerError where waiting does not help, or at first."""
        for change in await self._listed():
            yield change
        while True:
            began_s = self._clock.monotonic()
            try:
                async for change in self._next_changes():
                    yield change
            except VersionExpired:
                self._version = None
            except ApiServerUnavailable as exc:
                await self._wait(exc)
            if (left_s := began_s + SHORTEST_S - self._clock.monotonic()) > 0:
                await self._clock.sleep(left_s)

    async def _next_changes(self) -> AsyncIterator[Change]:
        if self._version is None:
            for change in await self._listed():
                yield change
            self._answered()
        async for event in self._cluster.watch_sources(self._version or "", within_s=WATCH_S):
            self._answered()
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] in set(Kind):
                yield self._learned(Change(Kind(event["type"]), event["object"]))
        self._answered()

    async def _listed(self) -> list[Change]:
        bodies, self._version = await self._cluster.sources_at()
        return list(self._differences({body["metadata"]["name"]: body for body in bodies}))

    def _differences(self, bodies: dict[str, Json]) -> Iterator[Change]:
        for name in sorted(self._known.keys() - bodies.keys()):
            yield self._learned(Change(Kind.DELETED, self._known[name]))
        for name, body in sorted(bodies.items()):
            if name not in self._known:
                yield self._learned(Change(Kind.ADDED, body))
            elif _version(self._known[name]) != _version(body):
                yield self._learned(Change(Kind.MODIFIED, body))

    def _learned(self, change: Change) -> Change:
        if change.kind is Kind.DELETED:
            self._known.pop(change.name, None)
        else:
            self._known[change.name] = change.body
        return change

    async def _wait(self, exc: ApiServerUnavailable) -> None:
        """Credentials that are refused may have just expired, and are read again once."""
        self._failures += 1
        if isinstance(exc, Unauthorized) and self._failures > 1:
            raise exc
        if self._failures == 1:
            self._note(f"{exc}: what is shown is what was known before, and it is asked again")
        await self._clock.sleep(min(max(exc.retry_after_s, 2.0 ** (self._failures - 1)), LONGEST_PAUSE_S))

    def _answered(self) -> None:
        if self._failures:
            self._note(ANSWERS_AGAIN)
        self._failures = 0


def _version(body: Json) -> str:
    return str(body["metadata"].get("resourceVersion", ""))
