"""`embedding-operator run --dry-run`: logs every due row once, with the steps that would be done for it, and does none of them.

Called by commands.py. It only reads sources and rows: it creates no schema and no resource, calls no provider, writes nothing.
"""

import asyncio

import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnusable
from embedding_operator.api_server import ApiServer
from embedding_operator.resources.embedding_job import job_name
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_sources
from embedding_operator.rotation import Rotation
from embedding_operator.settings import Settings
from embedding_worker.clock import SystemClock
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import DuePreview
from embedding_worker.rows.store import RowStore

log = structlog.get_logger(__name__)

PAGE = 2_000
SHORTEST_PAUSE_S = 5.0


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Look through all sources continuously, until told to stop. Returns the exit code."""
    try:
        server = await ApiServer.connected(settings)
    except ApiServerUnusable as exc:
        log.error("no API server", message=str(exc))
        return 2
    async with server, Database(settings.database_url.get_secret_value()) as database:
        look = DryRun(server, database)
        rotation = Rotation(settings.mounted_secrets(), {"DATABASE_URL_FILE": database.move_to}, clock=SystemClock())
        rotating = asyncio.create_task(rotation.run(), name="rotation")
        log.info("operator ready", namespace=server.namespace, dry_run=True)
        while not stop.is_set():
            rows = await look.at_all_sources(stop)
            try:
                async with asyncio.timeout(max(SHORTEST_PAUSE_S, rows / settings.audit_rows_per_s)):
                    await stop.wait()
            except TimeoutError:
                continue
        rotating.cancel()
    log.info("operator ended", clean=True, dry_run=True)
    return 0


class DryRun:
    def __init__(self, server: ApiServer, database: Database) -> None:
        self._server = server
        self._database = database
        self._logged: set[int] = set()

    async def at_all_sources(self, stop: asyncio.Event) -> int:
        """Returns how many rows were looked at, in whole pages."""
        rows = 0
        try:
            sources = parse_sources(await self._server.sources())
        except ApiServerError as exc:
            log.warning("waiting for the API server", message=str(exc))
            return 0
        for source in sources:
            if source.metadata.is_being_deleted:
                continue
            try:
                rows += await self._at_source(source, stop)
            except SourceRefused as exc:
                log.error("source would be stalled", source=source.name, reason=exc.reason, message=exc.message)
            except (DatabaseUnavailable, RowsLocked) as exc:
                log.warning("waiting for the database", source=source.name, message=str(exc))
        return rows

    async def _at_source(self, source: EmbeddingSource, stop: asyncio.Event) -> int:
        store = await RowStore.inspect(self._database, source.spec.config())
        after: str | None = None
        pages = 0
        while not stop.is_set():
            page = await store.preview_due(after_id=after, limit=PAGE)
            pages += 1
            for row in page.due:
                self._log_once(source, row)
            if (after := page.last_id) is None:
                break
        return pages * PAGE

    def _log_once(self, source: EmbeddingSource, row: DuePreview) -> None:
        key = hash((source.name, row.id, row.content_hash, source.spec.config().fingerprint))
        if key not in self._logged:
            self._logged.add(key)
            log.info("row is due", source=source.name, business=row.id, steps=steps(source, row), dry_run=True)


def steps(source: EmbeddingSource, row: DuePreview) -> list[str]:
    """What would be done for a due row, in order. Never its text."""
    config = source.spec.config()
    column = f"{config.at}.{config.at.embedding_column}"
    if row.blank:
        return [f"set {column} to null: the text is empty"]
    name = job_name(source=source.name, business_id=row.id, content_hash=row.job_hash, fingerprint=config.fingerprint)
    if row.content_hash is None:
        return [f"create EmbeddingJob {name}", "make it a dead letter: spec.text fails for this row"]
    return [
        f"create EmbeddingJob {name}",
        "read the row, and check that its embedding is still missing or stale",
        f"embed its text by {config.model.provider} {config.fingerprint}",
        f"write {column}, if the text is still the one that was embedded",
        "set the job's status.phase to Succeeded",
    ]
