"""The API server is asked now and then, so that an outage and its end are noticed although no other request is sent."""

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, ApiServerUnreachable, RequestRefused
from embedding_operator.reconciler.api_server_watch import ASK_AGAIN_AFTER_S, ASK_EVERY_S, ApiServerWatch
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import FakeClock

SILENT = ApiServerUnreachable("the API server cannot be reached (TimeoutError)")
BROKEN = ApiServerUnavailable("HTTP 503")
FORBIDDEN = RequestRefused("HTTP 403")


class World:
    def __init__(self) -> None:
        self.server, self.clock = FakeApiServer(), FakeClock()
        self.returns = 0
        self.watch = ApiServerWatch(self.server, on_return=self._returned, clock=self.clock)

    def _returned(self) -> None:
        self.returns += 1

    async def ask(self, *errors: ApiServerError) -> None:
        """Ask once for each of these errors, and once more, which the server answers."""
        self.server.fail("answer", *errors)
        for _ in range(len(errors) + 1):
            await self.watch.ask()


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("error", [SILENT, BROKEN, FORBIDDEN], ids=["no answer", "503", "403"])
async def test_whatever_prevents_requests_is_named_while_it_lasts(world: World, error: ApiServerError) -> None:
    world.server.fail("answer", error)
    await world.watch.ask()
    assert world.watch.waiting_for == str(error)
    await world.watch.ask()
    assert world.watch.waiting_for is None


@pytest.mark.parametrize("error", [SILENT, BROKEN, FORBIDDEN], ids=["no answer", "503", "403"])
async def test_all_work_goes_on_when_the_server_answers_again(world: World, error: ApiServerError) -> None:
    await world.ask(error)
    assert world.returns == 1


async def test_a_server_that_answers_always_returns_from_nowhere(world: World) -> None:
    await world.ask()
    await world.ask()
    assert (world.returns, world.server.count("abort_connections")) == (0, 0)


@pytest.mark.parametrize(
    ("errors", "aborted"),
    [([SILENT], 0), ([SILENT, SILENT], 1), ([SILENT] * 9, 1), ([BROKEN] * 9, 0), ([SILENT, BROKEN, SILENT], 1)],
    ids=["slow once", "silent", "silent for long", "it answered", "both"],
)
async def test_connections_are_ended_after_an_outage_in_which_questions_got_no_answer(
    world: World, errors: list[ApiServerError], aborted: int
) -> None:
    await world.ask(*errors)
    assert world.server.count("abort_connections") == aborted


async def test_each_outage_is_judged_by_its_own_questions(world: World) -> None:
    await world.ask(SILENT)
    await world.ask(SILENT)
    assert world.server.count("abort_connections") == 0


async def test_it_asks_more_often_while_the_server_is_away(world: World) -> None:
    world.server.fail("answer", SILENT, SILENT)

    task = asyncio.create_task(world.watch.run())
    try:
        await world.clock.advance(ASK_EVERY_S)
        assert world.server.count("answer") == 1
        await world.clock.advance(2 * ASK_AGAIN_AFTER_S)
        assert world.server.count("answer") == 3
        await world.clock.advance(ASK_EVERY_S - 0.1)
        assert world.server.count("answer") == 3
    finally:
        task.cancel()


async def test_an_outage_is_logged_once_at_its_beginning_and_once_at_its_end(world: World) -> None:
    with capture_logs() as logs:
        await world.ask(SILENT, BROKEN, SILENT)
    assert [line["log_level"] for line in logs] == ["warning", "info"]


async def test_a_defect_does_not_end_the_watch(world: World) -> None:
    world.server.fail("answer", cast(Any, ZeroDivisionError()))
    with capture_logs():
        await world.watch.ask()
    assert world.watch.waiting_for is not None
    assert "ZeroDivisionError" in world.watch.waiting_for
