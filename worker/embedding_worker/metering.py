"""Creates what counts the texts of one source: in the database, within its limits and the rate limits. Called by pipeline.py."""

from collections.abc import Sequence

from embedding_worker.clock import Clock
from embedding_worker.limits import Granted, Limits
from embedding_worker.providers.meter import Counters, Meter
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.rows.records import RateGrant, UsageNote
from embedding_worker.rows.store import RowStore


def make_meter(store: RowStore, embedder: SharedEmbedder, limits: Limits, *, source: str, clock: Clock) -> Meter:
    """The meter of the source that this store belongs to. `source` is its name in the log."""

    async def acquire_texts(tokens: Sequence[int]) -> Granted:
        return await store.acquire_texts(tokens, limits)

    async def return_texts(texts: int, tokens: int, counted_s_ago: float) -> None:
        await store.return_texts(texts, tokens=tokens, counted_s_ago=counted_s_ago)

    async def acquire_rate(texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
        key, rates = embedder.limits
        return await store.acquire_rate(key, rates, texts=texts, tokens=tokens, longest_wait_s=longest_wait_s)

    async def record_usage(notes: Sequence[UsageNote]) -> None:
        await store.record_usage(notes, now=clock.monotonic())

    return Meter(Counters(acquire_texts, return_texts, acquire_rate, record_usage), source=source, clock=clock)
