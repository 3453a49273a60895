"""Reads what `embedding-operator plan` says of a source: its rows, what was sent, the provider's limits, the indexes.

Called by plan.py. Reads the whole table once, page by page, and creates, writes and sends nothing.
"""

from dataclasses import replace

from embedding_operator.cli.plan_provider import provider_facts
from embedding_operator.cli.plan_rows import read_due_rows
from embedding_operator.cli.plan_values import NOTHING_SENT, PlanFacts, Rates
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.limits import Sent
from embedding_worker.providers.registry import Credentials
from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import IndexFacts, index_advice, read_index_facts
from embedding_worker.rows.schema import configuration_on_record
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.vector_sizes import BYTES_PER_DIMENSION
from embedding_worker.source import in_force


async def read_plan_facts(
    database: Database, source: EmbeddingSource, rates: Rates, credentials: Credentials, *, price: float | None
) -> PlanFacts:
    """`price` is that of a million tokens. Raises SourceRefused if the table can't be served, RowsLocked, DatabaseUnavailable."""
    config = source.spec.config()
    store = await RowStore.inspect(database, config)
    record = await configuration_on_record(database, config.at)
    provider = provider_facts(config.model, credentials)
    rows = await read_due_rows(store, most_bytes=provider.max_text_bytes, too_long=config.model.too_long)
    sent = NOTHING_SENT
    if record is not None:  # otherwise there is no book-keeping, and every row is due
        counts = await store.counts()
        edited = await store.backlog.edited_rows()
        rows = replace(rows, total=max(counts.total, rows.due), estimated=counts.estimated, edited=edited)
        if (used := await store.used_today()) is not None:
            sent = Sent(used.texts, used.tokens, used.month_tokens)
    indexes = await read_index_facts(database, config.at)
    return PlanFacts(
        source,
        rows,
        rates,
        provider,
        sent=sent,
        price_per_million_tokens=price,
        vector_type=_vector_type(indexes),
        waiting=in_force(config, record, approved=source.spec.approved_fingerprint)[1],
        index_advice=index_advice(config, indexes, rows=rows.total, due=rows.due),
    )


def _vector_type(facts: IndexFacts) -> str:
    """That of the column, or the one that the operator would add."""
    if facts.vector_type is None:
        return "vector" if facts.vector_schema is not None else "real[]"
    return facts.vector_type if facts.vector_type in BYTES_PER_DIMENSION else "real[]"
