"""Whether `embedding-operator check` advises anything about indexes on the vectors of a source. Called by checks.py.

It reads estimates only, so that it is fast on a table of any size; `embedding-operator plan` counts.
"""

import asyncio

from embedding_operator.cli.verdicts import Verdict, advice
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.errors import EmbeddingError
from embedding_worker.rows.database import Database
from embedding_worker.rows.index_advice import index_advice, read_index_facts
from embedding_worker.rows.schema import configuration_on_record
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig, in_force

WITHIN_S = 5.0


async def advise_index(database: Database, source: EmbeddingSource) -> Verdict | None:
    """None if there is nothing to advise, or the database does not answer in time."""
    wanted = source.spec.config()
    try:
        async with asyncio.timeout(WITHIN_S):
            record = await configuration_on_record(database, wanted.at)
            config, _ = in_force(wanted, record, approved=source.spec.approved_fingerprint)
            indexes = await read_index_facts(database, config.at)
            rows, due = await _counts(database, config) if record is not None else (indexes.rows, indexes.rows)
    except (TimeoutError, EmbeddingError):
        return None
    found = index_advice(config, indexes, rows=rows, due=due)
    return None if found is None else advice(f"index of {source.name}", found)


async def _counts(database: Database, config: SourceConfig) -> tuple[int, int]:
    """The rows, and those that are due; before the first audit is complete, all of them may be due."""
    store = await RowStore.inspect(database, config)
    counts = await store.counts()
    return counts.total, counts.due if await store.is_filled() else counts.total
