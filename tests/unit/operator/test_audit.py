"""The audit marks what no trigger saw: as fast as it can at first, at its rate afterwards, and all at once on request."""

import pytest
from structlog.testing import capture_logs

from embedding_operator.reconciler.audit import FIRST_LATER_PAGE, LATER_STEP_S, PAGE_AIM_S, Audit
from embedding_worker.errors import DatabaseUnavailable
from embedding_worker.rows.records import AuditPage
from tests.support.fake_clock import FakeClock
from tests.support.fake_store import FakeStore


class SlowStore(FakeStore):
    """A page takes a tenth of a second, or so long as its rows take; records how many rows each was to have."""

    def __init__(
        self, clock: FakeClock, texts: dict[str, str] | None = None, *, rows_per_s: float | None = None
    ) -> None:
        super().__init__(texts)
        self._clock = clock
        self._rows_per_s = rows_per_s
        self.limits: list[int] = []

    async def audit(self, *, after_id: str | None, limit: int) -> AuditPage:
        self.limits.append(limit)
        await self._clock.advance(0.1 if self._rows_per_s is None else limit / self._rows_per_s)
        return await super().audit(after_id=after_id, limit=limit)


def rows(count: int) -> dict[str, str]:
    return {f"{n:05}": f"name {n}" for n in range(count)}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def audit_of(store: FakeStore, clock: FakeClock, *, filled: bool, rows_per_s: float = 500) -> Audit:
    store.filled = filled
    return Audit(store, rows_per_s=rows_per_s, filled=filled, clock=clock)


async def test_the_first_pass_marks_every_row_and_is_recorded(clock: FakeClock) -> None:
    store = FakeStore(rows(3))
    audit = audit_of(store, clock, filled=False)
    assert await audit.step() is True
    assert sorted(store.marks) == ["00000", "00001", "00002"]
    assert (audit.filled, store.filled) == (True, True)


async def test_a_step_of_the_first_pass_takes_less_than_half_a_second_or_one_page_more(clock: FakeClock) -> None:
    """Pages grow until they take a fifth of a second each."""
    store = SlowStore(clock, rows(40_000), rows_per_s=20_000)
    audit = audit_of(store, clock, filled=False)
    await audit.step()
    assert store.limits == pytest.approx([2_000, 4_000, 4_000], rel=0.01)
    assert (audit.filled, len(store.marks)) == (False, sum(store.limits))


async def test_pages_of_the_first_pass_shrink_where_rows_are_slow(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(5_000), rows_per_s=1_000)
    audit = audit_of(store, clock, filled=False)
    for _ in range(2):
        await audit.step()
    assert store.limits[0] == 2_000
    assert store.limits[1:] == pytest.approx([200] * len(store.limits[1:]), rel=0.01)


async def test_the_first_step_reads_until_it_is_known_whether_a_backfill_is_due_but_for_three_seconds_at_most(
    clock: FakeClock,
) -> None:
    for decides_at, read in ((10_000, 14_000), (1_000_000, 62_000)):
        store = SlowStore(clock, rows(100_000), rows_per_s=20_000)
        audit = Audit(store, rows_per_s=500, filled=False, clock=clock, first_step_rows=decides_at + 1)
        await audit.step()
        assert len(store.marks) == pytest.approx(read, rel=0.01)
        await audit.step()
        assert read + 7_900 <= len(store.marks) <= read + 12_000


async def test_the_first_pass_goes_on_where_the_last_step_ended(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(16_000), rows_per_s=20_000)
    audit = audit_of(store, clock, filled=False)
    await audit.step()
    await audit.step()
    assert (audit.filled, len(store.marks)) == (True, 16_000)
    assert store.count("record_filled") == 1


async def test_the_end_of_the_first_pass_says_how_many_rows_were_adopted(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(16_000), rows_per_s=20_000)
    store.adopted = 7_000
    audit = audit_of(store, clock, filled=False)
    await audit.step()
    assert audit.adopted is None
    with capture_logs() as logs:
        await audit.step()
    assert audit.adopted == 7_000
    assert {"event": "existing vectors adopted", "rows": 7_000, "log_level": "info"} in logs


async def test_a_source_that_adopts_nothing_says_nothing_of_it(clock: FakeClock) -> None:
    audit = audit_of(FakeStore(rows(3)), clock, filled=False)
    with capture_logs() as logs:
        await audit.step()
    assert (audit.filled, audit.adopted, logs) == (True, None, [])


async def test_an_empty_table_is_filled_at_once(clock: FakeClock) -> None:
    audit = audit_of(FakeStore(), clock, filled=False)
    await audit.step()
    assert audit.filled


async def test_a_later_pass_reads_as_many_rows_as_its_rate_allows(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(10))
    audit = audit_of(store, clock, filled=True, rows_per_s=500)
    await clock.advance(0.5)
    await audit.step()
    assert store.limits == [250]


async def test_before_the_next_row_is_allowed_nothing_is_read(clock: FakeClock) -> None:
    store = FakeStore(rows(3))
    audit = audit_of(store, clock, filled=True, rows_per_s=1)
    await clock.advance(0.9)
    assert await audit.step() is False
    assert store.requests == []


