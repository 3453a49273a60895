"""Connections to PostgreSQL: how they are made, and why one could not be made. One of the modules that import psycopg.

Called by database.py. No message of this module contains a part of the URL.
"""

import asyncio
import os
import re
import selectors
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper
from psycopg.conninfo import make_conninfo

from embedding_worker.rows.connection_causes import Refusal, cause_of

CONNECTION: dict[str, Any] = {
    "prepare_threshold": None,
    "target_session_attrs": "read-write",
    "application_name": "embedding-operator",
    "client_encoding": "UTF8",  # or a database in SQL_ASCII would answer with bytes, and one in LATIN1 refuse other letters
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # ms: a statement that was sent to a host that is gone
}
DIAGNOSED_WITHIN_S = 3.0
# A line of libpq's trace: the fields of an error that the server answered with.
ERROR_RESPONSE = re.compile(r'\tErrorResponse\t.* C "(?P<sqlstate>\w{5})" (?:.* R "(?P<routine>\w+)")?')
REMEMBERED = 64
NO_ANSWER = "timeout expired"


class BinaryParameter(bytes):
    """A value in PostgreSQL's binary format, of the type to which the statement casts it."""


class _BinaryDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: BinaryParameter) -> bytes:
        return obj


psycopg.adapters.register_dumper(BinaryParameter, _BinaryDumper)


class Connection(psycopg.AsyncConnection[tuple[Any, ...]]):
    """One that knows its URL, so that none that was still being opened when the URL changed is used.

    It begins no transaction by itself: database.py sends BEGIN together with the settings.
    """

    url: str

    @classmethod
    async def connect(cls, conninfo: str = "", **parameters: Any) -> Self:
        connection = await super().connect(conninfo, **parameters)
        connection.url = conninfo
        await connection.set_autocommit(True)
        return connection


async def fetch_alone(connection: Connection, sql: str, *, within_s: float) -> list[tuple[Any, ...]]:
    """Run one statement without a transaction block. Raises what psycopg raises; QueryCanceled if there is no answer in time."""
    try:
        async with asyncio.timeout(within_s):
            return await (await connection.execute(sql.encode())).fetchall()
    except TimeoutError:
        raise psycopg.errors.QueryCanceled from None


class Diagnosis:
    """Finds out why no connection can be made, by making one more.

    libpq tells the SQLSTATE of a refused connection only in its trace. psycopg never frees what a trace needs, so each message
    is traced once.
    """

    def __init__(self) -> None:
        self._known: dict[str, Refusal] = {}
        self._looking: dict[str, asyncio.Task[str | None]] = {}

    async def problem(self, url: str, *, within_s: float = DIAGNOSED_WITHIN_S) -> str | None:
        """The cause and the remedy in a sentence, without anything of the URL; None if a connection was made.

        Callers at the same time share one attempt, which needs a thread.
        """
        if url not in self._looking:
            self._looking[url] = asyncio.create_task(asyncio.to_thread(self._problem, url, within_s))
            self._looking[url].add_done_callback(lambda _: self._looking.pop(url))
        return await asyncio.shield(self._looking[url])

    def _problem(self, url: str, within_s: float) -> str | None:
        parameters = {name: value for name, value in CONNECTION.items() if name != "prepare_threshold"}
        conninfo = make_conninfo(url, **parameters).encode()
        refusal = _try_to_connect(conninfo, within_s, trace=None)
        if refusal is None:
            return None
        if refusal.message != NO_ANSWER and refusal.message not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            traced = _traced(conninfo, within_s)
            self._known[refusal.message] = traced if traced and traced.message == refusal.message else refusal
        return cause_of(self._known.get(refusal.message, refusal))


def _traced(conninfo: bytes, within_s: float) -> Refusal | None:
    """The refusal of another attempt, with the fields of the last error that a server answered with."""
    if sys.platform != "linux":  # psycopg traces on Linux only
        return None
    with _memory_file() as file:
        refusal = _try_to_connect(conninfo, within_s, trace=file)
        if refusal is None:
            return None
        os.lseek(file, 0, os.SEEK_SET)
        answered = None
        for line in os.read(file, 1 << 20).decode(errors="replace").splitlines():
            answered = ERROR_RESPONSE.search(line) or answered
    if answered is None:
        return refusal
    return Refusal(refusal.message, answered["sqlstate"], answered["routine"] or "", refusal.encrypted)


@contextmanager
def _memory_file() -> Iterator[int]:
    """A file in memory only, because a trace may contain the password."""
    file = os.memfd_create("trace")
    try:
        yield file
    finally:
        os.close(file)


def _try_to_connect(conninfo: bytes, within_s: float, *, trace: int | None) -> Refusal | None:
    """Blocks, also for the name service."""
    connection = pq.PGconn.connect_start(conninfo)
    try:
        if trace is not None:
            connection.trace(trace)
        status = _wait_for(connection, until=monotonic() + within_s)
        if status == pq.PollingStatus.OK:
            return None
        message = connection.get_error_message() if status == pq.PollingStatus.FAILED else NO_ANSWER
        return Refusal(message, encrypted=bool(connection.ssl_in_use))
    finally:
        if trace is not None:
            connection.untrace()
        connection.finish()


def _wait_for(connection: pq.abc.PGconn, *, until: float) -> pq.PollingStatus:
    """The last status: OK, FAILED, or another one if there was no answer in time."""
    if connection.status == pq.ConnStatus.BAD:
        return pq.PollingStatus.FAILED
    while (status := pq.PollingStatus(connection.connect_poll())) in (
        pq.PollingStatus.READING,
        pq.PollingStatus.WRITING,
    ):
        reading = status == pq.PollingStatus.READING
        with selectors.DefaultSelector() as selector:
            selector.register(connection.socket, selectors.EVENT_READ if reading else selectors.EVENT_WRITE)
            if not selector.select(timeout=max(until - monotonic(), 0)):
                break
    return status
