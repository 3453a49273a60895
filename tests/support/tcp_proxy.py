"""A TCP proxy in front of a server, which a test stops and starts again to simulate an outage of that server.

Called by the tests of outages of PostgreSQL and of the API server. It passes bytes on and never reads them.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

Target = tuple[str, int] | Path
"""A host and a port, or a Unix socket."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
STARTS_WITHIN_S = 10


class TcpProxy:
    """Listens on a port of 127.0.0.1 while it is started, always the same one, and connects each client to the target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._held: socket.socket | None = None
        """While it is stopped: bound to the port, so that no other process gets it, and not listening."""
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        """Known from the first start on."""
        self.frozen = False
        """While it is, new connections are accepted, and nothing is passed on."""
        self.answer: bytes | None = None
        """While it is set, each request gets this answer, and no server is reached."""
        self._passing = Passing()
        self.tls: ssl.SSLContext | None = None
        """How clients are served; None: the bytes are passed on as they are."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()
        self.release()

    async def start(self) -> None:
        listener, self._held = self._held or _bound(self.port), None
        self._server = await asyncio.start_server(self._connect, sock=listener, ssl=self.tls)
        self.port = listener.getsockname()[1]
        self._started = True

    async def stop(self) -> None:
        """Refuse new connections, and abort the existing ones."""
        self._started = False
        if self._server is not None:
            self._server.close()
            self._server, self._held = None, _bound(self.port)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def release(self) -> None:
        """Give the port back, after the last stop."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def silence(self) -> None:
        """Pass nothing on any more on the connections that exist, which stay open. New ones work."""
        self._passing.silent = True
        self._passing = Passing()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            if not self._started:  # the client was still connecting when the proxy was stopped
                return
            if self.frozen:
                await asyncio.Event().wait()
            if self.answer is not None:
                await _answer(self.answer, reader, writer)
                return
            passing = self._passing
            server_reader, server_writer = await self._connect_to_target()
            try:
                await asyncio.gather(_copy(reader, server_writer, passing), _copy(server_reader, writer, passing))
            finally:
                server_writer.close()
        finally:
            writer.transport.abort()

    async def _connect_to_target(self) -> Connection:
        return await self._open()

    async def _open(self, *, ssl: ssl.SSLContext | None = None) -> Connection:
        if isinstance(self._target, Path):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target, ssl=ssl)


def _bound(port: int) -> socket.socket:
    """A socket on this port, or on a free one for 0, that refuses connections until it listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may still be closing
    bound.bind(("127.0.0.1", port))
    return bound


class Passing:
    """Whether the connections that were opened at the same time still pass bytes on."""

    silent = False


async def _answer(answer: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the answer to one request. What is left of the request is read, because closing too early would lose the answer."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        while await reader.read(65536):
            pass


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, passing: Passing) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            if passing.silent:
                await asyncio.Event().wait()
            target.write(data)
            await target.drain()
        if target.can_write_eof():
            target.write_eof()


class DatabaseProxy(TcpProxy):
    """A proxy in front of the PostgreSQL server of a URL."""

    def __init__(self, url: str) -> None:
        self._parameters = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        host, port = self._parameters.get("host", ""), int(self._parameters.get("port", "5432"))
        super().__init__(Path(host) / f".s.PGSQL.{port}" if host.startswith("/") else (host, port))

    @property
    def url(self) -> str:
        """The same database, through the proxy."""
        user, password = (quote(self._parameters.get(part, ""), safe="") for part in ("user", "password"))
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{quote(self._parameters['dbname'], safe='')}"


class BlockingTcpProxy:
    """A proxy for tests without an event loop: it runs on the event loop of a thread of its own."""

    def __init__(self, target: Target | None = None, *, proxy: TcpProxy | None = None) -> None:
        assert target is not None or proxy is not None
        self._proxy = proxy or TcpProxy(target or Path())
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.stop()
        finally:
            self._proxy.release()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=STARTS_WITHIN_S)
            self._loop.close()

    @property
    def port(self) -> int:
        return self._proxy.port

    def start(self) -> None:
        self._run(self._proxy.start())

    def stop(self) -> None:
        """Refuse new connections, and abort the existing ones."""
        self._run(self._proxy.stop())

    def freeze(self) -> None:
        """Abort the existing connections, and from now on accept new ones and answer nothing, as a host that hangs."""
        self.stop()
        self._proxy.frozen = True
        self.start()

    def swallow(self) -> None:
        """From now on pass nothing on, on the connections that exist and on new ones, and close none: a black hole."""
        self._run(self._set(silenced=True, frozen=True))

    def silence(self) -> None:
        """Pass nothing on any more on the connections that exist, and close none of them. New ones work."""
        self._run(self._set(silenced=True))

    def answer(self, answer: bytes) -> None:
        """Abort the existing connections, and from now on give this answer to each request."""
        self._run(self._set(answer=answer))  # first, because a client that is connecting just now is not aborted
        self.stop()
        self.start()

    def recover(self) -> None:
        """New connections work again. Those that nothing is passed on for stay as they are."""
        self._run(self._set())

    async def _set(self, *, silenced: bool = False, frozen: bool = False, answer: bytes | None = None) -> None:
        if silenced:
            self._proxy.silence()
        self._proxy.frozen, self._proxy.answer = frozen, answer

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=STARTS_WITHIN_S)
