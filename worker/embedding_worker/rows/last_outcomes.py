"""The last outcomes of each row, kept after its jobs are gone: failures, retries, dead letters, superseded jobs.

Called by store.py.
A success writes nothing here: the state of the row says when it was embedded. Each write keeps the bounds of what it has written
to, so that no housekeeping is needed.
"""

from collections.abc import Sequence

from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.records import LastOutcome
from embedding_worker.rows.table_access import REPRESENTS_EVERYTHING, TableAccess

KEPT_FOR_ROW = 5
KEPT_FOR_TABLE = 10_000
LONGEST_ID = 1_024
"""Bytes. A resource cannot carry a longer id, and an entry of an index may have 2,704."""
INSERT = f"""
INSERT INTO {SCHEMA}.outcomes (bookkeeping, id, at, phase, reason, message, attempt)
SELECT $1, g.* FROM unnest($2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::int[])
    g(id, at, phase, reason, message, attempt) WHERE octet_length(g.id) <= {LONGEST_ID} ON CONFLICT DO NOTHING"""
KEEP_NEWEST_OF_ROWS = f"""
DELETE FROM {SCHEMA}.outcomes o USING (
    SELECT k.id, k.at, row_number() OVER (PARTITION BY k.id ORDER BY k.at DESC) AS number
    FROM {SCHEMA}.outcomes k WHERE k.bookkeeping = $1 AND k.id = ANY($2::text[])) n
WHERE n.number > {KEPT_FOR_ROW} AND o.bookkeeping = $1 AND o.id = n.id AND o.at = n.at"""
KEEP_NEWEST_OF_TABLE = f"""
DELETE FROM {SCHEMA}.outcomes o WHERE o.bookkeeping = $1 AND o.at < (SELECT k.at FROM {SCHEMA}.outcomes k
    WHERE k.bookkeeping = $1 ORDER BY k.at DESC OFFSET {KEPT_FOR_TABLE - 1} LIMIT 1)"""
OF_ROW = f"""
SELECT o.at, o.phase, o.reason, o.message, o.attempt FROM {SCHEMA}.outcomes o
WHERE o.bookkeeping = $1 AND o.id = $2 ORDER BY o.at DESC LIMIT {KEPT_FOR_ROW}"""


async def record(access: TableAccess, stem: str, outcomes: Sequence[tuple[str, LastOutcome]]) -> None:
    """Add these outcomes by the ids of their rows, and delete those that are too many. One transaction of three statements.

    An id that PostgreSQL cannot represent is left out. Raises RowsLocked or DatabaseUnavailable.
    """
    possible = set(await access.as_text({row_id for row_id, _ in outcomes}))
    kept = [(row_id, outcome) for row_id, outcome in outcomes if row_id in possible]
    if not kept:
        return
    ids, ascii_only = [row_id for row_id, _ in kept], access.encoding not in REPRESENTS_EVERYTHING
    columns = (
        [outcome.at for _, outcome in kept],
        [outcome.phase for _, outcome in kept],
        [outcome.reason for _, outcome in kept],
        [storable(outcome.message, ascii_only=ascii_only) for _, outcome in kept],
        [outcome.attempt for _, outcome in kept],
    )
    async with access.transaction() as transaction:
        await transaction.fetch(INSERT, stem, ids, *columns)
        await transaction.fetch(KEEP_NEWEST_OF_ROWS, stem, ids)
        await transaction.fetch(KEEP_NEWEST_OF_TABLE, stem)


async def of_row(access: TableAccess, stem: str, row_id: str) -> tuple[LastOutcome, ...]:
    """The last outcomes of this row, newest first. Raises as `record` does."""
    if not await access.as_text([row_id]):
        return ()
    return tuple(LastOutcome(*row) for row in await access.fetch(OF_ROW, stem, row_id))


def storable(message: str, *, ascii_only: bool) -> str:
    """The message without characters that PostgreSQL, or the encoding of this database, cannot represent."""
    encoding = "ascii" if ascii_only else "utf-8"
    return message.replace("\0", "").encode(encoding, "backslashreplace").decode(encoding)
