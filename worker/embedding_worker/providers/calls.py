"""A source's calls to its provider: cut to the size that the server takes, counted by the day, resting when it is told to.

Called by freshen. What stands in the way of all calls is kept as `problem`, for the source's condition ProviderReady.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from embedding_worker.batching.bisect import Halved, Take, embed_halving
from embedding_worker.errors import (
    DayLimitReached,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
)
from embedding_worker.providers.embedder import Embedder, Vector

BYTES_PER_TOKEN = 3
"""A rough count, on the safe side for most languages; the provider's own count is what it bills."""
REST_S = 30.0
"""How long the provider rests when it asks for a rest and does not say how long."""

EXHAUSTED_REST_S = 900.0
"""The same for a quota of the day, or of the bill: nothing changes within seconds."""

AcquireTexts = Callable[[int, int], Awaitable[int]]
"""Counts so many texts, of so many tokens, as sent today; returns how many of them the day's limit still allows."""


@dataclass(frozen=True)
class Problem:
    """Why no call can succeed at the moment: a reason in CamelCase, and a sentence."""

    reason: str
    message: str


class ProviderCalls:
    def __init__(self, embedder: Embedder, *, acquire_texts: AcquireTexts) -> None:
        self.max_text_bytes = embedder.max_text_bytes
        self.problem: Problem | None = None
        self._embedder = embedder
        self._acquire_texts = acquire_texts
        self._most_texts = embedder.max_texts
        self._rest_until = 0.0
        self._rest_over = asyncio.Event()

    def go_on_with(self, embedder: Embedder) -> None:
        """Call this one from now on, without a rest that the one before was asked for: it has another key."""
        self._embedder = embedder
        self._rest_until = 0.0
        self._rest_over.set()
        self._rest_over = asyncio.Event()

    async def embed(self, texts: Sequence[str], take: Take) -> Halved:
        """Embed texts, giving vectors back as they come. The result speaks of the others, by their place in `texts`."""
        total = Halved()
        start = 0
        while start < len(texts) and total.shared is None:
            wanted = range(start, min(start + self._most_texts, len(texts)))
            part = await self._allowed([texts[place] for place in wanted], wanted)
            if part:
                await self._embed_part(texts, part, take, total)
            if len(part) < len(wanted) and total.shared is None:
                total.shared = DayLimitReached("as many texts were sent today (UTC) as spec.maxTextsPerDay allows")
            start = wanted.stop
        if total.shared is not None:
            self.problem = problem_of(total.shared)
        return total

    async def _allowed(self, texts: Sequence[str], places: range) -> range:
        """The first of these places, as many as may still be sent today; they count as sent."""
        tokens = sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN
        granted = await self._acquire_texts(len(texts), tokens)
        return places[:granted]

    async def _embed_part(self, texts: Sequence[str], part: range, take: Take, total: Halved) -> None:
        async def take_part(places: Sequence[int], vectors: Sequence[Vector]) -> None:
            self.problem = None
            await take([part[place] for place in places], vectors)

        halved = await embed_halving(self._call, [texts[place] for place in part], take_part)
        total.failed_alone |= {part[place]: error for place, error in halved.failed_alone.items()}
        total.shared = halved.shared
        if halved.smallest_refused is not None and halved.largest:
            self._most_texts = min(self._most_texts, halved.largest)

    async def _call(self, texts: Sequence[str]) -> list[Vector]:
        await _rest(max(0.0, self._rest_until - _now()), self._rest_over)
        embedder = self._embedder
        try:
            return await embedder.embed(texts)
        except ProviderThrottled as exc:
            if embedder is self._embedder:
                rest_s = EXHAUSTED_REST_S if exc.quota_exhausted else REST_S
                self._rest_until = _now() + (rest_s if exc.retry_after_s is None else exc.retry_after_s)
            raise


async def _rest(seconds: float, over: asyncio.Event) -> None:
    """As long as this, or until the rest is said to be over."""
    if seconds:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()


def problem_of(error: ProviderError) -> Problem:
    """What is said of the provider while this error stands in the way of everybody."""
    reason = "ProviderUnavailable"
    if isinstance(error, ProviderMisconfigured):
        reason = error.reason
    elif isinstance(error, ProviderThrottled):
        reason = "QuotaExhausted" if error.quota_exhausted else "ProviderThrottled"
    elif isinstance(error, DayLimitReached):
        reason = "DayLimitReached"
    return Problem(reason, error.message)
