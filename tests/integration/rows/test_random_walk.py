"""All operations at once in a random order: in the end every vector is the one of its present text."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
import pytest

from embedding_worker.errors import RowsLocked
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, vector_write

IDS = 25
WRITERS = 4
EDITS_EACH = 120
REPLICAS = 3
ITS_OWN_FAULT = (psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected)

Edit = Callable[["Writer"], Awaitable[None]]


@dataclass(frozen=True)
class Writer:
    """One connection of the application."""

    connection: psycopg.AsyncConnection
    chosen: random.Random

    async def run(self, sql: str, *parameters: object) -> None:
        await self.connection.execute(sql.encode(), parameters)

    def an_id(self) -> int:
        return self.chosen.randrange(IDS)

    def a_name(self) -> str:
        return f"name {self.chosen.randrange(6)}"  # few, so that an old text comes back

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """With pauses in it, in which the others go on."""
        async with self.connection.transaction():
            yield
            await a_moment(self.chosen)


async def a_moment(chosen: random.Random) -> None:
    for _ in range(chosen.randrange(8)):
        await asyncio.sleep(0)


async def insert(writer: Writer) -> None:
    await writer.run(
        "INSERT INTO businesses (id, name) VALUES (%s, %s) ON CONFLICT DO NOTHING", writer.an_id(), writer.a_name()
    )


async def edit(writer: Writer) -> None:
    await writer.run("UPDATE businesses SET name = %s WHERE id = %s", writer.a_name(), writer.an_id())


async def edit_in_a_long_transaction(writer: Writer) -> None:
    async with writer.transaction():
        await edit(writer)
        await a_moment(writer.chosen)


async def edit_many(writer: Writer) -> None:
    async with writer.transaction():
        await writer.run("SELECT FROM businesses ORDER BY id FOR UPDATE")
        await writer.run("UPDATE businesses SET name = %s WHERE id < %s", writer.a_name(), writer.an_id())


async def edit_and_take_it_back(writer: Writer) -> None:
    row_id = writer.an_id()
    await writer.run("UPDATE businesses SET name = name || '!' WHERE id = %s", row_id)
    await writer.run("UPDATE businesses SET name = rtrim(name, '!') WHERE id = %s", row_id)


async def edit_and_roll_back(writer: Writer) -> None:
    async with writer.transaction():
        await edit(writer)
        await insert(writer)
        raise psycopg.Rollback


async def edit_the_phone(writer: Writer) -> None:
    await writer.run("UPDATE businesses SET phone = coalesce(phone, '') || '1' WHERE id = %s", writer.an_id())


async def blank(writer: Writer) -> None:
    await writer.run(
        "UPDATE businesses SET name = %s WHERE id = %s", writer.chosen.choice(["", " ", None]), writer.an_id()
    )


async def delete(writer: Writer) -> None:
    await writer.run("DELETE FROM businesses WHERE id = %s", writer.an_id())


async def delete_and_insert_again(writer: Writer) -> None:
    row_id = writer.an_id()
    async with writer.transaction():
        await writer.run("DELETE FROM businesses WHERE id = %s", row_id)
        await writer.run("INSERT INTO businesses (id, name) VALUES (%s, %s)", row_id, writer.a_name())


async def change_the_id(writer: Writer) -> None:
    await writer.run("UPDATE businesses SET id = %s WHERE id = %s", writer.an_id(), writer.an_id())


async def exchange_ids(writer: Writer) -> None:
    one, other = sorted((writer.an_id(), writer.an_id()))
    async with writer.transaction():
        await writer.run("SELECT FROM businesses WHERE id IN (%s, %s) ORDER BY id FOR UPDATE", one, other)
        await writer.run("UPDATE businesses SET id = -1 - id WHERE id = %s", one)
        await writer.run("UPDATE businesses SET id = %s WHERE id = %s", one, other)
        await writer.run("UPDATE businesses SET id = %s WHERE id = %s", other, -1 - one)


async def empty_the_table(writer: Writer) -> None:
    if writer.chosen.random() < 0.1:
        await writer.run("TRUNCATE businesses")


async def clear_the_vector(writer: Writer) -> None:
    await writer.run("UPDATE businesses SET embedding = NULL WHERE id = %s", writer.an_id())


SEEN_BY_THE_TRIGGER: list[Edit] = [
    *(insert, insert, insert, edit, edit, edit_in_a_long_transaction, edit_many, edit_and_take_it_back),
    *(edit_and_roll_back, edit_the_phone, blank, delete, delete_and_insert_again, change_the_id, exchange_ids),
    empty_the_table,
]
SEEN_BY_THE_AUDIT: list[Edit] = [*SEEN_BY_THE_TRIGGER, clear_the_vector, clear_the_vector]


async def write(url: str, edits: list[Edit], chosen: random.Random) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "SET deadlock_timeout = '20ms'"
        )  # the writers' own deadlocks; none involves the operator
        writer = Writer(connection, chosen)
        for _ in range(EDITS_EACH):
            with contextlib.suppress(*ITS_OWN_FAULT):
                await chosen.choice(edits)(writer)


async def keep_fresh(keeper: Keeper, chosen: random.Random) -> None:
    """The rounds of a replica, without end: sweep, clear, read, embed, write; with pauses as a provider's call makes them."""
    while True:
        with contextlib.suppress(RowsLocked):
            due = await keeper.sweep(limit=chosen.randrange(1, 12))
            await keeper.store.clear([row.id for row in due if row.up_to_date or row.gone])
            rows = await keeper.read([row.id for row in due])
            await a_moment(chosen)
            await keeper.write([vector_write(row.id, row.text) for row in rows.values() if not row.up_to_date])
        await asyncio.sleep(0)


async def audit_continuously(keeper: Keeper) -> None:
    after = None
    while True:
        with contextlib.suppress(RowsLocked):
            after = (await keeper.store.audit(after_id=after, limit=7)).last_id
        await asyncio.sleep(0)


@asynccontextmanager
async def going_on(*loops: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        yield
        assert not [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("seed", range(6))
async def test_what_the_trigger_sees_needs_no_audit(businesses: Application, keep: Keep, seed: int) -> None:
    keeper, oracle = await keep(text="concat_ws(' ', name, description)")
    chances = [random.Random(f"{seed} {n}") for n in range(WRITERS + REPLICAS)]  # noqa: S311
    async with going_on(*(keep_fresh(keeper, chosen) for chosen in chances[WRITERS:])):
        await asyncio.gather(*(write(businesses.url, SEEN_BY_THE_TRIGGER, chosen) for chosen in chances[:WRITERS]))
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert oracle.vectors()


@pytest.mark.parametrize("seed", range(6))
async def test_what_it_does_not_see_is_found_by_the_audit(businesses: Application, keep: Keep, seed: int) -> None:
    keeper, oracle = await keep(text="concat_ws(' ', name, description)")
    chances = [random.Random(f"{seed} {n}") for n in range(WRITERS + REPLICAS)]  # noqa: S311
    async with going_on(audit_continuously(keeper), *(keep_fresh(keeper, chosen) for chosen in chances[WRITERS:])):
        await asyncio.gather(*(write(businesses.url, SEEN_BY_THE_AUDIT, chosen) for chosen in chances[:WRITERS]))
    await keeper.audit()
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    businesses.run(f"UPDATE {keeper.statements.state} SET embedded_at = now() - interval '2 minutes'")
    assert await keeper.audit() == 0
    assert set(oracle.states()) == set(oracle.vectors())
