"""Makes a source's calls to its provider: with as many texts as the server accepts, counted by day, and bisected if they fail.

Called by embedding.py. If the last call failed because of the provider, `problem` says why, for the condition ProviderReady.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from embedding_worker.batching.bisect import FailedAlone, Outcomes, Unattributed, bisect
from embedding_worker.clock import Clock
from embedding_worker.errors import (
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
)
from embedding_worker.patience import until_answered
from embedding_worker.providers.attribution import is_shared_failure
from embedding_worker.providers.embedder import Embedder, Vector

BYTES_PER_TOKEN = 3
"""An estimate that is higher than the real number for most languages. The provider bills its own count."""
DAY_LIMIT = "as many texts were sent today (UTC) as spec.maxTextsPerDay allows"
Key = TypeVar("Key", bound=Hashable)
AcquireTexts = Callable[[int, int], Awaitable[int]]
"""Counts texts (first parameter) and their tokens (second) as sent today. Returns how many texts the limit of the day allows."""


@dataclass(frozen=True)
class Problem:
    """Why calls fail at the moment: a reason in CamelCase, and a sentence."""

    reason: str
    message: str


class ProviderCalls:
    """The calls of one source. Safe to use from several tasks at once."""

    def __init__(self, embedder: Embedder, *, acquire_texts: AcquireTexts, clock: Clock) -> None:
        self.max_text_bytes = embedder.max_text_bytes
        self.problem: Problem | None = None
        self.called = False
        """A call has succeeded."""
        self._embedder = embedder
        self._acquire_texts = acquire_texts
        self._clock = clock
        self._most_texts = embedder.max_texts

    async def embed(self, texts: Mapping[Key, str]) -> AsyncIterator[Outcomes[Key, Vector, ProviderError]]:
        """Embed texts. Yields the vectors of each call as soon as it has returned, and at the end the other texts' failures.

        Every text is counted before it is sent. Texts beyond the day's limit are not sent.
        """
        sizes = _Sizes[Key]()

        async def attempt(keys: Sequence[Key]) -> list[Vector | Unattributed[ProviderError]]:
            return await self._attempt(keys, texts, sizes)

        most = self._most_texts
        async for outcomes in bisect(list(texts), attempt, on=ProviderError, largest=most, stop=is_shared_failure):
            for key, outcome in outcomes:
                if isinstance(outcome, FailedAlone):
                    sizes.failed_alone.add(key)
                elif isinstance(outcome, Unattributed):
                    self.problem = problem_of(outcome.error)
                    sizes.conclusive = False
            yield outcomes
        if sizes.any_was_too_large():
            self._most_texts = min(self._most_texts, sizes.largest_accepted)

    async def _attempt(
        self, keys: Sequence[Key], texts: Mapping[Key, str], sizes: "_Sizes[Key]"
    ) -> list[Vector | Unattributed[ProviderError]]:
        """Call with these texts, or with as many of them as may still be sent today."""
        allowed = await self._acquire([texts[key] for key in keys])
        if not allowed:
            raise DayLimitReached(DAY_LIMIT)
        sent = keys[:allowed]
        try:
            vectors = await self._embedder.embed([texts[key] for key in sent])
        except InputRejected:
            sizes.rejected.append(sent)
            raise
        sizes.largest_accepted = max(sizes.largest_accepted, len(sent))
        self.problem = None
        self.called = True
        unsent = Unattributed[ProviderError](DayLimitReached(DAY_LIMIT))
        return [*vectors, *(unsent for _ in keys[allowed:])]

    async def _acquire(self, texts: Sequence[str]) -> int:
        tokens = sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN
        return await until_answered("count texts", lambda: self._acquire_texts(len(texts), tokens), clock=self._clock)


@dataclass
class _Sizes(Generic[Key]):
    """What the calls for one set of texts say about the number of texts that the server accepts in one call."""

    largest_accepted: int = 0
    rejected: list[Sequence[Key]] = field(default_factory=list)
    failed_alone: set[Key] = field(default_factory=set)
    conclusive: bool = True
    """Every text has a vector or has failed alone, so it is known which rejections had a text as their cause."""

    def any_was_too_large(self) -> bool:
        """Whether a call was rejected, but none of its texts was when sent with fewer others: it had too many texts."""
        rejected_whole = any(self.failed_alone.isdisjoint(keys) for keys in self.rejected)
        return self.conclusive and bool(self.largest_accepted) and rejected_whole


def problem_of(error: ProviderError) -> Problem:
    """What the source's condition ProviderReady says after this error."""
    match error:
        case ProviderMisconfigured():
            reason = error.reason
        case ProviderThrottled():
            reason = "QuotaExhausted" if error.quota_exhausted else "ProviderThrottled"
        case DayLimitReached():
            reason = "DayLimitReached"
        case _:
            reason = "ProviderUnavailable"
    return Problem(reason, error.message)
