"""Rows that no edit made due are embedded in pages, without jobs: each once, the failing ones handed over, nothing lost."""

import asyncio
from collections.abc import Sequence

import pytest

from embedding_worker.backfill import Backfill
from embedding_worker.embedding import LOCK_PATIENCE_S
from embedding_worker.errors import (
    DatabaseUnavailable,
    InputRejected,
    ProviderError,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.limits import Limits
from embedding_worker.rows.backlog import MarkPage, Share
from embedding_worker.rows.database import Database
from tests.integration.rows.conftest import Keep
from tests.support.backfilled_source import ALL, BackfilledSource
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder
from tests.support.kept_rows import Application, Oracle, fake_vector

ROWS = 95


@pytest.fixture
async def filled(businesses: Application, keep: Keep) -> tuple[BackfilledSource, Oracle]:
    """A source of rows that were there before it, each with a mark of the audit."""
    businesses.run(f"INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(1, {ROWS}) n")
    keeper, oracle = await keep()
    assert await keeper.audit() == ROWS
    return BackfilledSource(keeper), oracle


async def test_each_row_is_embedded_once_and_no_mark_is_left(filled: tuple[BackfilledSource, Oracle]) -> None:
    source, oracle = filled
    assert await source.run() == (ROWS, 0)
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert sorted(source.sent) == sorted(f"name {n}" for n in range(1, ROWS + 1))
    assert max(source.provider.sizes) == 10


async def test_shares_divide_the_rows_between_them(filled: tuple[BackfilledSource, Oracle]) -> None:
    source, oracle = filled
    done = await asyncio.gather(*(source.run(Share(index, 3)) for index in range(3)))
    assert sum(rows for rows, _ in done) == ROWS
    assert min(rows for rows, _ in done) >= ROWS // 3 - 1
    assert len(source.sent) == ROWS
    assert oracle.wrong() == []


async def test_edited_rows_are_left_to_their_jobs(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id <= 5")
    assert await source.run() == (ROWS - 5, 0)
    assert oracle.wrong() == ["1", "2", "3", "4", "5"]
    assert "edited" not in source.sent


async def test_an_edit_during_the_call_is_not_overwritten(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled

    def edit() -> None:
        if len(source.provider.calls) == 1:
            businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 5")

    source.provider.meanwhile = edit
    await source.run()
    assert oracle.wrong() == ["5"]
    assert (await source.keeper.store.sweep(leave_out=(), limit=5))[0].edited


async def test_rows_that_need_nothing_lose_their_marks_without_a_call(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    businesses.run("DELETE FROM businesses WHERE id = 1")
    businesses.run("UPDATE businesses SET name = ' ' WHERE id = 2")
    stem = oracle.config.at.bookkeeping_name
    businesses.run(f"""DELETE FROM embedding_operator."{stem}_marks" WHERE id = '2' AND edited""")
    businesses.run(f"""INSERT INTO embedding_operator."{stem}_marks" (id, edited) VALUES ('no number', false)""")
    assert await source.run() == (ROWS + 1, 0)
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert len(source.sent) == ROWS - 2


def refuses(*texts: str) -> FakeEmbedder:
    def fails(sent: Sequence[str]) -> ProviderError | None:
        return InputRejected("InputRejected", "refused") if set(texts) & set(sent) else None

    return FakeEmbedder(max_texts=10, fails=fails)


async def test_a_row_that_the_provider_refuses_is_handed_over_to_a_job(filled: tuple[BackfilledSource, Oracle]) -> None:
    source, oracle = filled
    source.provider = refuses("name 7", "name 8")
    assert await source.run() == (ROWS - 2, 2)
    assert oracle.wrong() == ["7", "8"]
    assert sorted((row.id, row.edited) for row in await source.keeper.sweep()) == [("7", True), ("8", True)]


async def test_rows_whose_text_or_write_fails_are_handed_over(
    businesses: Application, keep: Keep, rows: Database
) -> None:
    businesses.run(f"INSERT INTO businesses (name) SELECT 'name ' || n FROM generate_series(0, {ROWS - 1}) n")
    businesses.run(
        f"ALTER TABLE businesses ADD CHECK ((embedding::real[])[1] <> {fake_vector('name 3 1')[0]}) NOT VALID"
    )
    keeper, _ = await keep(text="name || ' ' || (id / (id - 30))::text")
    await keeper.audit()
    source = BackfilledSource(keeper)
    done, failed = await source.run()
    assert (done + failed, failed >= 1) == (ROWS, True)
    handed_over = {row.id for row in await keeper.sweep()}
    assert "30" in handed_over
    assert len(handed_over) == failed


async def test_during_an_outage_nothing_is_handed_over_and_all_goes_on_afterwards(
    filled: tuple[BackfilledSource, Oracle],
) -> None:
    source, oracle = filled
    source.provider.fails = lambda texts: ProviderUnavailable("the server is away")
    async with source.running() as (backfill, task):
        await eventually(lambda: source.provider.canaries >= 2, within_s=30, because="the circuit has opened")
        calls = len(source.provider.calls)
        source.provider.fails = lambda texts: None
        async with asyncio.timeout(60):
            await task
    assert (backfill.progress.done, backfill.progress.failed, oracle.wrong()) == (ROWS, 0, [])
    assert calls <= 4


async def test_a_backlog_behind_marks_of_edits_is_not_taken_for_empty(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    backlog = source.keeper.store.backlog
    stem = oracle.config.at.bookkeeping_name
    businesses.run(f"""UPDATE embedding_operator."{stem}_marks" SET edited = true WHERE id <> '{ROWS}'""")
    assert not await backlog.is_empty()
    businesses.run(f"""UPDATE embedding_operator."{stem}_marks" SET id = NULL WHERE id = '{ROWS}'""")
    assert (await backlog.is_empty(), await backlog.reaches(1), await backlog.count()) == (True, False, 0)


async def test_a_locked_row_is_written_when_it_is_free_and_paid_for_once(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    async with source.running() as (backfill, task):
        with businesses.transaction() as other:
            other.execute("SELECT FROM businesses WHERE id = 11 FOR UPDATE")
            await eventually(lambda: backfill.progress.done == ROWS - 1, within_s=30, because="all others are free")
        async with asyncio.timeout(60):
            await task
    assert oracle.wrong() == []
    assert source.sent.count("name 11") == 1


async def test_a_row_that_is_deleted_while_it_is_locked_does_not_keep_the_backfill_from_its_end(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    async with source.running() as (backfill, task):
        with businesses.transaction() as other:
            other.execute("DELETE FROM businesses WHERE id = 11")
            await eventually(lambda: backfill.progress.done == ROWS - 1, within_s=30, because="all others are free")
            await asyncio.wait({task}, timeout=2 * LOCK_PATIENCE_S)
        async with asyncio.timeout(60):
            await task
    assert (backfill.progress.done, oracle.wrong(), oracle.marks()) == (ROWS, [], [])


async def test_rows_that_are_gone_are_not_taken_for_locked(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, _ = filled
    with businesses.transaction() as other:
        other.execute("SELECT FROM businesses WHERE id = 2 FOR UPDATE")
        assert await source.keeper.store.find_locked(["1", "2", "999", "no number"]) == {"2"}


async def test_a_row_with_several_marks_is_paid_for_once(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    stem = oracle.config.at.bookkeeping_name
    businesses.run(f"""INSERT INTO embedding_operator."{stem}_marks" (seq, id, edited)
        SELECT seq + 25, id, false FROM embedding_operator."{stem}_marks" ORDER BY seq LIMIT 70""")
    await source.run()
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert len(source.sent) == ROWS


async def test_drained_while_a_page_is_read_and_no_call_may_be_made_it_ends(
    filled: tuple[BackfilledSource, Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = filled
    source.provider.fails = lambda texts: ProviderThrottled("wait a little", retry_after_s=600)
    backlog = source.keeper.store.backlog
    read = backlog.page
    async with source.pipeline() as pipeline:
        backfill = Backfill(source.keeper.store, pipeline, share=ALL, concurrency=1, clock=source.clock)

        async def page(*, after_seq: int, limit: int, share: Share) -> MarkPage:
            if 0 < after_seq <= 10:
                await eventually(lambda: not pipeline.gate.is_open, within_s=30, because="the provider is throttled")
                backfill.drain()
            return await read(after_seq=after_seq, limit=limit, share=share)

        monkeypatch.setattr(backlog, "page", page)
        async with asyncio.timeout(30):
            await backfill.run()


async def test_drained_while_the_database_is_away_it_ends(
    filled: tuple[BackfilledSource, Oracle], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = filled
    tries = []

    async def page(**_: object) -> MarkPage:
        tries.append(1)
        raise DatabaseUnavailable("connection refused")

    monkeypatch.setattr(source.keeper.store.backlog, "page", page)
    async with source.running() as (backfill, task):
        await eventually(lambda: len(tries) >= 2, within_s=30, because="the page is read again")
        backfill.drain()
        async with asyncio.timeout(30):
            await task


async def test_marks_that_are_too_many_to_be_counted_are_estimated(
    filled: tuple[BackfilledSource, Oracle], businesses: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, oracle = filled
    marks = f'embedding_operator."{oracle.config.at.bookkeeping_name}_marks"'
    businesses.run(f"INSERT INTO {marks} (id, edited) SELECT n::text, false FROM generate_series(1000, 200000) n")
    businesses.run(f"ANALYZE {marks}")
    monkeypatch.setattr("embedding_worker.rows.backlog.COUNT_TIMEOUT_S", 0.001)
    assert await source.keeper.store.backlog.count() == pytest.approx(ROWS + 199_001, rel=0.01)


async def test_the_applications_functions_are_not_compiled_and_keep_no_plan(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, _ = filled
    businesses.run("CREATE TABLE seen (jit text, plans text)")
    businesses.run("""
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen VALUES (current_setting('jit'), current_setting('plan_cache_mode')); RETURN NEW; END $$""")
    businesses.run("CREATE TRIGGER look BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION look()")
    await source.run()
    assert businesses.run("SELECT DISTINCT * FROM seen") == [("off", "force_custom_plan")]


async def test_at_the_limit_of_the_day_it_waits(filled: tuple[BackfilledSource, Oracle]) -> None:
    source, _ = filled
    source.limits = Limits(40)
    async with source.running() as (backfill, task):
        await eventually(lambda: backfill.progress.done == 40, within_s=30, because="so many may be sent")
        await asyncio.wait({task}, timeout=1)
        assert not task.done()
    assert len(source.sent) == 40


async def test_what_needs_no_call_is_settled_while_none_may_be_made(
    filled: tuple[BackfilledSource, Oracle], businesses: Application
) -> None:
    source, oracle = filled
    source.limits = Limits(20)
    stem = oracle.config.at.bookkeeping_name
    businesses.run(
        f"""INSERT INTO embedding_operator."{stem}_marks" (seq, id, edited) VALUES (30, 'no number', false)"""
    )
    async with source.running() as (backfill, _):
        await eventually(lambda: backfill.progress.done == 21, within_s=30, because="it is no row's id")
    assert len(source.sent) == 20


async def test_drained_it_finishes_the_calls_in_flight_and_begins_no_other(
    filled: tuple[BackfilledSource, Oracle],
) -> None:
    source, oracle = filled
    async with source.running() as (backfill, task):
        source.provider.meanwhile = backfill.drain
        async with asyncio.timeout(30):
            await task
    assert 0 < backfill.progress.done == len(source.sent) <= 20
    assert len(oracle.wrong()) == ROWS - backfill.progress.done
