"""Reads what `embedding-operator plan` says of a source: its rows, what was sent today, the provider's limits, the indexes.

Called by plan.py. Reads the whole table once, page by page, and creates, writes and sends nothing.
"""

from dataclasses import replace

from embedding_operator.cli.plan_lines import DueRows, PlanFacts, ProviderFacts, Rates
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.clock import SystemClock
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.provider import registered_providers
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import index_advice, read_index_facts
from embedding_worker.rows.schema import configuration_on_record
from embedding_worker.rows.store import PREVIEW_PAGE, RowStore
from embedding_worker.source import Model, in_force


async def read_plan_facts(
    database: Database, source: EmbeddingSource, rates: Rates, credentials: Credentials
) -> PlanFacts:
    """Raises SourceRefused if the table can't be served, RowsLocked, DatabaseUnavailable."""
    config = source.spec.config()
    store = await RowStore.inspect(database, config)
    record = await configuration_on_record(database, config.at)
    provider = provider_facts(config.model, credentials)
    rows = await read_due_rows(store, most_bytes=provider.max_text_bytes)
    used = None
    if record is not None:  # otherwise there is no book-keeping, and every row is due
        counts = await store.counts()
        edited = await store.backlog.edited_rows()
        rows = replace(rows, total=max(counts.total, rows.due), estimated=counts.estimated, edited=edited)
        used = await store.used_today()
    indexes = await read_index_facts(database, config.at)
    return PlanFacts(
        source,
        rows,
        rates,
        provider,
        used_today=used.texts if used is not None else 0,
        waiting=in_force(config, record, approved=source.spec.approved_fingerprint)[1],
        index_advice=index_advice(config, indexes, rows=rows.total, due=rows.due),
    )


def provider_facts(model: Model, credentials: Credentials) -> ProviderFacts:
    """What limits the calls; where the provider can't be used yet, why. Calls nothing."""
    registered = registered_providers().get(model.provider)
    calls_server = registered is None or registered.calls_server
    try:
        registry = ProviderRegistry(credentials, clock=SystemClock(), observer=NoObserver())
        embedder = registry.embedder(model, source="plan")
    except SourceRefused as exc:
        return ProviderFacts(problem=exc.message, calls_server=calls_server)
    return ProviderFacts(embedder.limits[1], embedder.max_texts, embedder.max_text_bytes, calls_server=calls_server)


async def read_due_rows(store: RowStore, *, most_bytes: int) -> DueRows:
    """The rows that are not up to date, of the whole table; as if these were all of its rows, and no edit had made them due."""
    due, texts, size, blank, failing, after = 0, 0, 0, 0, 0, None
    while True:
        page = await store.preview_due(after_id=after, limit=PREVIEW_PAGE)
        sent = [row for row in page.due if row.content_hash is not None and not row.blank]
        due, texts = due + len(page.due), texts + len(sent)
        size += sum(min(row.text_bytes, most_bytes) for row in sent)
        blank += sum(row.blank for row in page.due)
        failing += sum(row.content_hash is None for row in page.due)
        if (after := page.last_id) is None:
            return DueRows(due, due, texts, size, blank=blank, failing=failing)