async def test_a_slow_rate_adds_up_over_the_turns(clock: FakeClock) -> None:
    store = FakeStore(rows(3))
    audit = audit_of(store, clock, filled=True, rows_per_s=1)
    for _ in range(4):
        await clock.advance(0.5)
        await audit.step()
    assert sorted(store.marks) == ["00000", "00001"]


async def test_after_a_long_pause_a_step_is_still_bounded(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(3))
    audit = audit_of(store, clock, filled=True)
    await clock.advance(3_600)
    await audit.step()
    assert len(store.limits) == 3, "a quarter of a second, or one page more"


async def test_a_step_says_whether_it_has_marked_a_row(clock: FakeClock) -> None:
    store = FakeStore(rows(1))
    audit = audit_of(store, clock, filled=True)
    found = []
    for _ in range(2):
        await clock.advance(1)
        found.append(await audit.step())
    assert found == [True, False]


async def test_the_whole_table_is_read_from_its_first_row_on_request(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(4_500))
    audit = audit_of(store, clock, filled=True, rows_per_s=10)
    await clock.advance(1)
    await audit.step()
    store.marks.clear()
    assert await audit.read_whole_table("today")
    assert store.limits == [10, 2_000, 2_000, 2_000]
    assert len(store.marks) == 4_500


async def test_a_request_during_the_first_pass_completes_it(clock: FakeClock) -> None:
    store = FakeStore(rows(3))
    audit = audit_of(store, clock, filled=False)
    assert await audit.read_whole_table("today")
    assert (audit.filled, store.filled) == (True, True)


async def test_a_large_table_is_read_in_steps_of_a_few_seconds(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(100_000))
    audit = audit_of(store, clock, filled=True)
    began, steps = clock.monotonic(), 1
    while not await audit.read_whole_table("today"):
        assert clock.monotonic() - began <= 3.2
        await audit.step()
        began, steps = clock.monotonic(), steps + 1
    assert steps == 2
    assert len(store.marks) == 100_000


async def test_another_request_begins_with_the_first_row_again(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(100_000))
    audit = audit_of(store, clock, filled=True)
    assert not await audit.read_whole_table("today")
    store.marks.clear()
    while not await audit.read_whole_table("tomorrow"):
        pass
    assert len(store.marks) == 100_000


async def test_after_an_error_a_request_goes_on_where_it_was(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(100_000))
    audit = audit_of(store, clock, filled=True)
    assert not await audit.read_whole_table("today")
    read = len(store.limits)
    store.fail("audit", DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        await audit.read_whole_table("today")
    while not await audit.read_whole_table("today"):
        pass
    assert len(store.limits) - read == 100_000 // 2_000 + 1 - read + 1


async def test_after_an_error_the_first_pass_goes_on_where_it_was(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(16_000), rows_per_s=20_000)
    audit = audit_of(store, clock, filled=False)
    await audit.step()
    store.fail("audit", DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        await audit.step()
    await audit.step()
    assert (audit.filled, len(store.marks)) == (True, 16_000)


async def test_a_first_pass_that_could_not_be_recorded_is_not_complete(clock: FakeClock) -> None:
    store = FakeStore(rows(3))
    audit = audit_of(store, clock, filled=False)
    store.fail("record_filled", DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        await audit.step()
    assert audit.filled is False
    await audit.step()
    assert (audit.filled, store.filled) == (True, True)


async def test_a_later_pass_with_an_expensive_text_keeps_edits_waiting_for_no_longer_than_the_first(
    clock: FakeClock,
) -> None:
    store = SlowStore(clock, rows(20_000), rows_per_s=500)
    audit = audit_of(store, clock, filled=True, rows_per_s=100)
    for _ in range(10):
        await clock.advance(9)  # the pause of a source with nothing to do
        before = clock.monotonic()
        await audit.step()
    assert clock.monotonic() - before < LATER_STEP_S + 2 * PAGE_AIM_S
    assert max(store.limits[1:]) <= 50


async def test_what_a_step_of_a_later_pass_leaves_the_next_one_reads(clock: FakeClock) -> None:
    store = SlowStore(clock, rows(20_000), rows_per_s=500)
    audit, began = audit_of(store, clock, filled=True, rows_per_s=100), clock.monotonic()
    for _ in range(100):
        await clock.advance(0.5)
        await audit.step()
    assert sum(store.limits) == pytest.approx(100 * (clock.monotonic() - began), rel=0.05)


async def test_a_later_pass_with_a_cheap_text_reads_few_pages(clock: FakeClock) -> None:
    store = FakeStore(rows(20_000))
    audit = audit_of(store, clock, filled=True)
    for _ in range(4):
        await clock.advance(9)
        await audit.step()
    before = len(store.requests)
    await clock.advance(9)
    await audit.step()
    assert len(store.requests) == before + 1


async def test_after_a_first_pass_that_a_request_has_ended_the_pages_are_those_of_a_later_pass(
    clock: FakeClock,
) -> None:
    store = SlowStore(clock, rows(20_000), rows_per_s=20_000)
    audit = audit_of(store, clock, filled=False, rows_per_s=1_000_000)
    await audit.step()
    while not await audit.read_whole_table("now"):
        pass
    await clock.advance(9)
    store.limits.clear()
    await audit.step()
    assert store.limits[0] == FIRST_LATER_PAGE
