"""Where handlers submit their rows: who waits for a source, who is released, and what is tried again."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.row_queues import (
    SOURCE_COMES_WITHIN_S,
    UNEXPECTED_PAUSE_S,
    ProviderNotCallable,
    RowQueues,
)
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.errors import Interrupted, Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest
from embedding_worker.pipeline import RowPipeline
from tests.support.fake_clock import FakeClock, settle
from tests.support.manifests import a_source

REQUEST = RowRequest("42", "1" * 64)
EMBEDDED = RowOutcome(OutcomeKind.EMBEDDED, "Embedded", "the vector was written")
SHOPS = parse_source(a_source("shops"))


class FakeBatcher:
    """Raises these errors, one for each call, and then gives the outcome. Records what was submitted."""

    def __init__(self, *errors: Exception) -> None:
        self.submitted: list[tuple[RowRequest, bool]] = []
        self.draining = False
        self._errors = list(errors)

    def drain(self) -> None:
        self.draining = True

    async def submit(self, request: RowRequest, *, urgent: bool) -> RowOutcome:
        self.submitted.append((request, urgent))
        if self._errors:
            raise self._errors.pop(0)
        return EMBEDDED


def pipeline(batcher: FakeBatcher | None = None) -> RowPipeline:
    """A pipeline that is nothing but this batcher, and a gate where no row waits."""
    return cast(RowPipeline, SimpleNamespace(batcher=batcher or FakeBatcher(), gate=FakeGate()))


class FakeGate:
    """Is opened by the test, and records how long the rows asked to wait."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.pauses: list[float] = []

    async def wait_until_open(self, woken: asyncio.Event, *, pause_s: float, urgent: bool) -> None:
        self.pauses.append(pause_s)
        await self.opened.wait()


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.catalog = SourceCatalog()
        self.queues = RowQueues(self.catalog, clock=self.clock)

    def submit(self, *, urgent: bool = False) -> "asyncio.Task[RowOutcome | None]":
        return asyncio.create_task(self.queues.submit("shops", REQUEST, urgent=urgent))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("urgent", [True, False])
async def test_a_row_goes_to_the_batcher_of_its_source(world: World, urgent: bool) -> None:
    here, elsewhere = FakeBatcher(), FakeBatcher()
    world.queues.open("shops", pipeline(here))
    world.queues.open("others", pipeline(elsewhere))
    assert await world.submit(urgent=urgent) == EMBEDDED
    assert (here.submitted, elsewhere.submitted) == ([(REQUEST, urgent)], [])


async def test_a_row_waits_until_its_source_is_ready(world: World) -> None:
    world.catalog.put(SHOPS)
    submitted = world.submit()
    await world.clock.advance(10 * SOURCE_COMES_WITHIN_S)
    assert not submitted.done()
    world.queues.open("shops", pipeline())
    await settle()
    assert submitted.result() == EMBEDDED


async def test_a_row_of_a_source_that_was_closed_waits(world: World) -> None:
    world.catalog.put(SHOPS)
    world.queues.open("shops", pipeline())
    world.queues.close("shops")
    submitted = world.submit()
    await settle()
    assert not submitted.done()
    submitted.cancel()


async def test_a_source_that_was_never_open_can_be_closed(world: World) -> None:
    world.queues.close("shops")
    world.queues.open("shops", pipeline())
    assert await world.submit() == EMBEDDED


async def test_a_row_that_is_interrupted_goes_to_the_next_batcher_of_its_source(world: World) -> None:
    world.catalog.put(SHOPS)
    world.queues.open("shops", pipeline(Interrupting(lambda: world.queues.close("shops"))))
    submitted = world.submit()
    await settle()
    assert not submitted.done()
    world.queues.open("shops", pipeline())
    await settle()
    assert submitted.result() == EMBEDDED


class Interrupting(FakeBatcher):
    """Ends while it has a row: its source is closed first."""

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__(Interrupted("the batcher has ended"))
        self._close = close

    async def submit(self, request: RowRequest, *, urgent: bool) -> RowOutcome:
        self._close()
        return await super().submit(request, urgent=urgent)


