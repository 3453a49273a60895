"""How long a single edit waits for its vector where there is nothing else to do. Called by __main__.py.

Both moments are by PostgreSQL's clock. An edit is a transaction of one statement, whose time counts. `embedded_at` is the
beginning of the transaction that writes the vector, which is too early, so a deferred trigger of the application records when
that transaction commits. The provider answers at once.
"""

import random
import time
from collections.abc import Iterator, Mapping

import psycopg

from hack.benchmarks.edits import EDIT, percentile
from hack.benchmarks.listings import Listings
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.raw_write import fill
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import AT_ONCE
from hack.benchmarks.waiting import wait_until

ROWS = 10_000
EDITS = 200
PAUSE_S = 0.3
"""The longest pause between a vector and the next edit. It is random, so edits fall into every part of a polling interval."""
LONG_PAUSE_S = 10.0
LONG_PAUSE_EVERY = 10
"""So often a pause is long, so that an edit finds an operator that has become idle. All of them take 200 s."""
WITHIN_S = 30.0
LOOK_EVERY_S = 0.01
RECORD_COMMITS = """
CREATE TABLE public.commits (id bigint PRIMARY KEY, at float8);
CREATE FUNCTION public.record_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN INSERT INTO public.commits VALUES (NEW.id, extract(epoch FROM clock_timestamp())); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER record_commit AFTER UPDATE OF embedding ON public.{table} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION public.record_commit()"""
COMMIT = "SELECT at FROM public.commits WHERE id = %s"
MS = 1_000
Connection = psycopg.Connection[tuple[float]]


def measure(setting: Setting) -> Mapping[str, float]:
    with operator_system(setting, ROWS) as system:
        fill(system.as_operator)
        listings = system.listings
        listings.run(RECORD_COMMITS.format(table=listings.name))
        system.start_operator(settings=AT_ONCE)
        system.apply_source(backfill={"mode": "Jobs"})
        system.wait_until_calm()
        numbers = random.Random(1)  # noqa: S311  # no secret depends on it
        with psycopg.connect(listings.url, autocommit=True) as connection:
            found_ms = []
            for row_id, pause_s in zip(numbers.sample(range(1, ROWS + 1), EDITS), pauses_s(numbers), strict=True):
                time.sleep(pause_s)
                found_ms.append(MS * edit_and_wait(connection, listings, row_id))
    setting.say(f"{EDITS} single edits, ms: {min(found_ms):.0f} to {max(found_ms):.0f}")
    return {"edit_to_fresh_p50_ms": percentile(found_ms, 50), "edit_to_fresh_p99_ms": percentile(found_ms, 99)}


def pauses_s(numbers: random.Random) -> Iterator[float]:
    """The seconds before each edit."""
    for number in range(1, EDITS + 1):
        yield LONG_PAUSE_S if number % LONG_PAUSE_EVERY == 0 else numbers.uniform(0, PAUSE_S)


def edit_and_wait(connection: Connection, listings: Listings, row_id: int) -> float:
    """Edit a row that was not edited before. Returns the seconds until the commit of its vector."""
    edited = connection.execute(EDIT.format(table=listings.name).encode(), (row_id,)).fetchall()[0][0]
    written: list[tuple[float]] = []

    def is_written() -> bool:
        written[:] = connection.execute(COMMIT, (row_id,)).fetchall()
        return bool(written)

    wait_until(is_written, within_s=WITHIN_S, because=f"the edit of row {row_id} has its vector", every_s=LOOK_EVERY_S)
    return float(written[0][0]) - float(edited)
