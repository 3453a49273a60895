"""Translates PostgreSQL's errors by reaction. No message and no traceback contains a row's value. Called by database.py."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from embedding_worker.errors import (
    DatabaseUnavailable,
    EmbeddingError,
    RowsLocked,
    RowsRefused,
    SourceRefused,
    StatementTimedOut,
)
from embedding_worker.rows.connection_causes import STATEMENT_POOLING

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
def translate_errors(*, quoting: bool) -> Iterator[None]:
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
