"""Decides which configuration of a source runs: the spec's, or the previous one while a change waits for approval.

Called by source_setup.py at each set-up. Reads the database and changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from embedding_operator.lifecycle import model_in_force
from embedding_operator.lifecycle.source_facts import Pending
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import Clock
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.embedder import BYTES_PER_TOKEN
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, refuse_claim
from embedding_worker.rows.schema import configuration_on_record, owner_on_record
from embedding_worker.rows.store import RowStore
from embedding_worker.source import Model, SourceConfig, in_force, refuse_other_dimensions

log = structlog.get_logger(__name__)

KEPT_S = 300.0
"""A refused source is set up every few seconds: what a change would embed is not counted again for so long."""

Progress = Callable[[], None]
"""Is called while something takes long, each time that a part of it is done."""


@dataclass(frozen=True)
class Configuration:
    """The configuration to run, and what is known of a changed one that does not run yet."""

    config: SourceConfig
    pending: Pending | None = None
    """Waits for approval."""
    refused_change: tuple[str, str] | None = None
    """Reason and message, where the changed configuration cannot run; the previous one stays in force."""

    def facts(self) -> dict[str, Any]:
        """What is known of the source by it, as fields of SourceFacts."""
        return {
            "fingerprint": self.config.fingerprint,
            "pending": self.pending,
            "refused": self.refused_change,
            "change_refused": self.refused_change is not None,
        }

    def model(self, source: EmbeddingSource) -> Model:
        """The model in force, as soon as the source is set up with it."""
        waits = self.pending is not None or self.refused_change is not None
        return model_in_force.in_force(self.config.model, source.status, change_waits=waits)


class ChangedConfiguration:
    """What is known of the change of one source that waits, so that its table is read, and the change logged, only once."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._counted: Pending | None = None
        self._counted_at = 0.0
        self._logged: tuple[str, str] | None = None

    async def look(
        self, name: str, wanted: SourceConfig, waiting: str, progress: Progress
    ) -> Pending | tuple[str, str]:
        """What the change would embed; or reason and message, where it cannot run."""
        try:
            refuse_other_dimensions(wanted.model)
            pending = await self._count(await RowStore.inspect(self._database, wanted), waiting, progress)
        except SourceRefused as exc:
            if self._is_new(exc.reason, exc.message):
                log.error("source stalled", source=name, reason=exc.reason, message=exc.message)
            return exc.reason, f"{exc.message} (the previous configuration stays in force)"
        if self._is_new("", waiting):
            log.info("a changed model or text waits for approval", source=name, pending=waiting, rows=pending.rows)
        return pending

    async def _count(self, store: RowStore, waiting: str, progress: Progress) -> Pending:
        counted, age_s = self._counted, self._clock.monotonic() - self._counted_at
        if counted is None or counted.signature != waiting or age_s >= KEPT_S:
            rows, size = await store.would_embed(progress)
            counted = self._counted = Pending(waiting, rows, size // BYTES_PER_TOKEN)
            self._counted_at = self._clock.monotonic()
        return counted

    def _is_new(self, reason: str, message: str) -> bool:
        before, self._logged = self._logged, (reason, message)
        return self._logged != before


async def decide_configuration(
    source: EmbeddingSource,
    claim: Claim,
    catalog: SourceCatalog,
    database: Database,
    *,
    changed: ChangedConfiguration,
    progress: Progress,
) -> Configuration:
    """Raises SourceRefused where another source keeps the same column, RowsLocked or DatabaseUnavailable."""
    wanted = source.spec.config()
    await _refuse_second(source, claim, catalog, database)
    record = await configuration_on_record(database, wanted.at)
    config, waiting = in_force(wanted, record, approved=source.spec.approved_fingerprint)
    if waiting is None:
        return Configuration(config)
    found = await changed.look(source.name, wanted, waiting, progress)
    if not isinstance(found, Pending):
        return Configuration(config, refused_change=found)
    return Configuration(config, replace(found, approved=source.spec.approved_fingerprint))


async def _refuse_second(source: EmbeddingSource, claim: Claim, catalog: SourceCatalog, database: Database) -> None:
    """Raises SourceRefused unless the source owns its table, or could own it: nobody does, and no older source wants it.

    The owner runs also if it is the younger one. Otherwise both would be refused, each because of the other.
    """
    at = source.spec.config().at
    owner = await owner_on_record(database, at)
    if owner is not None and owner.owner == claim.owner:
        return
    if (older := catalog.older_on_the_same_column(source)) is not None:
        raise SourceRefused("ColumnTaken", f"EmbeddingSource {older} keeps the same column: delete one of the two")
    refuse_claim(at, claim, owner)
