"""Runs one statement in a transaction of its own, with a single round trip to PostgreSQL. Called by database.py.

BEGIN, the settings, the statement and COMMIT are sent together by the extended protocol, of which each message accepts one
statement: a text expression can't add another. psycopg's own pipeline sends each of them by itself, and costs more than it saves.
"""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from embedding_worker.rows.session import BEGIN, COMMIT, Settings, apply

Row = tuple[Any, ...]
Statement = tuple[bytes, Sequence[Any] | None, Sequence[int] | None, Sequence[int] | None]
"""The SQL, and its parameters as they are sent, with their types and formats."""
STATEMENT = 2
"""The place of the result among those of BEGIN, the settings, the statement and COMMIT."""


async def run_at_once(
    connection: psycopg.AsyncConnection[Row], settings: Settings, sql: str, params: Sequence[object]
) -> list[Row]:
    """Run the statement, with `$n` parameters, with these settings, and commit.

    Returns its rows in order, none if it returns none. Raises psycopg.Error, after which a transaction may be left that is to be
    rolled back. If the connection was lost, it is not known whether the statement was committed.
    """
    transformer = Transformer(connection)
    values = transformer.dump_sequence(params, [PyFormat.AUTO] * len(params))
    statements: list[Statement] = [(text, None, None, None) for text in (BEGIN, apply(settings), COMMIT)]
    statements.insert(STATEMENT, (sql.encode(), values, transformer.types, transformer.formats))
    async with connection.lock:
        results = await connection.wait(_exchange(connection.pgconn, statements))
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result, encoding="utf-8")
    transformer.set_pgresult(results[STATEMENT])
    return transformer.load_rows(0, results[STATEMENT].ntuples, tuple)


def _exchange(pgconn: PGconn, statements: Sequence[Statement]) -> PQGen[list[PGresult]]:
    """Send the statements, and receive their results. After an error the server skips the others.

    If the connection is lost after an error, the results end with this error, which says why.
    """
    pgconn.enter_pipeline_mode()
    for statement in statements:
        pgconn.send_query_params(*statement)
    pgconn.pipeline_sync()
    yield from generators.send(pgconn)
    results: list[PGresult] = []
    while not results or results[-1].status != ExecStatus.PIPELINE_SYNC:
        try:
            received = yield from generators.fetch_many(pgconn)
        except psycopg.OperationalError:
            if any(result.status == ExecStatus.FATAL_ERROR for result in results):
                return results
            raise
        if not received:  # libpq has given up a connection whose answers it cannot read
            pgconn.finish()
            raise psycopg.OperationalError("the server's answer cannot be read")
        results += received
    pgconn.exit_pipeline_mode()
    return results
