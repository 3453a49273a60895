"""A server whose answer cannot be read costs one statement, and neither the process nor its event loop."""

import asyncio
import struct

import psycopg
import pytest

from embedding_worker.rows.round_trip import run_at_once

AUTHENTICATED = b"R" + struct.pack("!ii", 8, 0)
READY = b"Z" + struct.pack("!i", 5) + b"I"
UNREADABLE = b"T" + struct.pack("!i", 2)
"""A message cannot be shorter than its own length."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept any user, and answer what follows with something that is no message."""
    (size,) = struct.unpack("!i", await reader.readexactly(4))
    await reader.readexactly(size - 4)
    writer.write(AUTHENTICATED + READY)
    await reader.read(1)
    writer.write(UNREADABLE)
    await writer.drain()
    await reader.read()


@pytest.mark.timeout(60)
async def test_an_answer_that_cannot_be_read_ends_the_connection() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"host=127.0.0.1 port={port} user=any dbname=any sslmode=disable gssencmode=disable"
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    async with asyncio.timeout(30):
        with pytest.raises(psycopg.OperationalError):
            await run_at_once(connection, (), "SELECT 1", ())
    assert connection.closed
    server.close()
