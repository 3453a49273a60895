"""Creates and connects the objects through which the rows of one source pass: batcher, row embedder, provider calls.

Called by the operator's set-up of a source. It starts nothing: the source's loop enters the batcher.
"""

from dataclasses import dataclass

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import Clock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.outcome import RowOutcome, RowRequest
from embedding_worker.providers.calls import Problem, ProviderCalls, problem_of
from embedding_worker.providers.embedder import SharedEmbedder
from embedding_worker.rows.store import RowStore
from embedding_worker.source import TooLong

RowBatcher = Batcher[RowRequest, RowOutcome]


@dataclass(frozen=True)
class RowPipeline:
    embedder: SharedEmbedder
    calls: ProviderCalls
    rows: RowEmbedder
    batcher: RowBatcher
    """Where rows are submitted, one by one."""

    @property
    def problem(self) -> Problem | None:
        """What prevents all calls: a failure of this source's own, or a pause that any source of the same key was asked for."""
        pause = self.embedder.throttled_by
        return self.calls.problem or (problem_of(pause) if pause is not None else None)


def make_pipeline(
    store: RowStore, embedder: SharedEmbedder, *, too_long: TooLong, max_texts_per_day: int, clock: Clock
) -> RowPipeline:
    """The pipeline of the source that this store belongs to. Every text is counted in the database before it is sent."""

    async def acquire_texts(texts: int, tokens: int) -> int:
        return await store.acquire_texts(texts, tokens=tokens, most_a_day=max_texts_per_day)

    calls = ProviderCalls(embedder, acquire_texts=acquire_texts, clock=clock)
    rows = RowEmbedder(store, calls, too_long=too_long, clock=clock)
    return RowPipeline(embedder, calls, rows, Batcher(rows.embed_batch, max_items=embedder.max_texts, clock=clock))
