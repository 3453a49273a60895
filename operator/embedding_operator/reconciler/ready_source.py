"""Creates what the loop of an accepted source works with. Called by source_setup.py; reads the database and writes nothing."""

from dataclasses import dataclass

from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.reconciler.table_watch import TableWatch
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.watch import BookkeepingWatch
from embedding_worker.source import SourceConfig


@dataclass(frozen=True)
class ReadySource:
    """What the loop of an accepted source works with."""

    store: RowStore
    sweeper: Sweeper
    audit: Audit
    pipeline: RowPipeline
    watch: TableWatch


async def make_ready_source(
    source: EmbeddingSource,
    table: tuple[RowStore, BookkeepingWatch],
    embedder: SharedEmbedder,
    *,
    config: SourceConfig,
    server: ApiServer,
    jobs: JobRegisters,
    audit_rows_per_s: float,
    clock: Clock,
) -> ReadySource:
    store, watch = table
    filled = await store.is_filled()
    return ReadySource(
        store,
        Sweeper(source.name, config.fingerprint, store=store, server=server, jobs=jobs, clock=clock),
        Audit(store, rows_per_s=audit_rows_per_s, filled=filled, clock=clock),
        make_pipeline(
            store,
            embedder,
            too_long=source.spec.model.too_long,
            max_texts_per_day=source.spec.max_texts_per_day,
            clock=clock,
        ),
        TableWatch(watch, signature=config.signature, clock=clock),
    )
