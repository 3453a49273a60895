"""A TCP proxy in front of a server, which a test stops and starts again to simulate an outage of that server.

Called by the tests of outages of PostgreSQL and of the API server. It passes bytes on and never reads them.
"""

import asyncio
import contextlib
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
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        """Known from the first start on."""
        self.frozen = False
        """While it is, new connections are accepted, and nothing is passed on."""
        self.tls: ssl.SSLContext | None = None
        """How clients are served; None: the bytes are passed on as they are."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections, and abort the existing ones."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            if self.frozen:
                await asyncio.Event().wait()
            server_reader, server_writer = await self._connect_to_target()
            try:
                await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
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


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
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

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=STARTS_WITHIN_S)
