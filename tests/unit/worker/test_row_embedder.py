"""A batch of rows is embedded: each row gets what it needs, and waits for no other row's lock."""

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from embedding_worker.errors import (
    DatabaseUnavailable,
    InputRejected,
    Interrupted,
    ProviderError,
    ProviderUnavailable,
    RowsLocked,
    RowsRefused,
)
from embedding_worker.outcome import OutcomeKind
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.embedder import Vector
from embedding_worker.source import TooLong
from tests.support.embedding_system import EmbeddingSystem, request, system_of
from tests.support.fake_clock import let_time_pass, settle
from tests.support.fake_provider import FakeEmbedder
from tests.support.kept_rows import fake_vector
from tests.support.memory_store import MemoryStore

AWAY = ProviderUnavailable("the server is away")
EMBEDDED, BLANK_TEXT = OutcomeKind.EMBEDDED, OutcomeKind.BLANK_TEXT


async def test_every_row_gets_the_vector_of_its_own_text_in_one_call() -> None:
    system = system_of(64)
    assert await system.kinds() == [EMBEDDED] * 64
    assert system.store.vectors == {row: fake_vector(text) for row, text in system.store.texts.items()}
    assert system.provider.sizes == [64]


async def test_rows_with_equal_texts_cost_one_text_and_each_gets_its_vector() -> None:
    system = EmbeddingSystem(MemoryStore({"1": "same", "2": "other", "3": "same", "4": "same"}))
    assert await system.kinds() == [EMBEDDED] * 4
    assert system.provider.calls == [["same", "other"]]
    assert system.store.vectors == {row: fake_vector(text) for row, text in system.store.texts.items()}


async def test_texts_that_are_equal_after_they_were_cut_cost_one_text_and_keep_their_own_hashes() -> None:
    system = EmbeddingSystem(MemoryStore({"1": "x" * 1_001, "2": "x" * 1_002}))
    assert await system.kinds() == [EMBEDDED] * 2
    assert system.provider.calls == [["x" * 1_000]]
    assert set(system.store.vectors) == {"1", "2"}


async def test_a_text_that_fails_makes_each_of_its_rows_fail_alone() -> None:
    refused = InputRejected("BadRequest", "400")
    store = MemoryStore({"1": "poison", "2": "other", "3": "poison"})
    system = EmbeddingSystem(store, FakeEmbedder(fails=lambda texts: refused if "poison" in texts else None))
    kinds = await system.kinds()
    assert [kind.value for kind in kinds] == ["InputRejected", "Embedded", "InputRejected"]
    assert set(store.vectors) == {"2"}


async def test_a_batch_of_all_kinds_costs_one_call_for_the_rows_that_need_it() -> None:
    store = MemoryStore(
        {"fresh": "f", "edited": "new", "blank": " ", "one": "1", "two": "2", "long": "x" * 1001},
        up_to_date={"fresh"},
        impossible={"no-number"},
    )
    system = EmbeddingSystem(store, too_long=TooLong.REFUSE)
    kinds = await system.kinds(
        request("fresh", "f"),
        request("one", "1"),
        request("deleted", "d"),
        request("edited", "old"),
        request("blank", " "),
        request("long", "x" * 1001),
        request("no-number", "n"),
        request("two", "2"),
    )
    assert [kind.value for kind in kinds] == [
        *(
            "AlreadyFresh",
            "Embedded",
            "RowDeleted",
            "TextChanged",
            "BlankText",
            "InputRejected",
            "IdInvalid",
            "Embedded",
        )
    ]
    assert system.provider.calls == [["1", "2"]]
    assert store.vectors == {"one": fake_vector("1"), "two": fake_vector("2"), "blank": None}


async def test_where_no_text_needs_it_no_call_is_made() -> None:
    system = EmbeddingSystem(MemoryStore({"1": "one", "2": ""}, up_to_date={"1"}))
    assert await system.kinds() == [OutcomeKind.ALREADY_FRESH, BLANK_TEXT]
    assert system.provider.calls == []


async def test_an_id_that_no_row_can_have_is_settled_without_a_read_or_a_call() -> None:
    system = EmbeddingSystem(MemoryStore(impossible={"no-number"}))
    (outcome,) = await system.outcomes(request("no-number", "text"))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.ID_INVALID, "IdInvalid")
    assert "'no-number' can't be one of public.businesses.id, which is bigint" in outcome.message
    assert (system.store.reads, system.provider.calls) == (0, [])


