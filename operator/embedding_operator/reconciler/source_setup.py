"""Accepts a source: prepares its table, and creates what its loop works with.

Called by the source's loop, again after each refusal. Creates the source's book-keeping and trigger in the database.
"""

from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.configuration import (
    ChangedConfiguration,
    Configuration,
    Progress,
    decide_configuration,
)
from embedding_operator.reconciler.ready_source import ReadySource, make_ready_source
from embedding_operator.reconciler.registers import SharedParts
from embedding_operator.reconciler.table_watch import TableWatch
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.errors import EmbeddingError, SourceRefused, TableRefused
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.watch import claim_table, edits_are_lost


class SourceSetup:
    def __init__(
        self, database: Database, providers: ProviderRegistry, *, catalog: SourceCatalog, shared: SharedParts
    ) -> None:
        self._database = database
        self._providers = providers
        self._catalog = catalog
        self._shared = shared
        self._changed = ChangedConfiguration(database, clock=shared.clock)
        self._prepared: Configuration | None = None
        """The last one, which is in force."""

    async def decide(self, source: EmbeddingSource, progress: Progress) -> Configuration:
        """The configuration to prepare. See decide_configuration."""
        return await decide_configuration(
            source, self._claim(source), self._catalog, self._database, changed=self._changed, progress=progress
        )

    def _claim(self, source: EmbeddingSource) -> Claim:
        """Annotations may have changed since the loop began."""
        return (self._catalog.get(source.name) or source).claim(self._shared.server.cluster)

    async def find_cause(self, source: EmbeddingSource, error: Exception) -> Exception:
        """Where the database has refused a statement: all that the table lacks, if the catalog shows that, or else the error."""
        if not isinstance(error, TableRefused):
            return error
        try:
            config = source.spec.config() if self._prepared is None else self._prepared.config
            await RowStore.inspect(self._database, config)
        except SourceRefused as exc:
            return exc
        except EmbeddingError:
            pass  # the database does not say more now
        return error

    async def explain(self, source: EmbeddingSource, refused: tuple[str, str]) -> tuple[str, str]:
        """Reason and message of a refusal; the message says it if edits are not recorded meanwhile."""
        reason, message = refused
        try:
            lost = await edits_are_lost(self._database, source.spec.config().at)
        except EmbeddingError:  # the database cannot be reached: it is not known
            lost = False
        return reason, f"{message} (edits are not recorded meanwhile; the next audit finds them)" if lost else message

    async def prepare(self, source: EmbeddingSource, chosen: Configuration) -> ReadySource:
        """The SDK is imported here and not with the first batch, but for a suspended source, which needs none.

        Raises SourceRefused, before anything is created in the database where the provider or a limit is the reason.
        """
        self._prepared = chosen
        limits = source.spec.limits_at(self._shared.price_per_million_tokens)
        embedder = self._providers.embedder(chosen.config.model, source=source.name)
        limits.refuse_if_too_small(embedder.max_text_bytes)
        if not source.spec.suspend:
            await embedder.prepare()
        store, watch = await claim_table(self._database, chosen.config, self._claim(source))
        return await make_ready_source(
            source,
            chosen.config,
            embedder,
            limits=limits,
            store=store,
            watch=TableWatch(watch, signature=chosen.config.signature, clock=self._shared.clock),
            shared=self._shared,
        )
