"""Decides which configuration of a source runs: the spec's, or the previous one while a change waits for approval.

Called by source_loop.py at each set-up. Reads the database and changes nothing.
"""

from dataclasses import dataclass

import structlog

from embedding_operator.lifecycle.source_status import Pending
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.calls import BYTES_PER_TOKEN
from embedding_worker.rows.database import Database
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig, in_force

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Configuration:
    """The configuration to run, and what is known of a changed one that does not run yet."""

    config: SourceConfig
    pending: Pending | None = None
    """Waits for approval."""
    refused_change: tuple[str, str] | None = None
    """Reason and message, where the changed configuration cannot run; the previous one stays in force."""


async def decide_configuration(source: EmbeddingSource, catalog: SourceCatalog, database: Database) -> Configuration:
    """Raises SourceRefused where another source keeps the same column, RowsLocked or DatabaseUnavailable."""
    if (older := catalog.older_on_the_same_column(source)) is not None:
        raise SourceRefused("ColumnTaken", f"EmbeddingSource {older} keeps the same column: delete one of the two")
    wanted = source.spec.config()
    record = await RowStore.configuration_on_record(database, wanted.at)
    config, waiting = in_force(wanted, record, approved=source.spec.approved_fingerprint)
    if waiting is None:
        return Configuration(config)
    try:
        rows, size = await (await RowStore.inspect(database, wanted)).would_embed()
    except SourceRefused as exc:
        log.error("source stalled", source=source.name, reason=exc.reason, message=exc.message)
        message = f"{exc.message} (the previous configuration stays in force)"
        return Configuration(config, refused_change=(exc.reason, message))
    log.info("a changed model or text waits for approval", source=source.name, pending=waiting, rows=rows)
    return Configuration(config, Pending(waiting, rows, size // BYTES_PER_TOKEN))