async def test_a_text_that_is_too_long_is_cut_for_the_model_and_hashed_as_it_is() -> None:
    system = EmbeddingSystem(MemoryStore({"1": "x" * 2_000}))
    assert await system.kinds() == [EMBEDDED]
    assert system.provider.calls == [["x" * 1_000]]


async def test_texts_that_were_cut_are_counted_and_the_first_ones_of_a_day_are_logged() -> None:
    long = {str(number): "x" * 2_000 + str(number) for number in range(3)}
    system = EmbeddingSystem(MemoryStore({**long, "short": "one"}))
    with capture_logs() as lines:
        await system.outcomes(*system.requests())
    assert sum(note.cut for note in system.day.notes) == 3
    (line,) = [line for line in lines if "only their beginning is embedded" in line["event"]]
    assert (line["log_level"], line["texts"]) == ("warning", 3)
    assert "xx" not in str(line)


async def test_a_row_that_two_jobs_ask_for_is_settled_for_both_by_one_call() -> None:
    system = EmbeddingSystem(MemoryStore({"1": "one", "2": ""}))
    assert await system.kinds(*system.requests(), *system.requests()) == [EMBEDDED, BLANK_TEXT, EMBEDDED, BLANK_TEXT]
    assert system.provider.calls == [["one"]]


async def test_an_outage_of_the_database_is_waited_out_without_a_second_call() -> None:
    system = system_of(3)
    system.store.errors = {
        "read": [DatabaseUnavailable("away"), RowsLocked("locked")],
        "write": [RowsLocked("locked"), DatabaseUnavailable("away")],
    }
    assert await system.kinds() == [EMBEDDED] * 3
    assert len(system.provider.calls) == 1


async def test_a_locked_row_is_written_later_while_the_others_are_settled_at_once() -> None:
    system = system_of(4)
    system.store.locked = {"2"}
    async with system.batcher(max_items=4) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await settle()
        assert [task.done() for task in submitted] == [True, True, False, True]
        await system.clock.advance(0.5)
        assert not submitted[2].done()
        system.store.locked.clear()
        await system.clock.advance(1)
        assert submitted[2].result().kind is EMBEDDED
    assert len(system.provider.calls) == 1


async def test_a_row_that_stays_locked_gives_up_its_place_and_is_written_later_without_another_call() -> None:
    system = system_of(1)
    system.store.locked = {"0"}
    async with system.batcher() as batcher:
        (asked,) = system.requests()
        locked = await let_time_pass(system.clock, batcher.submit(asked))
        again = await let_time_pass(system.clock, batcher.submit(asked))
        assert {locked.kind, again.kind} == {OutcomeKind.ROW_LOCKED}
        assert locked.message == again.message  # it says since when it is locked
        system.store.locked.clear()
        assert (await let_time_pass(system.clock, batcher.submit(asked))).kind is EMBEDDED
    assert len(system.provider.calls) == 1


async def test_a_row_whose_text_fails_has_its_outcome_and_the_others_are_embedded() -> None:
    system = system_of(3)
    system.store.failing = {"1"}
    del system.store.texts["1"]
    kinds = await system.kinds(request("0", "name 0"), request("1", "any"), request("2", "name 2"))
    assert kinds == [EMBEDDED, OutcomeKind.TEXT_EXPRESSION_FAILED, EMBEDDED]


async def test_after_the_first_suppressed_update_others_are_found_before_the_call() -> None:
    system = system_of(4)
    system.store.suppressed = {"0", "2"}
    async with system.batcher(max_items=1) as batcher:
        outcomes = [await let_time_pass(system.clock, batcher.submit(asked)) for asked in system.requests()]
    assert [outcome.kind for outcome in outcomes] == [
        OutcomeKind.UPDATE_SUPPRESSED,
        EMBEDDED,
        OutcomeKind.UPDATE_SUPPRESSED,
        EMBEDDED,
    ]
    assert system.provider.calls == [["name 0"], ["name 1"], ["name 3"]]


async def test_where_the_role_may_not_write_any_more_nothing_is_sent_and_the_rows_wait() -> None:
    system = system_of(3)
    system.store.errors = {
        "check": [RowsRefused("DatabaseRefused", "permission denied", sqlstate="42501", is_of_the_table=True)]
    }
    async with system.batcher(max_items=3) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await settle()
        await system.clock.advance(60)
        assert not any(task.done() for task in submitted)
    assert system.provider.calls == []
    ended = await asyncio.gather(*submitted, return_exceptions=True)
    assert {type(result) for result in ended} == {Interrupted}


