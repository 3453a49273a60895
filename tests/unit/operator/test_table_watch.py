"""When a source confirms its ownership, and what makes it set up again."""

from datetime import UTC, datetime

import pytest

from embedding_operator.reconciler.table_watch import TableWatch
from embedding_worker.errors import SourceRefused
from embedding_worker.rows.watch import Confirmed
from tests.support.fake_clock import FakeClock
from tests.support.looped_source import FakeWatch, LoopedSource
from tests.support.operator_parts import source

SIGNATURE = source().spec.config().signature
SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Watched:
    def __init__(self) -> None:
        self.clock, self.found = FakeClock(), FakeWatch()
        self.watch = TableWatch(self.found, signature=SIGNATURE, clock=self.clock)

    async def after(self, seconds: float, *, filled: bool = True) -> str | None:
        await self.clock.advance(seconds)
        await self.watch.step(filled=filled)
        return self.watch.outdated


async def test_the_owner_is_confirmed_every_eight_seconds() -> None:
    watched = Watched()
    for _ in range(100):
        await watched.after(0.5)
    assert watched.found.confirmations == 6


async def test_what_is_as_it_was_needs_no_set_up() -> None:
    assert await Watched().after(600) is None


@pytest.mark.parametrize(
    ("confirmed", "filled", "why"),
    [
        (None, True, "the record in the database was removed"),
        (Confirmed(SINCE, SIGNATURE), True, "the triggers were paused or resumed"),
        (Confirmed(None, None), True, "a full audit was requested in the database"),
        (Confirmed(None, "of another text"), True, "a full audit was requested in the database"),
        (Confirmed(None, None), False, None),
    ],
)
async def test_a_changed_record_needs_another_set_up(
    confirmed: Confirmed | None, filled: bool, why: str | None
) -> None:
    watched = Watched()
    watched.found.confirmed = confirmed
    assert await watched.after(10, filled=filled) == why


async def test_triggers_that_are_not_in_force_are_noticed_within_a_minute() -> None:
    watched = Watched()
    watched.found.in_force = False
    assert await watched.after(59) is None
    assert await watched.after(1) == "the triggers are not in force, or the table has changed"


async def test_a_source_whose_triggers_are_gone_is_set_up_again_without_being_stalled() -> None:
    looped = LoopedSource({"1": "Bakery"})
    async with looped.running():
        looped.setup.watch.in_force = False
        looped.store.filled = True
        for _ in range(130):
            await looped.clock.advance(0.5)
        assert looped.setup.asked == 2
        assert looped.condition("Stalled")[0] == "False"


async def test_a_source_that_was_taken_over_is_stalled_and_sweeps_no_more() -> None:
    looped = LoopedSource({"1": "Bakery"})
    async with looped.running():
        looped.setup.watch.error = SourceRefused("OwnedElsewhere", "it belongs to another source")
        looped.setup.failures = [SourceRefused("OwnedElsewhere", "it belongs to another source")] * 100
        for _ in range(25):
            await looped.clock.advance(0.5)
        swept = looped.sweeps()
        assert looped.condition("Stalled") == ("True", "OwnedElsewhere", "it belongs to another source")
        await looped.clock.advance(60)
        assert looped.sweeps() == swept


async def test_paused_triggers_are_in_the_status() -> None:
    looped = LoopedSource()
    looped.setup.watch.paused_since = SINCE
    looped.setup.watch.confirmed = Confirmed(SINCE, SIGNATURE)
    async with looped.running():
        await looped.clock.advance(2)
        assert "triggers are paused since 2026-03-01T12:00:00+00:00" in looped.condition("Ready")[2]


async def test_the_explanation_of_a_refusal_is_in_the_status() -> None:
    looped = LoopedSource()
    looped.setup.failures = [SourceRefused("ColumnMissing", "there is no column id")]
    looped.setup.explanation = " (edits are not recorded)"
    async with looped.running():
        assert looped.condition("Stalled")[2] == "there is no column id (edits are not recorded)"
