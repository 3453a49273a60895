"""Stops a statement while it computes a row's text, until the test opens a gate. The gate is an advisory lock.

Called by the tests of edits that are committed while a statement of the row store runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.deadline import eventually
from tests.support.kept_rows import Application, run

NUMBER = 7
# It is declared IMMUTABLE, as an expression of a source must be. Shared locks conflict only with the test's exclusive lock.
GATED = f"""
CREATE FUNCTION public.gated(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
AS $$BEGIN PERFORM pg_advisory_xact_lock_shared({NUMBER}); RETURN $1; END$$
"""
WAITING = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = {NUMBER} AND NOT granted"


@contextmanager
def closed_gate(application: Application) -> Iterator[Callable[[], None]]:
    """Close the gate, and yield the function that opens it."""
    with application.transaction() as connection:
        run(connection, f"SELECT pg_advisory_xact_lock({NUMBER})")
        yield connection.commit


async def wait_for_statement_at_gate(application: Application) -> None:
    because = "a statement computes the text, and the gate is closed"
    await eventually(lambda: application.run(WAITING), within_s=30, because=because)