async def test_a_locked_row_keeps_no_other_batch_from_beginning() -> None:
    system = system_of(6)
    system.store.locked = {"0", "1", "2"}
    async with system.batcher(max_items=1) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await settle()
        await settle()
        assert [task.done() for task in submitted] == [False] * 3 + [True] * 3
        system.store.locked.clear()
        await system.clock.advance(10)
        assert all(task.done() for task in submitted)


@pytest.mark.parametrize(("edited", "kind"), [("edited", OutcomeKind.TEXT_CHANGED), (None, OutcomeKind.ROW_DELETED)])
async def test_what_became_of_a_row_during_the_call_is_its_outcome(edited: str | None, kind: OutcomeKind) -> None:
    system = system_of(3)

    def meanwhile() -> None:
        if edited is None:
            system.store.texts.pop("1", None)
        else:
            system.store.texts["1"] = edited

    system.provider = FakeEmbedder(meanwhile=meanwhile)
    assert await system.kinds() == [EMBEDDED, kind, EMBEDDED]
    assert "1" not in system.store.vectors


async def test_a_row_that_became_up_to_date_during_the_call_is_already_fresh() -> None:
    system = system_of(1)
    system.store.locked = {"0"}
    system.provider = FakeEmbedder(meanwhile=lambda: system.store.up_to_date.add("0"))
    assert await system.kinds() == [OutcomeKind.ALREADY_FRESH]


async def test_a_locked_row_whose_text_changes_under_the_lock_is_not_written() -> None:
    system = system_of(2)
    system.store.locked = {"1"}
    system.provider = FakeEmbedder(meanwhile=lambda: system.store.texts.update({"1": "edited under the lock"}))
    assert await system.kinds() == [EMBEDDED, OutcomeKind.TEXT_CHANGED]
    assert set(system.store.vectors) == {"0"}


async def test_a_batch_one_of_whose_calls_fails_keeps_no_other_batch_from_beginning() -> None:
    system = system_of(6)
    hanging = asyncio.Event()

    def fails(texts: Sequence[str]) -> ProviderError | None:
        return AWAY if "name 0" in texts or "name 1" in texts or "name 2" in texts else None

    system.provider = FakeEmbedder(fails=fails)
    embed = system.provider.embed

    async def slow(texts: Sequence[str]) -> list[Vector]:
        if list(texts) == [CANARY]:
            await hanging.wait()
        return await embed(texts)

    system.provider.embed = slow  # type: ignore[method-assign]
    async with system.batcher(max_items=1) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await system.clock.advance(1)
        assert [task.done() for task in submitted] == [False] * 3 + [True] * 3
        hanging.set()
        await system.clock.advance(1)
        assert [task.result().kind for task in submitted[:3]] == [OutcomeKind.FAILED] * 3


async def test_when_the_batcher_ends_the_calls_of_a_failing_batch_end_too() -> None:
    system = system_of(1)
    system.provider = FakeEmbedder(failures=[AWAY])
    began, ended = asyncio.Event(), asyncio.Event()
    embed = system.provider.embed

    async def slow(texts: Sequence[str]) -> list[Vector]:
        if list(texts) == [CANARY]:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        return await embed(texts)

    system.provider.embed = slow  # type: ignore[method-assign]
    async with system.batcher(max_items=1) as batcher:
        (submitted,) = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await settle()
        assert began.is_set()
    assert ended.is_set()
    assert isinstance((await asyncio.gather(submitted, return_exceptions=True))[0], Interrupted)


async def test_a_locked_row_in_a_batch_one_of_whose_calls_has_failed_is_written_when_the_lock_is_gone() -> None:
    system = system_of(8)
    system.store.locked = {"0"}
    system.provider = FakeEmbedder(fails=lambda texts: AWAY if "name 7" in texts else None)
    embed = system.provider.embed

    async def slow(texts: Sequence[str]) -> list[Vector]:
        await system.clock.sleep(0.1)
        return await embed(texts)

    system.provider.embed = slow  # type: ignore[method-assign]
    async with system.batcher(max_items=8) as batcher:
        submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
        await system.clock.advance(5)
        assert all(task.done() for task in submitted)
        assert submitted[0].result().kind is OutcomeKind.ROW_LOCKED
        assert {task.result().kind for task in submitted[1:7]} == {EMBEDDED}
        system.store.locked.clear()
        again = await let_time_pass(system.clock, batcher.submit(system.requests()[0]))
        assert again.kind is EMBEDDED
