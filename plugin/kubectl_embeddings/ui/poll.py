"""Looks at the cluster while somebody looks at the page: one look for all tabs, and none while no tab asks.

Asked by server.py for each request of a tab. A look is not repeated within EVERY_S, nor, up to a minute, within ten times of what
it took: so it keeps the API server busy for a tenth of the time at most. One that failed is repeated soon.
"""

import asyncio
from typing import Any

from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.ui.observation import Observation, look
from kubectl_embeddings.ui.page_state import Place, page_state, placed
from kubectl_embeddings.ui.samples import KEPT_S, Samples

EVERY_S = 4.5
"""A little less than the five seconds after which a tab asks again."""
SHARE, LONGEST_PAUSE_S = 10, 60.0
ANSWER_WITHIN_S = 2.0
"""A tab gets what is known so far, instead of waiting for an API server that does not answer."""


class Poll:
    def __init__(self, cluster: Requests, place: Place, clock: Clock) -> None:
        self._cluster = cluster
        self._place = place
        self._clock = clock
        self._seen = Observation()
        self._samples = Samples()
        self._opened = clock.now()
        self._not_before = clock.monotonic()
        self._look: asyncio.Task[None] | None = None

    async def state(self, source: str = "") -> dict[str, Any]:
        """What the page shows, with the curves of this source, or of all."""
        if (self._look is None or self._look.done()) and self._clock.monotonic() >= self._not_before:
            self._look = asyncio.create_task(self._look_once())
        if self._look is not None:
            await asyncio.wait({self._look}, timeout=ANSWER_WITHIN_S)
        now = self._clock.now()
        return page_state(self._seen, self._place, now=now) | {
            "now": now.timestamp(),
            "opened": self._opened.timestamp(),
            "keptSeconds": KEPT_S,
            "looking": self._look is not None and not self._look.done(),
            "history": {"source": source, **self._samples.curves(source)},
        }

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _look_once(self) -> None:
        """Never raises: whatever goes wrong is shown, and the next look follows."""
        began, before = self._clock.monotonic(), self._seen
        try:
            seen = await look(self._cluster, before, now=self._clock.now())
            page_state(seen, self._place, now=self._clock.now())
            if not seen.sources.problem:
                self._samples.add(self._clock.now(), {key: one.source for key, one in placed(seen.sources).items()})
        except Exception as exc:  # an object of another form, such as that of another version
            seen = before.failed(f"what the API server has answered is not understood ({type(exc).__name__}: {exc})")
        self._seen = seen
        took_s = self._clock.monotonic() - began
        pause_s = took_s + EVERY_S if seen.sources.problem else max(EVERY_S, min(SHARE * took_s, LONGEST_PAUSE_S))
        self._not_before = began + pause_s
