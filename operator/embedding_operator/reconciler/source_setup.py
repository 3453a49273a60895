"""Accepts a source: prepares its table, and creates what its loop works with.

Called by the source's loop, again after each refusal. Creates the source's book-keeping and trigger in the database.
"""

from dataclasses import dataclass

from embedding_operator.api_server import ApiServer
from embedding_operator.reconciler.audit import Audit
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.configuration import Configuration, decide_configuration
from embedding_operator.reconciler.registers import JobRegisters
from embedding_operator.reconciler.sweep import Sweeper
from embedding_operator.reconciler.table_watch import TableWatch
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError
from embedding_worker.pipeline import RowPipeline, make_pipeline
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.rows.schema import prepare
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.watch import BookkeepingWatch, edits_are_lost


@dataclass(frozen=True)
class ReadySource:
    """What the loop of an accepted source works with."""

    store: RowStore
    sweeper: Sweeper
    audit: Audit
    pipeline: RowPipeline
    watch: TableWatch


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

    async def decide(self, source: EmbeddingSource) -> Configuration:
        """The configuration to prepare. See decide_configuration."""
        return await decide_configuration(source, self._catalog, self._database)

    async def explain(self, source: EmbeddingSource, refused: tuple[str, str]) -> tuple[str, str]:
        """Reason and message of a refusal; the message says it if edits are not recorded meanwhile."""
        reason, message = refused
        try:
            lost = await edits_are_lost(self._database, source.spec.config().at)
        except EmbeddingError:  # the database cannot be reached: it is not known
            lost = False
        return reason, f"{message} (edits are not recorded meanwhile; the next audit finds them)" if lost else message

    async def prepare(self, source: EmbeddingSource, chosen: Configuration) -> ReadySource:
        """Raises SourceRefused, before anything is created in the database where the provider is the reason."""
        config, clock = chosen.config, self._clock
        embedder = self._providers.embedder(config.model, source=source.name)
        # Annotations may have changed since the loop began.
        claim = (self._catalog.get(source.name) or source).claim
        prepared = await prepare(self._database, config, claim)
        store = RowStore(self._database, prepared.statements)
        watch = BookkeepingWatch(self._database, prepared, claim.owner)
        filled = await store.is_filled()
        return ReadySource(
            store,
            Sweeper(source.name, config.fingerprint, store=store, server=self._server, jobs=self._jobs, clock=clock),
            Audit(store, rows_per_s=self._audit_rows_per_s, filled=filled, clock=clock),
            make_pipeline(
                store,
                embedder,
                too_long=source.spec.model.too_long,
                max_texts_per_day=source.spec.max_texts_per_day,
                clock=clock,
            ),
            TableWatch(watch, signature=config.signature, clock=clock),
        )
