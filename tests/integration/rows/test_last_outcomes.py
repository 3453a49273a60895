"""What became of a row is known after its jobs are gone: the newest outcomes of each row, and not too many of a table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from embedding_worker.errors import InputRejected
from embedding_worker.rows import last_outcomes
from embedding_worker.rows.last_outcomes import LONGEST_ID, storable
from embedding_worker.rows.one_row import OneRow
from embedding_worker.rows.records import LastOutcome
from tests.integration.rows.conftest import Keep
from tests.support.backfilled_source import BackfilledSource
from tests.support.fake_provider import FakeEmbedder
from tests.support.kept_rows import Application, Keeper

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORDED = "SELECT count(*) FROM embedding_operator.outcomes"


def outcome(n: int) -> LastOutcome:
    return LastOutcome(AT + timedelta(seconds=n), "Retrying", "ProviderUnavailable", f"the server is away, says {n}", n)


@pytest.fixture
async def keeper(businesses: Application, keep: Keep) -> Keeper:
    keeper, _ = await keep()
    return keeper


async def test_the_five_newest_outcomes_of_a_row_are_known_newest_first(keeper: Keeper) -> None:
    await keeper.store.record_outcomes([("1", outcome(n)) for n in range(4)] + [("2", outcome(9))])
    await keeper.store.record_outcomes([("1", outcome(n)) for n in range(4, 8)])
    assert await OneRow.of(keeper.store).last_outcomes("1") == tuple(outcome(n) for n in (7, 6, 5, 4, 3))
    assert await OneRow.of(keeper.store).last_outcomes("2") == (outcome(9),)
    assert await OneRow.of(keeper.store).last_outcomes("3") == ()


async def test_no_more_are_kept_than_a_row_and_a_table_may_have(
    keeper: Keeper, businesses: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = last_outcomes.KEEP_NEWEST_OF_TABLE.replace(f"OFFSET {last_outcomes.KEPT_FOR_TABLE - 1}", "OFFSET 11")
    monkeypatch.setattr(last_outcomes, "KEEP_NEWEST_OF_TABLE", fewer)
    businesses.run(
        "INSERT INTO embedding_operator.outcomes VALUES ('another', '1', '2020-01-01', 'Retrying', 'R', 'm', 1)"
    )
    for n in range(20):
        await keeper.store.record_outcomes([("busy", outcome(n)), (f"row {n}", outcome(n))])
    assert businesses.run(f"{RECORDED} WHERE bookkeeping <> 'another'") == [(12,)]
    assert len(await OneRow.of(keeper.store).last_outcomes("busy")) == 5
    assert businesses.run(f"{RECORDED} WHERE bookkeeping = 'another'") == [(1,)]


async def test_the_bounds_are_those_that_are_documented() -> None:
    assert (last_outcomes.KEPT_FOR_ROW, last_outcomes.KEPT_FOR_TABLE) == (5, 10_000)


async def test_the_same_outcome_is_recorded_once(keeper: Keeper) -> None:
    for _ in range(2):
        await keeper.store.record_outcomes([("1", outcome(1)), ("1", outcome(1))])
    assert await OneRow.of(keeper.store).last_outcomes("1") == (outcome(1),)


async def test_an_id_that_cannot_be_stored_does_not_keep_the_others_out(
    keeper: Keeper, businesses: Application
) -> None:
    unstorable = ("\0", "\ud800", "x" * (LONGEST_ID + 1))
    await keeper.store.record_outcomes([(row_id, outcome(1)) for row_id in (*unstorable, "1")])
    assert businesses.run("SELECT id FROM embedding_operator.outcomes") == [("1",)]
    assert [await OneRow.of(keeper.store).last_outcomes(row_id) for row_id in unstorable] == [()] * 3


async def test_a_message_is_stored_whatever_its_characters_are(keeper: Keeper) -> None:
    await keeper.store.record_outcomes([("1", replace(outcome(1), message="a\0b \ud800 Café"))])
    assert [last.message for last in await OneRow.of(keeper.store).last_outcomes("1")] == ["ab \\ud800 Café"]
    assert storable("Café", ascii_only=True) == "Caf\\xe9"


async def test_a_row_that_fails_in_a_backfill_has_an_outcome_and_the_others_have_none(
    keeper: Keeper, businesses: Application
) -> None:
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('poison'), ('three')")
    businesses.run(f"TRUNCATE {keeper.statements.marks}")
    await keeper.audit()
    refused = InputRejected("InputRejected", "the provider refuses the text")
    provider = FakeEmbedder(max_texts=10, fails=lambda texts: refused if "poison" in texts else None)
    source = BackfilledSource(keeper, provider)
    assert await source.run() == (2, 1)
    (last,) = await OneRow.of(keeper.store).last_outcomes("2")
    assert replace(last, at=AT) == LastOutcome(AT, "HandedOver", "InputRejected", "the provider refuses the text", 0)
    assert businesses.run(RECORDED) == [(1,)]
