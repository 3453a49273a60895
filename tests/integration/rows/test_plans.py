"""What a statement costs: the window, and never the table. Plans are looked at, not the clock.

As planned for a disk without a needle: for one with a needle PostgreSQL reads a table of a few megabytes from end to end
rather than looking up 500 rows of it, which is the better plan.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from embedding_worker.rows.backlog import Share
from embedding_worker.rows.database import Row
from embedding_worker.rows.session import Settings
from embedding_worker.rows.table_access import BY_INDEX, TableAccess
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, vector_write

TABLES = {"due_ones", "fresh_ones"}
ROWS = 50_000
WINDOW = 500
FEW = 5_000
"""Far below the table, and above whatever a window of rows with their marks may need."""


@pytest.fixture(scope="module")
def database(database_server: DatabaseServer) -> Iterator[GivenDatabase]:
    """One for all tests of this module: each leaves it as it was."""
    created = database_server.create_database()
    yield created
    database_server.drop_database(created.name)


@pytest.fixture
async def due(application: Application, keep: Keep) -> Keeper:
    """50,000 businesses, all of them due, and what the planner knows of them."""
    return await filled(application, keep, "due_ones")


@pytest.fixture
async def fresh(application: Application, keep: Keep) -> Keeper:
    """The same, and fresh."""
    return await filled(
        application,
        keep,
        "fresh_ones",
        "UPDATE fresh_ones SET embedding = '[1,2,3]'; TRUNCATE {due}; INSERT INTO {state} "
        "SELECT id, encode(sha256(convert_to(name, 'UTF8')), 'hex'), 'fake@3', now(), "
        "int8send(hash_record_extended(ROW(vector_send(embedding)), 0)) FROM fresh_ones",
    )


async def filled(application: Application, keep: Keep, table: str, then: str = "SELECT") -> Keeper:
    is_new = application.run("SELECT to_regclass(%s)", table) == [(None,)]
    if is_new:
        application.run(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, name text, description text, embedding vector(3))"
        )
    keeper, _ = await keep(table, text="concat_ws(' ', name, description)")
    if is_new:
        application.run(f"INSERT INTO {table} SELECT i, 'name ' || i FROM generate_series(1, {ROWS}) i")
        application.run(then.format(due=keeper.statements.marks, state=keeper.statements.state))
        for name in (table, keeper.statements.marks, keeper.statements.state):
            application.run(f"VACUUM ANALYZE {name}")
    return keeper


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def explained(keeper: Keeper, sql: str, *parameters: object, planner: Settings = ()) -> list[dict[str, Any]]:
    """The nodes of the plan as it ran, with the parameters that it ran with. Nothing stays."""
    async with keeper.database.transaction(search_path=["public"], planner=planner) as transaction:
        await transaction.fetch("SET LOCAL random_page_cost = 1.1")
        found = await transaction.fetch(f"EXPLAIN (ANALYZE, BUFFERS off, TIMING off, FORMAT JSON) {sql}", *parameters)
        await transaction.undo()
    return list(nodes(found[0][0][0]["Plan"]))


def rows_met(node: dict[str, Any]) -> int:
    """What the node gave, and what it looked at in vain, in all its loops."""
    looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Join Filter", 0)
    return int(looked_at * node["Actual Loops"])


def costs_the_window(plan: list[dict[str, Any]]) -> None:
    described = [(node["Node Type"], node.get("Relation Name"), rows_met(node)) for node in plan]
    assert not [node for node in described if node[0] == "Seq Scan" and node[1] in TABLES], described
    assert max(rows for *_, rows in described) <= FEW, described


def uses_the_id_index(plan: list[dict[str, Any]]) -> None:
    assert {f"{table}_pkey" for table in TABLES} & {node.get("Index Name") for node in plan}


async def test_a_sweep(due: Keeper) -> None:
    costs_the_window(await explained(due, due.statements.pick, [], WINDOW // 2, WINDOW))


async def test_a_sweep_that_leaves_out_as_many(due: Keeper) -> None:
    left_out = [str(n) for n in (*range(1, WINDOW // 2), *range(ROWS - WINDOW // 2, ROWS + 1))]
    costs_the_window(await explained(due, due.statements.pick, left_out, WINDOW // 2, WINDOW))


async def test_a_sweep_where_nothing_is_due(fresh: Keeper) -> None:
    costs_the_window(await explained(fresh, fresh.statements.pick, [], WINDOW // 2, WINDOW))


async def test_a_read(due: Keeper) -> None:
    ids = [str(n) for n in range(1, ROWS, ROWS // 64)]
    plan = await explained(due, due.statements.read, ids, due.statements.config.fingerprint, 2_000)
    costs_the_window(plan)
    uses_the_id_index(plan)


async def test_what_a_sweep_looks_at(due: Keeper) -> None:
    ids = [str(n) for n in range(1, ROWS, ROWS // WINDOW)]
    plan = await explained(due, due.statements.look, ids, due.statements.config.fingerprint)
    costs_the_window(plan)
    uses_the_id_index(plan)


async def test_a_write(due: Keeper) -> None:
    rows = [vector_write(str(n), f"name {n}") for n in range(1, ROWS, ROWS // 64)]
    vectors = [str(list(row.vector or ())) for row in rows]
    plan = await explained(
        due,
        due.statements.write,
        [row.id for row in rows],
        [row.content_hash for row in rows],
        vectors,
        due.statements.config.fingerprint,
    )
    costs_the_window(plan)
    uses_the_id_index(plan)


async def test_clearing_marks(due: Keeper) -> None:
    ids = [str(n) for n in range(1, ROWS, ROWS // WINDOW)]
    costs_the_window(await explained(due, due.statements.clear, ids, due.statements.config.fingerprint))


async def test_looking_for_newer_marks(due: Keeper) -> None:
    ids = [str(n) for n in range(1, ROWS, ROWS // WINDOW)]
    costs_the_window(await explained(due, due.statements.newest_marks, ids, [0] * len(ids)))


@pytest.mark.parametrize("after", [None, "25000", "49900"])
async def test_a_page_of_the_audit_where_all_is_fresh(fresh: Keeper, after: str | None) -> None:
    plan = await explained(fresh, fresh.statements.audit, after, WINDOW, fresh.statements.config.fingerprint)
    costs_the_window(plan)
    uses_the_id_index(plan)


async def test_a_page_of_the_audit_where_all_is_due(due: Keeper) -> None:
    costs_the_window(await explained(due, due.statements.audit, "25000", WINDOW, due.statements.config.fingerprint))


async def test_forgetting_what_is_gone(fresh: Keeper) -> None:
    costs_the_window(await explained(fresh, fresh.statements.orphans, "25000", "25500", 5_000))


@pytest.mark.parametrize("share", [Share(), Share(2, 3)])
async def test_a_page_of_the_backfill(due: Keeper, monkeypatch: pytest.MonkeyPatch, share: Share) -> None:
    costs_the_window(await as_planned(due, monkeypatch, partial(due.store.backlog.page, share=share)))


@pytest.mark.parametrize("share", [Share(), Share(1, 2)])
async def test_a_page_of_marks_to_be_cleared(due: Keeper, monkeypatch: pytest.MonkeyPatch, share: Share) -> None:
    costs_the_window(await as_planned(due, monkeypatch, partial(due.store.backlog.clear_page, share=share)))


@pytest.mark.parametrize("limit", [WINDOW, 10 * WINDOW])
async def test_clearing_marks_where_the_statistics_are_from_before_they_were_made(
    application: Application, keep: Keep, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    keeper = await filled(application, keep, "suddenly_due_ones")
    marks = keeper.statements.marks
    application.run(f"DELETE FROM {marks}")
    application.run(f"ANALYZE {marks}")
    application.run(f"INSERT INTO {marks} (id) SELECT id::text FROM suddenly_due_ones")
    plan = await as_planned(keeper, monkeypatch, partial(keeper.store.backlog.clear_page, share=Share()), limit=limit)
    assert max(rows_met(node) for node in plan) <= max(limit, FEW), plan
    ids = [str(n) for n in range(1, ROWS, ROWS // WINDOW)]
    costs_the_window(
        await explained(keeper, keeper.statements.clear, ids, keeper.statements.config.fingerprint, planner=BY_INDEX)
    )


ROW_VIEW = "SELECT * FROM embedding_operator.{}_rows"


async def test_the_rows_that_are_due_for_people_with_psql(due: Keeper) -> None:
    view = ROW_VIEW.format(due.statements.config.at.bookkeeping_name)
    costs_the_window(await explained(due, f"{view} WHERE NOT up_to_date LIMIT 20"))


async def test_one_row_for_people_with_psql(fresh: Keeper) -> None:
    view = ROW_VIEW.format(fresh.statements.config.at.bookkeeping_name)
    costs_the_window(await explained(fresh, f"{view} WHERE id = 42"))


async def as_planned(
    keeper: Keeper, patching: pytest.MonkeyPatch, read: Callable[..., Awaitable[object]], *, limit: int = WINDOW
) -> list[Any]:
    """The plan of the statement that this runs for a page of marks."""
    given: list[Any] = []

    async def record(sql: str, *parameters: object) -> list[Row]:
        given[:] = [sql, *parameters]
        raise Recorded

    for method in ("fetch_by_index", "read_texts"):
        patching.setattr(TableAccess, method, staticmethod(record))
    with suppress(Recorded):
        await read(after_seq=0 if limit > WINDOW else ROWS // 2, limit=limit)
    return await explained(keeper, *given, planner=BY_INDEX)


class Recorded(Exception):
    """Instead of an answer."""


async def test_counting(due: Keeper) -> None:
    plan = await explained(due, due.statements.counts, [])
    assert max(rows_met(node) for node in plan) <= 10_001
