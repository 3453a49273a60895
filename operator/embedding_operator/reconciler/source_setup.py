"""Accepts a source: decides its configuration in force, prepares its table, and creates what its loop works with.

Called by the source's loop, again after each refusal. Creates the source's book-keeping and trigger in the database.
"""

from dataclasses import dataclass

import structlog

from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.source_status import Pending
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.row_queues import RowBatcher
from embedding_operator.reconciler.sweep import JobRegisters, Sweeper
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.batching.batcher import Batcher
from embedding_worker.clock import Clock
from embedding_worker.embedding import RowEmbedder
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.calls import BYTES_PER_TOKEN, ProviderCalls
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig, in_force
from embedding_worker.writer import Writer

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Configuration:
    """The configuration to run, and what is known of a changed one that does not run yet."""

    config: SourceConfig
    pending: Pending | None = None
    """Waits for approval."""
    refused_change: tuple[str, str] | None = None
    """Reason and message, where the changed configuration cannot run; the previous one stays in force."""


@dataclass(frozen=True)
class ReadySource:
    """What the loop of an accepted source works with."""

    store: RowStore
    sweeper: Sweeper
    audit: Audit
    calls: ProviderCalls
    batcher: RowBatcher


class SourceSetup:
    def __init__(
        self,
        database: Database,
        server: ApiServer,
        providers: ProviderRegistry,
        *,
        catalog: SourceCatalog,
        jobs: JobRegisters,
        audit_rows_per_s: float,
        clock: Clock,
    ) -> None:
        self._database = database
        self._server = server
        self._providers = providers
        self._catalog = catalog
        self._jobs = jobs
        self._audit_rows_per_s = audit_rows_per_s
        self._clock = clock

    async def decide_configuration(self, source: EmbeddingSource) -> Configuration:
        """Raises SourceRefused where another source keeps the same column, RowsLocked or DatabaseUnavailable."""
        if (older := self._catalog.older_on_the_same_column(source)) is not None:
            raise SourceRefused("ColumnTaken", f"EmbeddingSource {older} keeps the same column: delete one of the two")
        wanted = source.spec.config()
        record = await RowStore.configuration_on_record(self._database, wanted.at)
        config, waiting = in_force(wanted, record, approved=source.spec.approved_fingerprint)
        if waiting is None:
            return Configuration(config)
        try:
            rows, size = await (await RowStore.inspect(self._database, wanted)).would_embed()
        except SourceRefused as exc:
            log.error("source stalled", source=source.name, reason=exc.reason, message=exc.message)
            message = f"{exc.message} (the previous configuration stays in force)"
            return Configuration(config, refused_change=(exc.reason, message))
        log.info("a changed model or text waits for approval", source=source.name, pending=waiting, rows=rows)
        return Configuration(config, Pending(waiting, rows, size // BYTES_PER_TOKEN))

    async def prepare(self, source: EmbeddingSource, config: SourceConfig) -> ReadySource:
        """Raises SourceRefused, before anything is created in the database where the provider is the reason."""
        spec, clock = source.spec, self._clock
        embedder = self._providers.embedder(config.model, source=source.name)
        store = await RowStore.prepare(self._database, config)
        writer = Writer(store, clock=clock)
        sweeper = Sweeper(
            source.name,
            config.fingerprint,
            store=store,
            writer=writer,
            server=self._server,
            jobs=self._jobs,
            clock=clock,
        )
        filled = await store.is_filled()
        audit = Audit(store, rows_per_s=self._audit_rows_per_s, filled=filled, clock=clock)

        async def acquire_texts(texts: int, tokens: int) -> int:
            return await store.acquire_texts(texts, tokens=tokens, most_a_day=spec.max_texts_per_day)

        calls = ProviderCalls(embedder, acquire_texts=acquire_texts, clock=clock)
        rows = RowEmbedder(store, calls, too_long=spec.model.too_long, clock=clock)
        batcher = Batcher(rows.embed_batch, max_items=embedder.max_texts, clock=clock)
        return ReadySource(store, sweeper, audit, calls, batcher)
