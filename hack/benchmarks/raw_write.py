"""How many rows a second PostgreSQL writes by the operator's own conditional write, if a client does nothing else.

The vectors are there before the measurement begins, in the form in which they are sent. Called by __main__.py.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import psycopg

from embedding_worker.rows.connections import BinaryParameter
from embedding_worker.rows.database import Database
from embedding_worker.rows.schema import prepare
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.store import RowStore
from embedding_worker.rows.vectors import array_of
from embedding_worker.text import content_hash
from hack.benchmarks.listings import Listings, audit, in_batches
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import make_vectors

BATCH = 100
"""As many as the batches of the backfill have."""
CONNECTIONS = (1, 2, 4)
DIFFERENT_ARRAYS = 8
Parameters = tuple[str, str, BinaryParameter, str]
"""Of one statement: arrays of ids, hashes and vectors, as they are sent, and the fingerprint."""


def measure(setting: Setting) -> Mapping[str, float]:
    """Each number of connections fills a part of the table."""
    listings = Listings(setting.new_database().url)
    listings.create(setting.rows)
    statements = asyncio.run(mark_all(listings))
    batches = prepared(listings, statements)
    rows_per_s: dict[int, float] = {}
    for connections, part in zip(CONNECTIONS, in_batches(batches, -(-len(batches) // len(CONNECTIONS))), strict=False):
        took_s = asyncio.run(write(listings.url, statements, part, connections=connections))
        rows_per_s[connections] = BATCH * len(part) / took_s
        setting.say(f"raw write, connections: {connections}, rows/s: {rows_per_s[connections]:,.0f}")
    return {
        "raw_write_rows_per_s": rows_per_s[CONNECTIONS[0]],
        "raw_parallel_write_rows_per_s": max(rows_per_s[connections] for connections in CONNECTIONS[1:]),
    }


async def mark_all(listings: Listings) -> Statements:
    """Create the book-keeping, and have the audit mark every row."""
    async with Database(listings.url) as database:
        statements = (await prepare(database, listings.config)).statements
        store = RowStore(database, statements)
        await audit(store)
        await store.record_filled()
        return statements


def fill(listings: Listings) -> Statements:
    """Write all vectors, as the role of this URL. The number of rows is a multiple of BATCH."""
    statements = asyncio.run(mark_all(listings))
    asyncio.run(write(listings.url, statements, prepared(listings, statements), connections=max(CONNECTIONS)))
    return statements


def prepared(listings: Listings, statements: Statements) -> list[Parameters]:
    """The statements that write all rows."""
    found = listings.run(f"SELECT id, {listings.text} FROM public.{listings.name} ORDER BY id")
    oid = int(listings.number(f"SELECT '{statements.layout.vector_type}'::regtype::oid::bigint"))
    vectors = make_vectors()
    arrays = [
        BinaryParameter(array_of((vectors[first:] * BATCH)[:BATCH], element_oid=oid, number="f"))
        for first in range(DIFFERENT_ARRAYS)
    ]
    return [
        (
            _array([str(row_id) for row_id, _ in batch]),
            _array([content_hash(str(text)) for _, text in batch]),
            arrays[number % DIFFERENT_ARRAYS],
            statements.config.fingerprint,
        )
        for number, batch in enumerate(in_batches(found, BATCH))
        if len(batch) == BATCH
    ]


def _array(items: Sequence[str]) -> str:
    return "{" + ",".join(items) + "}"


async def write(url: str, statements: Statements, batches: Sequence[Parameters], *, connections: int) -> float:
    """Run all statements. Returns the seconds that this took."""
    waiting = iter(batches)
    opened = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(connections)]

    async def work(connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SET search_path = pg_catalog")
        cursor = psycopg.AsyncRawCursor(connection)
        for parameters in waiting:
            await cursor.execute(statements.write.encode(), parameters)
            written = await cursor.fetchall()
            assert len(written) == BATCH, "nothing else uses the table"

    began = time.monotonic()
    await asyncio.gather(*(work(connection) for connection in opened))
    took_s = time.monotonic() - began
    for connection in opened:
        await connection.close()
    return took_s