async def test_a_row_that_fails_by_an_unexpected_error_is_tried_again_after_a_pause(world: World) -> None:
    world.queues.open("shops", pipeline(FakeBatcher(RuntimeError("a defect"), RuntimeError("a defect"))))
    submitted = world.submit()
    await world.clock.advance(2 * UNEXPECTED_PAUSE_S - 0.1)
    assert not submitted.done()
    await world.clock.advance(0.2)
    assert submitted.result() == EMBEDDED


async def test_a_row_of_an_unknown_source_is_released_after_a_minute_and_a_half(world: World) -> None:
    submitted = world.submit()
    await world.clock.advance(SOURCE_COMES_WITHIN_S - 0.1)
    assert not submitted.done()
    await world.clock.advance(0.2)
    assert submitted.result() is None


async def test_a_change_of_another_source_makes_no_row_wait_longer(world: World) -> None:
    submitted = world.submit()
    await world.clock.advance(SOURCE_COMES_WITHIN_S - 1)
    world.queues.open("others", pipeline())
    await world.clock.advance(1.1)
    assert submitted.result() is None


async def test_a_source_may_come_after_its_jobs(world: World) -> None:
    submitted = world.submit()
    await world.clock.advance(SOURCE_COMES_WITHIN_S - 1)
    world.catalog.put(SHOPS)
    world.queues.notify()
    await world.clock.advance(10 * SOURCE_COMES_WITHIN_S)
    assert not submitted.done()
    world.queues.open("shops", pipeline())
    await settle()
    assert submitted.result() == EMBEDDED


async def test_a_row_is_released_when_its_source_is_deleted_later(world: World) -> None:
    world.catalog.put(SHOPS)
    submitted = world.submit()
    await world.clock.advance(2 * SOURCE_COMES_WITHIN_S)
    world.catalog.remove("shops")
    world.queues.notify()
    await settle()
    assert submitted.result() is None


async def test_draining_releases_every_row_that_only_waits_for_its_source(world: World) -> None:
    world.catalog.put(SHOPS)
    submitted = [world.submit(), world.submit()]
    await settle()
    world.queues.drain()
    await settle()
    assert [task.result() for task in submitted] == [None, None]


async def test_draining_lets_a_row_in_flight_finish(world: World) -> None:
    slow = Slow()
    world.queues.open("shops", pipeline(slow))
    submitted = world.submit()
    await settle()
    world.queues.drain()
    await settle()
    assert (submitted.done(), slow.draining) == (False, True)
    slow.go_on.set()
    assert await submitted == EMBEDDED


class Slow(FakeBatcher):
    """Has a row in flight until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def submit(self, request: RowRequest, **options: Any) -> RowOutcome:
        await self.go_on.wait()
        return await super().submit(request, **options)


async def test_a_row_that_is_interrupted_while_the_process_ends_is_released(world: World) -> None:
    def end() -> None:
        world.queues.drain()
        world.queues.close("shops")

    world.queues.open("shops", pipeline(Interrupting(end)))
    assert await world.submit() is None


async def test_a_row_that_is_postponed_comes_back_to_its_handler_which_waits_as_long_as_the_row_was_told(
    world: World,
) -> None:
    opened = pipeline(FakeBatcher(Postponed("the server is away", pause_s=22.5)))
    world.queues.open("shops", opened)
    with pytest.raises(ProviderNotCallable) as raised:
        await world.submit()
    waiting = asyncio.create_task(raised.value.wait_until_callable(asyncio.Event(), urgent=True))
    await settle()
    gate = cast(FakeGate, opened.gate)
    assert (waiting.done(), gate.pauses) == (False, [22.5])
    gate.opened.set()
    await waiting
    assert await world.submit() == EMBEDDED


async def test_draining_releases_a_row_that_its_batcher_gives_back_before_its_batch_has_begun(world: World) -> None:
    world.queues.open("shops", pipeline(Interrupting(world.queues.drain)))
    assert await world.submit() is None
