"""The only access to PostgreSQL: a pool, the session settings of every transaction, and the translation of its errors.

Called by the other modules of this folder. Nothing is held between two calls.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from embedding_worker.errors import (
    DatabaseUnavailable,
    EmbeddingError,
    RowsLocked,
    RowsRefused,
    SourceRefused,
    StatementTimedOut,
)
from embedding_worker.rows.connection_causes import STATEMENT_POOLING
from embedding_worker.rows.connections import CONNECTION, Connection, Diagnosis, fetch_alone
from embedding_worker.rows.database_url import libpq_url
from embedding_worker.rows.session import LOCK_TIMEOUT, Settings, begin_with

Row = tuple[Any, ...]

# Not caused by the statement, although the session goes on: out of connections, memory or disk.
AWAY = ("53",)
SAYS = {
    "53100": "the disk of PostgreSQL is full: free space on it, or enlarge it",
    "53200": "PostgreSQL is out of memory: give it more, or end other sessions",
}
"""Sentences for some of their codes."""
# The session is ended: the server shuts down, has crashed, or ends sessions that are idle for too long.
ENDED = ("FATAL", "PANIC")
# In an encoding such as SQL_ASCII a column may contain bytes that are no characters.
NOT_UNICODE = ("22021", "22P05")
NOT_NULL = "23502"
LOCKED = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)


class ServerUnsuitable(DatabaseUnavailable):
    """It answers, but all connections to it are useless: it accepts no writes, or is a PgBouncer that pools statements."""


@contextmanager
def _translate_errors(*, quoting: bool) -> Iterator[None]:
    """Translate psycopg's errors by reaction. The message of a failed statement may carry a row's value. It is quoted only for
    errors of syntax and access (classes 42, 3F, 0A), which name tables, columns, functions or rights, and if the statement reads
    rows (not `quoting`), only if the error was found before any row was read.
    """
    try:
        yield
    except LOCKED as exc:
        raise RowsLocked(type(exc).__name__) from exc
    except errors.QueryCanceled:
        raise StatementTimedOut(
            "StatementTimeout", "PostgreSQL has cancelled the statement, which took too long", sqlstate="57014"
        ) from None
    except psycopg.Error as exc:
        raise _translated(exc, quoting=quoting) from (
            exc if quoting else None
        )  # a traceback must not show a value either


def _translated(exc: psycopg.Error, *, quoting: bool) -> EmbeddingError:
    state, diag = exc.sqlstate or "", exc.diag
    if (away := _away(exc, state)) is not None:
        return away
    # Errors of the parser have a position; rights and policies are checked in these files. A value that is cast to regclass has
    # neither.
    found_early = diag.statement_position is not None or diag.source_file in ("aclchk.c", "rls.c")
    if state.startswith(("42", "3F", "0A")) and (quoting or found_early):
        said = f"PostgreSQL says: {diag.message_primary} ({state})"
        if quoting:
            return SourceRefused("DatabaseRefused", said)
        return RowsRefused("DatabaseRefused", said, sqlstate=state, is_of_the_table=True)
    if state in NOT_UNICODE:
        said = f"an id or a text in the table is not text in UTF-8 ({state}): correct it, and delete change marks with such an id"
        return RowsRefused("DatabaseRefused", said, sqlstate=state)
    return RowsRefused(
        "DatabaseRefused",
        f"PostgreSQL refuses the statement: {_violated(diag) or type(exc).__name__} ({state})",
        sqlstate=state,
        constraint=diag.constraint_name or "",
    )


def _away(exc: psycopg.Error, state: str) -> DatabaseUnavailable | None:
    """The error, if neither the statement nor a row is the cause; None otherwise."""
    diag = exc.diag
    if "statement pooling mode" in str(exc):
        return ServerUnsuitable(f"the connection cannot be used: {STATEMENT_POOLING}")
    if diag.source_function == "exec_stmt_raise":  # a function of the application's has raised an error with this code
        return None
    if state == "25006":
        return ServerUnsuitable("the server accepts no writes any more (25006): the primary is looked for")
    lost = not state and isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    if lost or state.startswith(AWAY) or (diag.severity_nonlocalized or diag.severity) in ENDED:
        return DatabaseUnavailable(SAYS.get(state) or f"the database is away ({type(exc).__name__})")
    return None


def _violated(diag: errors.Diagnostic) -> str:
    """What the value of a row violates, by its name in the schema; empty if it is no constraint."""
    if diag.constraint_name:
        return f"constraint {diag.constraint_name} is violated"
    return f"column {diag.column_name} of {diag.table_name} may not be null" if diag.sqlstate == NOT_NULL else ""


class Transaction:
    """One open transaction, with the session settings of this module in force until its end."""

    def __init__(self, connection: psycopg.AsyncConnection[Row], *, quoting: bool) -> None:
        self._connection = connection
        self._quoting = quoting

    async def fetch(self, sql: str, *params: object) -> list[Row]:
        """Run a statement with `$n` parameters. Returns its rows in order, none if it returns none.

        Raises as Database.transaction does, so that the caller can say what the refusal of this statement means.
        """
        with _translate_errors(quoting=self._quoting):
            async with psycopg.AsyncRawCursor(self._connection) as cursor:
                # binary selects the extended protocol, which accepts one statement: a text expression can't add another.
                await cursor.execute(sql.encode(), params or None, binary=None if params else True)
                return await cursor.fetchall() if cursor.description else []

    async def fetch_and_commit(self, sql: str, *params: object) -> list[Row]:
        """Run the last statement, and commit. Both are sent at once, so that its locks last no longer than the server needs.

        Returns its rows. Raises as `fetch` does.
        """
        with _translate_errors(quoting=self._quoting):
            cursor = psycopg.AsyncRawCursor(self._connection)
            async with self._connection.pipeline():
                await cursor.execute(sql.encode(), params or None)
                await self._connection.commit()
            return await cursor.fetchall()

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
    async def transaction(
        self,
        *,
        search_path: Sequence[str] = (),
        statement_timeout_s: float = 30.0,
        lock_timeout: str = LOCK_TIMEOUT,
        row_security: bool = False,
        planner: Settings = (),
        quoting: bool = False,
    ) -> AsyncIterator[Transaction]:
        """A transaction with the session settings, committed at the end of the block, rolled back on an error.

        Without `row_security` a statement fails where a policy would hide rows, which would be taken for deleted ones.

        Raises DatabaseUnavailable (wait), RowsLocked (again, later) or SourceRefused (someone must act), which is
        RowsRefused if a row's own values may be the cause.
        """
        settings = (
            ("search_path", ", ".join(search_path) or "pg_catalog"),
            ("lock_timeout", lock_timeout),
            ("row_security", "on" if row_security else "off"),
            ("statement_timeout", f"{statement_timeout_s * 1000:.0f}ms"),
            *planner,
        )
        with _translate_errors(quoting=quoting):
            try:
                async with AsyncExitStack() as stack:
                    yield Transaction(await self._begin(stack, settings), quoting=quoting)
            except ServerUnsuitable:
                await self._pool.drain()  # new connections may find the primary among the hosts of the URL
                raise

    async def fetch_at_once(self, sql: str, *, within_s: float) -> list[Row]:
        """Run one statement that reads, by itself: without a transaction block, and whatever the session's settings are.

        Raises as `transaction` does, and StatementTimedOut if there is no answer in time; PostgreSQL then cancels it.
        """
        with _translate_errors(quoting=True):
            try:
                async with self._pool.connection() as connection:
                    rows = await fetch_alone(connection, sql, within_s=within_s)
            except PoolTimeout:
                raise DatabaseUnavailable(await self._why_away()) from None
        self.answers += 1
        return rows

    async def _begin(self, stack: AsyncExitStack, settings: Settings) -> Connection:
        """A connection that has begun a transaction with these settings. The stack ends the transaction.

        A connection that was lost while nobody used it is replaced at once, because nothing has been sent yet. So no more are
        tried than the pool can contain.
        """
        for remaining in reversed(range(self._pool.max_size + 1)):
            async with AsyncExitStack() as attempt:
                try:
                    connection = await attempt.enter_async_context(self._pool.connection())
                except PoolTimeout:
                    raise DatabaseUnavailable(await self._why_away()) from None
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
        if connection.url != self._url:
            raise DatabaseUnavailable("the connection was being opened when the URL changed")
        with _translate_errors(quoting=False):
            async with psycopg.AsyncRawCursor(connection) as cursor:
                await cursor.execute(
                    begin_with(settings)
                )  # by the simple protocol, which accepts both statements at once
        self.encoding = connection.info.parameter_status("server_encoding") or self.encoding
        self.answers += 1

    async def _why_away(self) -> str:
        """Why no connection can be made. The pool does not report the reason, so one connection is tried without it."""
        problem = await self._diagnosis.problem(self._url)
        return f"no connection could be made{': ' + problem if problem else ' in time: all of them are in use'}"
