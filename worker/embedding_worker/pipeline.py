"""Creates and connects the objects through which the rows of one source pass: batcher, row embedder, provider calls, gate.

Called by the operator's set-up of a source. It starts nothing: the source's loop enters the pipeline.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import Clock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.limits import DEFAULT_LIMITS, Limits
from embedding_worker.metering import make_meter
from embedding_worker.outcome import RowOutcome, RowRequest, decider
from embedding_worker.outcome_log import OutcomeLog
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.gate import CallGate
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.rows.store import RowStore
from embedding_worker.source import TooLong

RowBatcher = Batcher[RowRequest, RowOutcome]


@dataclass(frozen=True)
class RowPipeline:
    calls: ProviderCalls
    gate: CallGate
    """Where rows wait that were released by Postponed."""
    rows: RowEmbedder
    batcher: RowBatcher
    """Where rows are submitted, one by one."""
    outcomes: OutcomeLog
    """Where it is noted what became of rows, other than that they were embedded."""
    limits: Limits = DEFAULT_LIMITS
    """How much may be sent."""

    def hurry(self, row_id: str, content_hash: str) -> None:
        """If a row that was submitted with this hash waits for its batch, have it read soon: it is known to have changed."""
        self.batcher.hurry(RowRequest(row_id, content_hash))

    @asynccontextmanager
    async def running(self, *, probes: bool) -> AsyncIterator[None]:
        """Accept rows until the block ends. With `probes`, also send probes while the circuit is open."""
        async with self.outcomes.running(), self.calls.usage.running(), self.batcher:
            gate = asyncio.create_task(self.gate.run(probes=probes), name="gate")
            try:
                yield
            finally:
                gate.cancel()
                await asyncio.gather(gate, return_exceptions=True)


def make_pipeline(
    store: RowStore,
    embedder: SharedEmbedder,
    *,
    too_long: TooLong,
    limits: Limits,
    clock: Clock,
    may_work: Callable[[], bool] = lambda: True,
    more_to_come: Callable[[int, bool], bool] = lambda gathered, urgent: False,
    source: str = "",
) -> RowPipeline:
    """The pipeline of the source that this store belongs to. Every text is counted in the database before it is sent.

    `may_work`: whether this process may begin calls. While it may not, rows wait as if the provider was away.
    `more_to_come`: see Batcher. `source` is its name in the log.
    """

    meter = make_meter(store, embedder, limits, source=source, clock=clock)
    gate = CallGate(embedder, meter, clock=clock, may_work=may_work)
    calls = ProviderCalls(embedder, gate, meter, clock=clock)
    decide = decider(max_text_bytes=calls.max_text_bytes, too_long=too_long)
    rows = RowEmbedder(store, calls, decide=decide, clock=clock, unanswered=meter.unanswered)
    batcher = Batcher(
        rows.embed_batch,
        max_items=embedder.max_texts,
        clock=clock,
        more_to_come=more_to_come,
        of_one_call=lambda: calls.size.texts,
    )
    return RowPipeline(calls, gate, rows, batcher, OutcomeLog(store.record_outcomes, clock=clock), limits)
