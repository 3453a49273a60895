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
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embedding_worker.errors import RowsLocked
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import VectorWrite
from hack.database.postgres import Database as GivenDatabase
from tests.support.kept_rows import Application, Keeper, Oracle, fake_vector, run, source_config, vector_write

T = TypeVar("T")

EXAMPLES, STEPS = 40, 25
IDS = st.integers(1, 3).map(str)  # few, so that the steps concern the same rows
TEXTS = st.sampled_from(["one", "two", "three", ""])
SEEN = [
    "insert",
    "insert with a vector",
    "edit",
    "delete",
    "change the id",
    "exchange texts",
    "exchange ids",
    "back up",
]
SEEN += ["restore", "mark"]
UNSEEN = ["clear", "edit unseen", "forget", "wait"]
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
    to_clear: set[str] = field(default_factory=set)
    """Rows that were up to date, or gone, when they were swept."""
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


class Interleavings(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.reset()
        self.replicas = [Replica(keeper) for keeper in world.keepers]
        self.open: str | None = None
        """The row that the open transaction has edited."""
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
        if not seen:
            self.unseen.update(touches)

    @initialize(texts=st.tuples(TEXTS, TEXTS, TEXTS))
    def begin_with_fresh_rows(self, texts: tuple[str, str, str]) -> None:
        for row, text in zip("123", texts, strict=True):
            self.insert(row, text)
        self.work(0)

    def insert(self, row: str, text: str) -> None:
        self.apply("INSERT INTO businesses (id, name) VALUES (%s::int, %s)", row, text, touches=[row])

    def insert_with_a_vector(self, row: str, text: str, of: str) -> None:
        vector = str(fake_vector(of))
        self.apply(
            "INSERT INTO businesses (id, name, embedding) VALUES (%s::int, %s, %s)", row, text, vector, touches=[row]
        )

    def edit(self, row: str, text: str) -> None:
        self.apply("UPDATE businesses SET name = %s WHERE id = %s::int", text, row, touches=[row])

    def delete(self, row: str) -> None:
        self.apply("DELETE FROM businesses WHERE id = %s::int", row, touches=[row])

    def change_the_id(self, row: str, other: str) -> None:
        self.apply("UPDATE businesses SET id = %s::int WHERE id = %s::int", other, row, touches=[row, other])

    def exchange_the_texts(self, row: str, other: str) -> None:
        self.apply(
            "UPDATE businesses b SET name = o.name FROM businesses o "
            "WHERE b.id <> o.id AND b.id IN (%s::int, %s::int) AND o.id IN (%s::int, %s::int)",
            *(row, other, row, other),
            touches=[row, other],
        )

    def exchange_the_ids(self, row: str, other: str) -> None:
        with suppress(*REFUSED), self.world.connection.transaction():
            for new, old in (("-1", row), (row, other), (other, "-1")):
                run(self.world.connection, "UPDATE businesses SET id = %s::int WHERE id = %s::int", new, old)
            self.note([row, other], seen=True)

    @rule(row=IDS, of=TEXTS)
    def overwrite_the_vector(self, row: str, of: str) -> None:
        sql = "UPDATE businesses SET embedding = %s WHERE id = %s::int"
        self.apply(sql, str(fake_vector(of)), row, touches=[row], seen=False)

    def clear_the_vector(self, row: str) -> None:
        self.apply("UPDATE businesses SET embedding = NULL WHERE id = %s::int", row, touches=[row], seen=False)

    def make_a_backup(self) -> None:
        self.saved = run(self.world.connection, "SELECT id, name, embedding::text FROM businesses")

    def restore_the_backup(self) -> None:
        if self.saved is None:
            return
        with suppress(*REFUSED), self.world.connection.transaction():
            gone = [str(row[0]) for row in run(self.world.connection, "SELECT id FROM businesses")]
            run(self.world.connection, "TRUNCATE businesses")
            for row in self.saved:
                run(self.world.connection, "INSERT INTO businesses (id, name, embedding) VALUES (%s, %s, %s)", *row)
            self.note(gone, seen=True)
            self.note([str(row[0]) for row in self.saved], seen=True)

    def edit_without_triggers(self, row: str, text: str) -> None:
        with suppress(*REFUSED), self.world.connection.transaction():
            run(self.world.connection, "ALTER TABLE businesses DISABLE TRIGGER USER")
            run(self.world.connection, "UPDATE businesses SET name = %s WHERE id = %s::int", text, row)
            run(self.world.connection, "ALTER TABLE businesses ENABLE TRIGGER USER")
            self.note([row], seen=False)

    def add_a_mark(self, row: str) -> None:
        run(self.world.connection, f"INSERT INTO {self.world.keepers[0].statements.marks} (id) VALUES (%s)", row)

    def lose_the_book_keeping(self, row: str) -> None:
        state = self.world.keepers[0].statements.state
        self.apply(f"DELETE FROM {state} WHERE id = %s::int", row, touches=[row], seen=False)

    def let_minutes_pass(self) -> None:
        state = self.world.keepers[0].statements.state
        run(self.world.connection, f"UPDATE {state} SET embedded_at = embedded_at - interval '2 minutes'")

    def change(self, kind: str, row: str, other: str, text: str, of: str) -> None:
        {
            "insert": lambda: self.insert(row, text),
            "insert with a vector": lambda: self.insert_with_a_vector(row, text, of),
            "edit": lambda: self.edit(row, text),
            "delete": lambda: self.delete(row),
            "change the id": lambda: self.change_the_id(row, other),
            "exchange texts": lambda: self.exchange_the_texts(row, other),
            "exchange ids": lambda: self.exchange_the_ids(row, other),
            "back up": self.make_a_backup,
            "restore": self.restore_the_backup,
            "mark": lambda: self.add_a_mark(row),
            "clear": lambda: self.clear_the_vector(row),
            "edit unseen": lambda: self.edit_without_triggers(row, text),
            "forget": lambda: self.lose_the_book_keeping(row),
            "wait": self.let_minutes_pass,
        }[kind]()

    @rule(row=IDS, text=TEXTS)
    def change_a_text(self, row: str, text: str) -> None:
        self.edit(row, text)

    @rule(kind=st.sampled_from(SEEN), row=IDS, other=IDS, text=TEXTS, of=TEXTS)
    def change_something(self, kind: str, row: str, other: str, text: str, of: str) -> None:
        self.change(kind, row, other, text, of)

    @rule(kind=st.sampled_from(UNSEEN), row=IDS, other=IDS, text=TEXTS, of=TEXTS)
    def change_something_unseen(self, kind: str, row: str, other: str, text: str, of: str) -> None:
        self.change(kind, row, other, text, of)

    @precondition(lambda self: self.open is None)
    @rule(row=IDS, text=TEXTS)
    def begin_an_edit(self, row: str, text: str) -> None:
        run(self.world.other, "UPDATE businesses SET name = %s WHERE id = %s::int", text, row)
        self.open = row

    @precondition(lambda self: self.open is not None)
    @rule(commit=st.booleans())
    def end_the_edit(self, commit: bool) -> None:
        assert self.open is not None
        if commit:
            self.world.other.commit()
            self.note([self.open], seen=True)
        else:
            self.world.other.rollback()
        self.open = None

    def replica(self, number: int) -> Replica:
        return self.replicas[number % len(self.replicas)]

    @rule(number=st.integers(0, 1), limit=st.integers(1, 5))
    def sweep(self, number: int, limit: int) -> None:
        self.found_due(self.replica(number), limit)

    def found_due(self, replica: Replica, limit: int) -> int:
        """Sweep. Returns how many rows were due, except those whose vector the replica holds."""
        due = self.world.do(replica.keeper.sweep(leave_out=(*replica.swept, *replica.held), limit=limit))
        replica.to_clear |= {row.id for row in due if row.up_to_date or row.gone}
        replica.swept |= {row.id for row in due if not row.up_to_date and not row.gone}
        return len(due)

    @rule(number=st.integers(0, 1))
    def clear(self, number: int) -> None:
        replica = self.replica(number)
        self.world.do(replica.keeper.store.clear(sorted(replica.to_clear)))
        replica.to_clear.clear()

    @rule(number=st.integers(0, 1))
    def sweep_and_call(self, number: int) -> None:
        self.sweep(number, limit=5)
        self.call(number)

    @rule(number=st.integers(0, 1), row=IDS, text=TEXTS)
    def edit_between_the_sweep_and_its_clear(self, number: int, row: str, text: str) -> None:
        self.add_a_mark(row)
        self.sweep(number, limit=5)
        self.edit(row, text)
        self.clear(number)

    @rule(number=st.integers(0, 1), row=IDS, first=TEXTS, second=TEXTS)
    def edit_before_and_during_a_call(self, number: int, row: str, first: str, second: str) -> None:
        self.edit(row, first)
        self.sweep_and_call(number)
        self.edit(row, second)

    @rule(number=st.integers(0, 1))
    def call(self, number: int) -> None:
        """The provider has the texts that the rows have now. Their vectors wait to be written."""
        replica = self.replica(number)
        for row in self.world.do(replica.keeper.read(sorted(replica.swept))).values():
            if not row.up_to_date:
                replica.held[row.id] = vector_write(row.id, row.text)
                self.calls[row.id] += not row.blank
        replica.swept.clear()

    @rule(number=st.integers(0, 1))
    def work(self, number: int) -> None:
        """One operator's steps without anything in between: most rows become fresh."""
        self.sweep(number, limit=5)
        self.clear(number)
        self.call(number)
        self.write(number, set(self.replica(number).held))

    @rule(number=st.integers(0, 1), rows=st.just({"1", "2", "3"}) | st.sets(IDS, min_size=1))
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
        for memory in (replica.swept, replica.to_clear, replica.held):
            memory.clear()

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
            self.work(number)
        self.audit(0)
        while self.found_due(self.replica(0), limit=5):
            self.work(0)
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
