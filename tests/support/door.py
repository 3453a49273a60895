"""A way to the database that can be shut and opened again, as an outage does. Called by the tests of outages."""

import asyncio
import contextlib
from pathlib import Path
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict


class Door:
    """Listens on a port of this machine, and passes on to the database of `url` whatever comes. Open at first."""

    def __init__(self, url: str) -> None:
        self._given = {key: str(value) for key, value in conninfo_to_dict(url).items()}
        self._server: asyncio.Server | None = None
        self._port: int | None = None
        self._passing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shut()

    @property
    def url(self) -> str:
        """The same database, through the door."""
        user, password = (quote(self._given.get(part, ""), safe="") for part in ("user", "password"))
        return f"postgresql://{user}:{password}@127.0.0.1:{self._port}/{quote(self._given['dbname'], safe='')}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port or 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Let nobody in any more, and break off whoever is inside."""
        if self._server is not None:
            self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        host, port = self._given.get("host", ""), int(self._given.get("port", "5432"))
        there = (
            asyncio.open_unix_connection(Path(host) / f".s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
        try:
            server_reader, server_writer = await there
            try:
                await asyncio.gather(_copied(reader, server_writer), _copied(server_reader, writer))
            finally:
                server_writer.close()
        finally:
            writer.transport.abort()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
        target.write_eof()
