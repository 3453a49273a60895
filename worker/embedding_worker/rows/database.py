"""The only access to PostgreSQL: a pool, the session settings of every transaction, and the translation of its errors.

The only module that imports psycopg. Called by the other modules of this folder. Nothing is held between two calls.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import psycopg
from psycopg import errors, pq
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from embedding_worker.errors import (
    DatabaseUnavailable,
    EmbeddingError,
    RowsLocked,
    RowsRefused,
    SourceRefused,
    StatementTimedOut,
)

Row = tuple[Any, ...]

# Below PostgreSQL's deadlock_timeout (1 s), so that in a deadlock with an application it is the operator that gives way.
LOCK_TIMEOUT = "100ms"
# A text expression must give the same text in every session, or every audit would find every row due.
SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
# Not caused by the statement: shut down, crashed, starting; out of connections, memory or disk; connection lost.
AWAY = ("57P01", "57P02", "57P03", "53", "08")
LOCKED = (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected)


CONNECTION: dict[str, Any] = {
    "prepare_threshold": None,
    "target_session_attrs": "read-write",
    "application_name": "embedding-operator",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


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
    lost = isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))
    if lost and (not state or state.startswith(AWAY)):
        return DatabaseUnavailable(f"the database is away ({type(exc).__name__})")
    # Errors of the parser have a position; rights and policies are checked in these files. A value that is cast to regclass has
    # neither.
    found_early = diag.statement_position is not None or diag.source_file in ("aclchk.c", "rls.c")
    if state.startswith(("42", "3F", "0A")) and (quoting or found_early):
        said = f"PostgreSQL says: {diag.message_primary} ({state})"
        if quoting:
            return SourceRefused("DatabaseRefused", said)
        return RowsRefused("DatabaseRefused", said, sqlstate=state, is_of_the_table=True)
    why = f"constraint {diag.constraint_name} is violated" if diag.constraint_name else type(exc).__name__
    return RowsRefused(
        "DatabaseRefused",
        f"PostgreSQL refuses the statement: {why} ({state})",
        sqlstate=state,
        constraint=diag.constraint_name or "",
    )


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

    async def undo(self) -> None:
        """Roll back everything that this transaction did."""
        await self._connection.rollback()


class Database:
    """A pool of connections to one database.

    No connection is checked out over anything but a statement; PgBouncer in transaction mode is fine (nothing is
    prepared, and settings are local to a transaction).
    """

    def __init__(self, url: str, *, max_connections: int = 8) -> None:
        self._url = url
        self._pool = AsyncConnectionPool(
            lambda: self._url,
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
        if (reason := unusable_url(url)) is not None:
            raise SourceRefused("DatabaseUrlInvalid", f"it is no database URL: {reason}")
        try:
            await (await psycopg.AsyncConnection.connect(url, **CONNECTION)).close()
        except psycopg.Error as exc:
            raise DatabaseUnavailable(f"no connection could be made: {connection_problem(str(exc))}") from None
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
        quoting: bool = False,
    ) -> AsyncIterator[Transaction]:
        """A transaction with the session settings, committed at the end of the block, rolled back on an error.

        Without `row_security` a statement fails where a policy would hide rows, which would be taken for deleted ones.

        Raises DatabaseUnavailable (wait), RowsLocked (again, later) or SourceRefused (someone must act), which is
        RowsRefused if a row's own values may be the cause.
        """
        settings = {
            **SETTINGS,
            "search_path": ", ".join(search_path) or "pg_catalog",
            "lock_timeout": lock_timeout,
            "row_security": "on" if row_security else "off",
            "statement_timeout": f"{statement_timeout_s * 1000:.0f}ms",
        }
        with _translate_errors(quoting=quoting):
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(self._pool.connection())
                except PoolTimeout:
                    raise DatabaseUnavailable(await self._why_away()) from None
                transaction = Transaction(connection, quoting=quoting)
                pairs = ", ".join(f"set_config(${2 * n + 1}, ${2 * n + 2}, true)" for n in range(len(settings)))
                await transaction.fetch(f"SELECT {pairs}", *(part for pair in settings.items() for part in pair))
                yield transaction

    async def _why_away(self) -> str:
        """Why no connection can be made. The pool does not report the reason, so one connection is tried without it."""
        try:
            connection = await psycopg.AsyncConnection.connect(self._url, **{**CONNECTION, "connect_timeout": 3})
        except psycopg.Error as exc:
            return f"no connection could be made: {connection_problem(str(exc))}"
        await connection.close()
        return "no connection could be made in time: all of them are in use"


CONNECTION_PROBLEMS = {
    "password authentication failed": "the password is refused",
    "no password supplied": "it asks for a password, and DATABASE_URL has none",
    'role "': "the role does not exist, or may not log in",
    'database "': "the database does not exist",
    "failed to resolve host": "its host name is not known",
    "could not translate host name": "its host name is not known",
    "refused": "nothing listens at its address",
    "No such file": "nothing listens at its socket",
    "timeout": "its address does not answer",
    "too many": "it has too many connections",
    "starting up": "it is starting up",
    "shutting down": "it is shutting down",
    "read-only": "it accepts no writes: name the primary",
    "hot standby": "it accepts no writes: name the primary",
    "certificate": "its certificate is not trusted",
}


def connection_problem(message: str) -> str:
    """What libpq's message means. The message itself may quote parts of the URL, and so of the password."""
    for word, problem in CONNECTION_PROBLEMS.items():
        if word in message:
            return problem
    return "libpq gives a reason that is not known here"


def unusable_url(url: str) -> str | None:
    """Why libpq does not accept this database URL, in a sentence without the URL's secrets; None if it does."""
    try:
        pq.Conninfo.parse(url.encode())
    except psycopg.Error as exc:
        message = str(exc).strip().replace('"="', "=").replace('"]"', "]")
        if not message.startswith("invalid URI query parameter"):  # any other message may quote a part of the password
            message = re.sub('".*"', '"***"', message)
        return f"libpq says: {message}"
    return None
