"""The only access to PostgreSQL: a pool, transactions with the session settings, and statements in a transaction of their own.

Called by the other modules of this folder. Nothing is held between two calls.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self, Unpack

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.connections import CONNECTION, Connection, Diagnosis, fetch_alone
from embedding_worker.rows.database_url import libpq_url
from embedding_worker.rows.round_trip import Row as Row
from embedding_worker.rows.round_trip import run_at_once
from embedding_worker.rows.session import Given, Settings, begin_with, settings_of
from embedding_worker.rows.translation import ServerUnsuitable, translate_errors


class Transaction:
    """One open transaction, with the session settings of this module in force until its end."""

    def __init__(self, connection: psycopg.AsyncConnection[Row], *, quoting: bool) -> None:
        self._connection = connection
        self._quoting = quoting

    async def fetch(self, sql: str, *params: object) -> list[Row]:
        """Run a statement with `$n` parameters. Returns its rows in order, none if it returns none.

        Raises as Database.transaction does, so that the caller can say what the refusal of this statement means.
        """
        with translate_errors(quoting=self._quoting):
            async with psycopg.AsyncRawCursor(self._connection) as cursor:
                # binary selects the extended protocol, which accepts one statement: a text expression can't add another.
                await cursor.execute(sql.encode(), params or None, binary=None if params else True)
                return await cursor.fetchall() if cursor.description else []

    async def fetch_and_commit(self, sql: str, *params: object) -> list[Row]:
        """Run the last statement, and commit. Both are sent at once, so that its locks last no longer than the server needs.

        Returns its rows. Raises as `fetch` does.
        """
        with translate_errors(quoting=self._quoting):
            cursor = psycopg.AsyncRawCursor(self._connection)
            async with self._connection.pipeline():
                await cursor.execute(sql.encode(), params or None)
                await self._connection.commit()
            return await cursor.fetchall() if cursor.description else []

    async def undo(self) -> None:
        """Roll back everything that this transaction did."""
        await self._connection.rollback()


class Database:
    """A pool of connections to one database.

    No connection is checked out over anything but a statement; PgBouncer in transaction mode is fine (nothing is
    prepared, and settings are local to a transaction).
    """

    def __init__(self, url: str, *, max_connections: int = 8) -> None:
        """Raises SourceRefused if it is no URL."""
        self._url = libpq_url(url)
        self._diagnosis = Diagnosis()
        self.encoding = "UTF8"
        """The server's, known from the first transaction on."""
        self.answers = 0
        """How many transactions have begun, and how many statements without one were answered."""
        self._pool = AsyncConnectionPool(
            lambda: self._url,
            connection_class=Connection,
            min_size=1,
            max_size=max_connections,
            open=False,
            timeout=10.0,
            reconnect_timeout=5.0,  # the pool doubles its pauses up to this: the default would prolong a long outage by minutes
            kwargs=CONNECTION,
        )

    async def __aenter__(self) -> Self:
        await self._pool.open(wait=False)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.close(timeout=5.0)

    async def move_to(self, url: str) -> None:
        """Use this URL from now on. Connections with the old one are closed, those in use when they are returned.

        Raises DatabaseUnavailable if no connection can be made with it (the new password may not be set in the database yet),
        and SourceRefused if it is no URL; the old one then stays in force.
        """
        url = libpq_url(url)
        if (problem := await self._diagnosis.problem(url, within_s=CONNECTION["connect_timeout"])) is not None:
            raise DatabaseUnavailable(f"no connection could be made: {problem}")
        self._url = url
        await self._pool.drain()

    @asynccontextmanager
    async def transaction(self, *, quoting: bool = False, **given: Unpack[Given]) -> AsyncIterator[Transaction]:
        """A transaction with the session settings, committed at the end of the block, rolled back on an error.

        Raises DatabaseUnavailable (wait), RowsLocked (again, later) or SourceRefused (someone must act), which is
        RowsRefused if a row's own values may be the cause.
        """
        with translate_errors(quoting=quoting):
            try:
                async with AsyncExitStack() as stack:
                    yield Transaction(await self._begin(stack, settings_of(given)), quoting=quoting)
            except ServerUnsuitable:
                await self._pool.drain()  # new connections may find the primary among the hosts of the URL
                raise

    async def fetch(self, sql: str, *params: object, **given: Unpack[Given]) -> list[Row]:
        """Run one statement in a transaction of its own, with one round trip. Returns its rows. Raises as `transaction` does.

        If the connection was lost, such as one that nobody has used for long, it is run once more, with another connection: it is
        to be a statement that may be run twice.
        """
        connection: Connection | None = None
        try:
            async with self._connection() as connection:
                await self._refuse_earlier_url(connection)
                with translate_errors(quoting=False):
                    rows = await run_at_once(connection, settings_of(given), sql, params)
                self._note_answer(connection)
                return rows
        except ServerUnsuitable:
            await self._pool.drain()
            raise
        except DatabaseUnavailable:
            if connection is None or not connection.closed:
                raise
        async with self.transaction(**given) as transaction:
            return await transaction.fetch_and_commit(sql, *params)

    async def fetch_at_once(self, sql: str, *, within_s: float) -> list[Row]:
        """Run one statement that reads, by itself: without a transaction block, and whatever the session's settings are.

        Raises as `transaction` does, and StatementTimedOut if there is no answer in time; PostgreSQL then cancels it. If the
        connection was lost, such as one that nobody has used for long, it is run again, with another connection of the pool.
        """
        for remaining in reversed(range(self._pool.max_size + 1)):
            connection: Connection | None = None
            try:
                async with self._connection() as connection:
                    await self._refuse_earlier_url(connection)
                    with translate_errors(quoting=True):
                        rows = await fetch_alone(connection, sql, within_s=within_s)
                    self._note_answer(connection)
                    return rows
            except DatabaseUnavailable:
                if connection is None or not connection.closed or not remaining:
                    raise
        raise AssertionError("the last attempt returns or raises")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """One of the pool, which is returned at the end of the block. Raises DatabaseUnavailable if there is none."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except PoolTimeout:
            raise DatabaseUnavailable(await self._why_away()) from None

    async def _begin(self, stack: AsyncExitStack, settings: Settings) -> Connection:
        """A connection that has begun a transaction with these settings. The stack ends the transaction.

        A connection that was lost while nobody used it is replaced at once, because nothing has been sent yet. So no more are
        tried than the pool can contain.
        """
        for remaining in reversed(range(self._pool.max_size + 1)):
            async with AsyncExitStack() as attempt:
                connection = await attempt.enter_async_context(self._connection())
                try:
                    await self._apply(settings, connection)
                except DatabaseUnavailable as exc:
                    if isinstance(exc, ServerUnsuitable) or not remaining:
                        raise
                    await connection.close()
                    continue
                stack.push_async_exit(attempt.pop_all())
                return connection
        raise AssertionError("the last attempt returns or raises")

    async def _apply(self, settings: Settings, connection: Connection) -> None:
        await self._refuse_earlier_url(connection)
        with translate_errors(quoting=False):
            async with psycopg.AsyncRawCursor(connection) as cursor:
                await cursor.execute(
                    begin_with(settings)
                )  # by the simple protocol, which accepts both statements at once
        self._note_answer(connection)

    async def _refuse_earlier_url(self, connection: Connection) -> None:
        if connection.url != self._url:
            await connection.close()
            raise DatabaseUnavailable("the connection was being opened when the URL changed")

    def _note_answer(self, connection: Connection) -> None:
        self.encoding = connection.info.parameter_status("server_encoding") or self.encoding
        self.answers += 1

    async def _why_away(self) -> str:
        """Why no connection can be made. The pool does not report the reason, so one connection is tried without it."""
        problem = await self._diagnosis.problem(self._url)
        return f"no connection could be made{': ' + problem if problem else ' in time: all of them are in use'}"
