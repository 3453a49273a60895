"""Steps of the application and of the operator in any order: no vector of another text is ever taken for the row's own.

Hypothesis chooses the steps. After each of them, a row that is not up to date has a mark, unless no trigger could see why; in the
end all rows are fresh, and no text was sent more often than the row was changed or its call was lost.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from embedding_worker.errors import RowsLocked
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import VectorWrite
from hack.database.postgres import Database as GivenDatabase
from tests.support.kept_rows import Application, Keeper, Oracle, fake_vector, run, source_config, vector_write

T = TypeVar("T")

EXAMPLES, STEPS = 25, 30
IDS = st.integers(1, 3).map(str)  # few, so that the steps concern the same rows
TEXTS = st.sampled_from(["one", "two", "three", "", " "])
REFUSED = (psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable)
FRESH = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    phases=[Phase.generate],  # finding a shorter example would take minutes
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Replica:
    """One operator: what it has in memory, and loses when it crashes."""

    keeper: Keeper
    swept: set[str] = field(default_factory=set)
    held: dict[str, VectorWrite] = field(default_factory=dict)
    """Rows whose call has returned, and whose vector is not written yet."""


@dataclass
class World:
    """A table, the application's connections, and the operator's. Shared by all examples."""

    runner: asyncio.Runner
    oracle: Oracle
    keepers: list[Keeper]
    connection: psycopg.Connection
    other: psycopg.Connection
    """In a transaction of its own, which stays open over many steps."""

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def rows_and_marks(self) -> tuple[dict[str, tuple[str, list[float] | None]], set[str]]:
        """The text and the vector of each row, and the ids of the marks."""
        rows = run(self.connection, "SELECT id::text, name, embedding::real[] FROM businesses")
        marks = run(self.connection, f"SELECT id FROM {self.keepers[0].statements.marks}")
        return {row_id: (text, vector) for row_id, text, vector in rows}, {mark[0] for mark in marks}

    def reset(self) -> None:
        self.other.rollback()
        statements = self.keepers[0].statements
        run(self.connection, f"TRUNCATE businesses, {statements.state}, {statements.marks}")
        run(self.connection, "ALTER TABLE businesses ENABLE TRIGGER USER")


class Interleavings(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.reset()
        self.replicas = [Replica(keeper) for keeper in world.keepers]
        self.triggers = True
        self.open: tuple[str, bool] | None = None
        """The row that the open transaction has edited, and whether the triggers saw it."""
        self.unseen: set[str] = set()
        """Rows with a change that no trigger saw, and no audit since."""
        self.changes: Counter[str] = Counter()
        """How often each row was changed, or its vector was lost before it was written."""
        self.calls: Counter[str] = Counter()
        self.saved: list[tuple[Any, ...]] | None = None

    def apply(self, sql: str, *params: object, touches: list[str], seen: bool = True) -> None:
        """A write of the application, unless a key or a lock forbids it."""
        with suppress(*REFUSED):
            if self.world.connection.execute(sql.encode(), params).rowcount:
                self.note(touches, seen=seen)

    def note(self, touches: list[str], *, seen: bool) -> None:
        self.changes.update(touches)
        if not (seen and self.triggers):
            self.unseen.update(touches)

    @rule(row=IDS, text=TEXTS)
    def insert(self, row: str, text: str) -> None:
        self.apply("INSERT INTO businesses (id, name) VALUES (%s::int, %s)", row, text, touches=[row])

    @rule(row=IDS, text=TEXTS, of=TEXTS)
    def insert_with_a_vector(self, row: str, text: str, of: str) -> None:
        vector = str(fake_vector(of))
        self.apply(
            "INSERT INTO businesses (id, name, embedding) VALUES (%s::int, %s, %s)", row, text, vector, touches=[row]
        )

    @rule(row=IDS, text=TEXTS)
    def edit(self, row: str, text: str) -> None:
        self.apply("UPDATE businesses SET name = %s WHERE id = %s::int", text, row, touches=[row])

    @rule(row=IDS)
    def delete(self, row: str) -> None:
        self.apply("DELETE FROM businesses WHERE id = %s::int", row, touches=[row])

    @rule(row=IDS, other=IDS)
    def change_the_id(self, row: str, other: str) -> None:
        self.apply("UPDATE businesses SET id = %s::int WHERE id = %s::int", other, row, touches=[row, other])

    @rule(row=IDS, other=IDS)
    def exchange_the_texts(self, row: str, other: str) -> None:
        self.apply(
            "UPDATE businesses b SET name = o.name FROM businesses o "
            "WHERE b.id <> o.id AND b.id IN (%s::int, %s::int) AND o.id IN (%s::int, %s::int)",
            *(row, other, row, other),
            touches=[row, other],
        )

    @rule(row=IDS, other=IDS)
    def exchange_the_ids(self, row: str, other: str) -> None:
        with suppress(*REFUSED), self.world.connection.transaction():
            for new, old in (("-1", row), (row, other), (other, "-1")):
                run(self.world.connection, "UPDATE businesses SET id = %s::int WHERE id = %s::int", new, old)
            self.note([row, other], seen=True)

    @rule(row=IDS, of=TEXTS)
    def overwrite_the_vector(self, row: str, of: str) -> None:
        sql = "UPDATE businesses SET embedding = %s WHERE id = %s::int"
        self.apply(sql, str(fake_vector(of)), row, touches=[row], seen=False)

    @rule(row=IDS)
    def clear_the_vector(self, row: str) -> None:
        self.apply("UPDATE businesses SET embedding = NULL WHERE id = %s::int", row, touches=[row], seen=False)

    @rule()
    def make_a_backup(self) -> None:
        self.saved = run(self.world.connection, "SELECT id, name, embedding::text FROM businesses")

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore_the_backup(self) -> None:
        with suppress(*REFUSED), self.world.connection.transaction():
            gone = [str(row[0]) for row in run(self.world.connection, "SELECT id FROM businesses")]
            run(self.world.connection, "TRUNCATE businesses")
            for row in self.saved or ():
                run(self.world.connection, "INSERT INTO businesses (id, name, embedding) VALUES (%s, %s, %s)", *row)
            self.note(gone, seen=True)
            self.note([str(row[0]) for row in self.saved or ()], seen=True)

    @rule(enable=st.booleans())
    def switch_the_triggers(self, enable: bool) -> None:
        with suppress(*REFUSED):
            run(self.world.connection, f"ALTER TABLE businesses {'ENABLE' if enable else 'DISABLE'} TRIGGER USER")
            self.triggers = enable

    @rule(row=IDS)
    def lose_the_book_keeping(self, row: str) -> None:
        state = self.world.keepers[0].statements.state
        self.apply(f"DELETE FROM {state} WHERE id = %s::int", row, touches=[row], seen=False)

    @rule()
    def let_minutes_pass(self) -> None:
        state = self.world.keepers[0].statements.state
        run(self.world.connection, f"UPDATE {state} SET embedded_at = embedded_at - interval '2 minutes'")

    @precondition(lambda self: self.open is None)
    @rule(row=IDS, text=TEXTS)
    def begin_an_edit(self, row: str, text: str) -> None:
        run(self.world.other, "UPDATE businesses SET name = %s WHERE id = %s::int", text, row)
        self.open = (row, self.triggers)

    @precondition(lambda self: self.open is not None)
    @rule(commit=st.booleans())
    def end_the_edit(self, commit: bool) -> None:
        assert self.open is not None
        row, seen = self.open
        if commit:
            self.world.other.commit()
            self.changes[row] += 1
            if not seen:
                self.unseen.add(row)
        else:
            self.world.other.rollback()
        self.open = None

    def replica(self, number: int) -> Replica:
        return self.replicas[number % len(self.replicas)]

    @rule(number=st.integers(0, 1), limit=st.integers(1, 5))
    def sweep(self, number: int, limit: int) -> None:
        self.found_due(self.replica(number), limit)

    def found_due(self, replica: Replica, limit: int) -> int:
        """Sweep and clear. Returns how many rows were due, except those whose vector the replica holds."""
        due = self.world.do(replica.keeper.sweep(leave_out=(*replica.swept, *replica.held), limit=limit))
        self.world.do(replica.keeper.store.clear([row.id for row in due if row.up_to_date or row.gone]))
        replica.swept |= {row.id for row in due if not row.up_to_date and not row.gone}
        return len(due)

    @rule(number=st.integers(0, 1))
    def call(self, number: int) -> None:
        """The provider has the texts that the rows have now. Their vectors wait to be written."""
        replica = self.replica(number)
        for row in self.world.do(replica.keeper.read(sorted(replica.swept))).values():
            if not row.up_to_date:
                replica.held[row.id] = vector_write(row.id, row.text)
                self.calls[row.id] += not row.blank
        replica.swept.clear()

    @rule(number=st.integers(0, 1), rows=st.sets(IDS))
    def write(self, number: int, rows: set[str]) -> None:
        """Rows that are locked, and have the same text, are written later. All others have their outcome."""
        replica = self.replica(number)
        given = [write for row, write in replica.held.items() if row in rows]
        written = self.world.do(replica.keeper.write(given))
        present = self.world.do(replica.keeper.read([write.id for write in given]))
        for write in given:
            row = present.get(write.id)
            locked = row is not None and not row.up_to_date and row.content_hash == write.content_hash
            if write.id in written or not locked:
                del replica.held[write.id]

    @rule(number=st.integers(0, 1), after=st.none() | IDS, limit=st.integers(1, 4))
    def audit_a_page(self, number: int, after: str | None, limit: int) -> None:
        with suppress(RowsLocked):
            self.world.do(self.replica(number).keeper.store.audit(after_id=after, limit=limit))

    @rule(number=st.integers(0, 1))
    def audit(self, number: int) -> None:
        self.world.do(self.replica(number).keeper.audit(page=2))
        self.unseen.clear()

    @rule(number=st.integers(0, 1))
    def crash(self, number: int) -> None:
        replica = self.replica(number)
        self.changes.update(list(replica.held))
        replica.swept.clear()
        replica.held.clear()

    @invariant()
    def no_vector_of_another_text_is_taken_for_the_rows_own(self) -> None:
        rows, marks = self.world.rows_and_marks()
        present = self.world.do(self.world.keepers[0].read(list(rows)))
        up_to_date = {row.id for row in present.values() if row.up_to_date}
        for row_id in up_to_date:
            text, vector = rows[row_id]
            assert vector == vector_write(row_id, text).vector
        assert set(rows) - up_to_date - self.unseen <= marks

    def teardown(self) -> None:
        if self.open is not None:
            self.end_the_edit(commit=True)
        for number in range(len(self.replicas)):
            self.call(number)
            self.write(number, set(self.replica(number).held))
        self.audit(0)
        while self.found_due(self.replica(0), limit=5):
            self.call(0)
            self.write(0, set(self.replica(0).held))
        oracle = self.world.oracle
        assert (oracle.wrong(), oracle.marks()) == ([], [])
        assert self.world.do(self.world.keepers[0].audit(page=2)) == 0
        most = Counter({row: changes * len(self.replicas) for row, changes in self.changes.items()})
        assert self.calls - most == Counter()


@pytest.fixture(params=[1, 2], ids=["one operator", "two operators"])
def world(businesses: Application, database: GivenDatabase, request: pytest.FixtureRequest) -> Iterator[World]:
    config = source_config(text="name")

    async def prepare() -> tuple[Database, list[Keeper]]:
        opened = await Database(database.url, max_connections=2).__aenter__()
        return opened, [await Keeper.prepare(opened, config) for _ in range(request.param)]

    with (
        asyncio.Runner() as runner,
        psycopg.connect(database.url, autocommit=True) as connection,
        psycopg.connect(database.url) as other,
    ):
        opened, keepers = runner.run(prepare())
        run(connection, "SET lock_timeout = '20ms'")
        yield World(runner, Oracle(businesses, config), keepers, connection, other)
        other.rollback()
        runner.run(opened.__aexit__())


def test_every_interleaving_leaves_every_row_fresh(world: World) -> None:
    class InThisWorld(Interleavings):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(InThisWorld, settings=FRESH)
