"""A gate in the middle of a statement: a text that is computed only once the gate is open. Forces an interleaving.

Called by the tests of what happens to a row while a statement looks at it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.deadline import eventually
from tests.support.kept_rows import Application, run

NUMBER = 7
# Looks immutable to PostgreSQL and to us; locks that are shared stand in nobody's way but the gate's.
GATED = f"""
CREATE FUNCTION public.gated(text) RETURNS text LANGUAGE plpgsql IMMUTABLE
AS $$BEGIN PERFORM pg_advisory_xact_lock_shared({NUMBER}); RETURN $1; END$$
"""
WAITING = f"SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = {NUMBER} AND NOT granted"


@contextmanager
def gate_shut(application: Application) -> Iterator[Callable[[], None]]:
    """Gives the function that opens the gate."""
    with application.transaction() as connection:
        run(connection, f"SELECT pg_advisory_xact_lock({NUMBER})")
        yield connection.commit


async def until_somebody_waits(application: Application) -> None:
    because = "a statement computes the text, and the gate is shut"
    await eventually(lambda: application.run(WAITING), within_s=5, because=because)
