"""Servers in front of PostgreSQL, or in its place, for the tests of connections: with TLS, slow, or with errors of its own.

They are real network servers on 127.0.0.1. Called by the tests of the row store.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.support.tcp_proxy import DatabaseProxy

SSL_REQUEST_BYTES = 8


class TlsProxy(DatabaseProxy):
    """Adds TLS to a server that has none, as PostgreSQL does it: on the client's request, on the same port."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(url)
        self._context = context

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(SSL_REQUEST_BYTES)
            writer.write(b"S")
            await writer.start_tls(self._context)
        except (OSError, EOFError):  # the client does not trust the certificate
            writer.transport.abort()
            return
        await super()._connect(reader, writer)


class SlowProxy(DatabaseProxy):
    """Accepts a connection at once, and connects it to the server when `gate` is set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        await super()._connect(reader, writer)


def error_response(**fields: str) -> bytes:
    """What PostgreSQL sends when it refuses a connection: each field has a letter."""
    body = b"".join(letter.encode() + value.encode() + b"\0" for letter, value in fields.items()) + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


@asynccontextmanager
async def answering(answer: bytes | Callable[[], bytes] | None) -> AsyncIterator[int]:
    """A server on a port of its own that gives each client this answer and closes the connection; None: it never answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65536):
                if answer is not None:
                    writer.write(answer() if callable(answer) else answer)
                    await writer.drain()
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
