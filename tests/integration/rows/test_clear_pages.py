"""The marks of rows whose text came out unchanged are deleted in pages, and no other mark is."""

import pytest

from embedding_operator.reconciler.clearing import Clearing, begins, goes_on
from embedding_worker.clock import SystemClock
from embedding_worker.errors import RowsRefused
from embedding_worker.rows.backlog import ClearedPage, Share
from embedding_worker.rows.records import Seen
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle

ROWS = 60
MANY = Seen(100, 100)
ALL = Share()


@pytest.fixture
async def touched(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    """A table whose rows are fresh, after an edit of all of them that has changed no text."""
    businesses.run(f"INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, {ROWS}) n")
    keeper, oracle = await keep(text="lower(name)")
    await keeper.audit()
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = upper(name)")
    assert len(oracle.marks()) == ROWS
    return keeper, oracle


async def step_until_done(keeper: Keeper) -> None:
    clearing = Clearing(keeper.store, clock=SystemClock())
    while await clearing.step(MANY):
        pass


async def test_marks_of_unchanged_texts_are_deleted_without_a_sweep(touched: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = touched
    await step_until_done(keeper)
    assert (oracle.marks(), oracle.wrong()) == ([], [])


async def test_marks_of_rows_that_are_due_stay(touched: tuple[Keeper, Oracle], businesses: Application) -> None:
    keeper, oracle = touched
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 7")
    businesses.run("UPDATE businesses SET embedding = NULL WHERE id = 8")
    businesses.run("DELETE FROM businesses WHERE id = 9")
    await step_until_done(keeper)
    assert set(oracle.marks()) == {"7", "8"}
    assert await keeper.keep() == 2
    assert (oracle.marks(), oracle.wrong()) == ([], [])


async def test_an_edit_that_is_not_committed_yet_keeps_its_mark(
    touched: tuple[Keeper, Oracle], businesses: Application
) -> None:
    keeper, oracle = touched
    with businesses.transaction() as open_transaction:
        open_transaction.execute("UPDATE businesses SET name = 'edited' WHERE id = 7")
        await step_until_done(keeper)
    assert oracle.marks() == ["7"]


async def test_pages_end_where_the_marks_end(touched: tuple[Keeper, Oracle]) -> None:
    keeper, oracle = touched
    page = await keeper.store.backlog.clear_page(after_seq=0, limit=ROWS - 10, share=ALL)
    assert (page.read, page.deleted) == (ROWS - 10, ROWS - 10)
    assert page.last_seq is not None
    rest = await keeper.store.backlog.clear_page(after_seq=page.last_seq, limit=ROWS, share=ALL)
    assert (rest.read, rest.deleted, oracle.marks()) == (10, 10, [])
    assert await keeper.store.backlog.clear_page(after_seq=0, limit=ROWS, share=ALL) == ClearedPage(None, 0, 0)


async def test_a_row_whose_text_fails_keeps_its_mark_and_the_others_lose_theirs(
    businesses: Application, keep: Keep
) -> None:
    businesses.run("INSERT INTO businesses (name) VALUES ('10'), ('20'), ('5')")
    keeper, oracle = await keep(text="(100 / name::int)::text")
    await keeper.audit()
    await keeper.keep()
    businesses.run("UPDATE businesses SET name = ' ' || name")
    businesses.run("UPDATE businesses SET name = '0' WHERE id = 2")
    with pytest.raises(RowsRefused):
        await keeper.store.backlog.clear_page(after_seq=0, limit=10, share=ALL)
    await step_until_done(keeper)
    assert set(oracle.marks()) == {"2"}


@pytest.mark.parametrize(
    ("seen", "worth"), [(Seen(0, 0), False), (Seen(10, 10), False), (Seen(40, 20), False), (Seen(40, 30), True)]
)
def test_a_pass_begins_when_most_rows_of_a_sweep_were_up_to_date(seen: Seen, worth: bool) -> None:
    assert begins(seen) is worth


@pytest.mark.parametrize(("seen", "worth"), [(Seen(100, 5), False), (Seen(100, 50), True), (Seen(0, 0), False)])
def test_a_pass_goes_on_while_pages_delete_marks(seen: Seen, worth: bool) -> None:
    assert goes_on(seen) is worth
