"""Rows that fail: which failures count as their attempts, with which reason and code, and which rows only wait."""

import asyncio

import pytest
from structlog.testing import capture_logs

from embedding_worker.errors import (
    InputRejected,
    Postponed,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.outcome import OutcomeKind
from tests.support.embedding_system import request, settled, system_of
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")
REJECTED = InputRejected("Blocked", "the provider rejects the text", code="400 INVALID_ARGUMENT")
EMBEDDED = OutcomeKind.EMBEDDED


async def test_a_rejected_text_among_neighbours_is_rejected_alone_and_delays_no_other() -> None:
    system = system_of(64)
    system.provider.fails = lambda texts: REJECTED if "name 17" in texts else None
    outcomes = await system.outcomes()
    kinds = [outcome.kind for outcome in outcomes]
    assert kinds == [OutcomeKind.INPUT_REJECTED if n == 17 else EMBEDDED for n in range(64)]
    rejected = outcomes[17]
    assert (rejected.reason, rejected.message, rejected.code) == ("Blocked", REJECTED.message, REJECTED.code)


async def test_a_row_that_fails_while_its_neighbours_do_not_has_the_providers_code() -> None:
    system = system_of(8)
    system.provider.fails = lambda texts: AWAY if "name 3" in texts else None
    outcomes = await system.outcomes()
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.FAILED if n == 3 else EMBEDDED for n in range(8)]
    failed = outcomes[3]
    assert (failed.reason, failed.message, failed.code) == ("ProviderUnavailable", AWAY.message, AWAY.code)


async def test_a_row_without_neighbours_that_fails_while_canaries_are_embedded_counts_as_its_attempt() -> None:
    system = system_of(1)
    system.provider.fails = lambda texts: AWAY if "name 0" in texts else None
    (outcome,) = await system.outcomes()
    assert (outcome.kind, outcome.code) == (OutcomeKind.FAILED, "503 UNAVAILABLE")


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize(
    "error",
    [AWAY, REJECTED, ProviderThrottled("429", retry_after_s=0), ProviderMisconfigured("wrong key")],
    ids=lambda error: type(error).__name__,
)
async def test_a_failure_that_all_calls_share_settles_no_row_until_it_is_over_and_then_all_are_embedded(
    error: ProviderError, rows: int
) -> None:
    system = system_of(rows)
    system.provider.fails = lambda texts: error
    async with system.pipeline(max_items=16) as pipeline:
        submitted = [asyncio.create_task(settled(pipeline, asked)) for asked in system.requests()]
        await system.clock.advance(600)
        assert not any(task.done() for task in submitted)
        assert len(system.provider.calls) <= 11
        system.provider.fails = lambda texts: None
        await system.clock.advance(600)
        assert [task.result().kind for task in submitted] == [EMBEDDED] * rows
    assert system.store.vectors == {row: fake_vector(text) for row, text in system.store.texts.items()}


async def test_rows_that_wait_for_their_provider_take_no_slot_of_the_batcher() -> None:
    system = system_of(3)
    system.provider.fails = lambda texts: AWAY
    async with system.pipeline(max_items=1) as pipeline:
        submitted = [asyncio.create_task(settled(pipeline, asked)) for asked in system.requests()]
        await system.clock.advance(60)
        reads = system.store.reads
        blank = asyncio.create_task(pipeline.batcher.submit(request("gone", "any")))
        await system.clock.advance(1)
        assert blank.result().kind is OutcomeKind.ROW_DELETED
        assert system.store.reads == reads + 1
        assert not any(task.done() for task in submitted)
        for task in submitted:
            task.cancel()


async def test_a_row_that_is_postponed_is_told_why_and_the_log_says_so_once_for_all() -> None:
    system = system_of(3)
    system.provider.fails = lambda texts: AWAY
    with capture_logs() as logs:
        async with system.batcher() as batcher:
            submitted = [asyncio.create_task(batcher.submit(asked)) for asked in system.requests()]
            await system.clock.advance(0.5)
    assert [(type(task.exception()), str(task.exception())) for task in submitted] == [(Postponed, AWAY.message)] * 3
    waiting = [line for line in logs if line["event"] == "rows wait"]
    assert waiting == [
        {
            "event": "rows wait",
            "log_level": "warning",
            "why": "ProviderUnavailable",
            "message": AWAY.message,
            "rows": 3,
        }
    ]


async def test_after_a_throttled_call_the_same_texts_are_sent_again_together() -> None:
    system = system_of(8)
    system.provider.failures = [ProviderThrottled("429", retry_after_s=20)] * 2
    assert await system.kinds() == [EMBEDDED] * 8
    assert system.provider.sizes == [8, 8, 8]
    assert system.provider.canaries == 0


async def test_a_row_that_is_edited_during_an_outage_is_not_embedded_with_its_old_text() -> None:
    system = system_of(2)
    system.provider.fails = lambda texts: AWAY
    async with system.pipeline(max_items=2) as pipeline:
        submitted = [asyncio.create_task(settled(pipeline, asked)) for asked in system.requests()]
        await system.clock.advance(60)
        system.store.texts["1"] = "edited meanwhile"
        system.provider.fails = lambda texts: None
        await system.clock.advance(20)
        assert [task.result().kind for task in submitted] == [EMBEDDED, OutcomeKind.TEXT_CHANGED]


async def test_a_row_that_the_database_refuses_fails_alone_and_its_neighbours_are_written() -> None:
    system = system_of(8)
    system.store.refused = {"3"}
    outcomes = await system.outcomes()
    assert [outcome.kind for outcome in outcomes] == [OutcomeKind.FAILED if n == 3 else EMBEDDED for n in range(8)]
    assert outcomes[3].reason == "DatabaseRefused"
    assert len(system.provider.calls) == 1


async def test_no_outcome_holds_a_text() -> None:
    system = system_of(4)
    system.store.texts = {row: f"secret {row}" for row in system.store.texts}
    system.store.refused = {"0"}
    system.provider.fails = lambda texts: REJECTED if "secret 1" in texts else None
    outcomes = await system.outcomes(*system.requests(), request("gone", "secret"))
    assert "secret" not in repr(outcomes)
