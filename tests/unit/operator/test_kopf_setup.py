"""How kopf is set up: how long it goes on trying, what it watches, and how it connects."""

import asyncio
import gc
import itertools
import logging
from typing import Any, cast

import aiohttp
import kopf
import pytest
from kopf._cogs.clients import scanning
from kopf._core.intents.causes import Activity

from embedding_operator.api_server import ApiServer
from embedding_operator.handlers.kopf_setup import (
    CONNECTIONS,
    Backoffs,
    make_registry,
    make_settings,
    without_forgotten_reads,
)
from embedding_operator.resources import GROUP, JOBS
from tests.support.fake_clock import FakeClock, let_time_pass, settle

FIRST_HOUR = 2_000


def test_backoffs_grow_to_two_seconds_and_never_end() -> None:
    pauses = list(itertools.islice(Backoffs(), FIRST_HOUR))
    assert pauses[:5] == [0.2, 0.5, 1, 2, 2]
    assert (len(pauses), pauses[-1]) == (FIRST_HOUR, 2)


def test_no_pause_keeps_work_waiting_for_ten_seconds_after_the_servers_return() -> None:
    longest_pause_s = max(itertools.islice(Backoffs(), FIRST_HOUR))
    settings = make_settings()
    for connecting_s in (settings.networking.connect_timeout, settings.watching.connect_timeout):
        assert connecting_s is not None
        assert longest_pause_s + connecting_s < 10


def test_each_outage_begins_with_the_short_pauses_again() -> None:
    backoffs = Backoffs()
    first = list(itertools.islice(backoffs, FIRST_HOUR))
    assert list(itertools.islice(backoffs, FIRST_HOUR)) == first


def test_finished_jobs_and_dead_letters_are_not_watched() -> None:
    selector = make_settings().watching.field_selectors[GROUP, JOBS]
    assert selector == "status.phase!=Succeeded,status.phase!=Superseded,status.phase!=DeadLettered"


def test_kopf_posts_no_events_and_scans_no_cluster() -> None:
    settings = make_settings()
    assert (settings.posting.enabled, settings.scanning.disabled) == (False, True)


def test_a_silent_watch_ends_within_seventy_five_seconds() -> None:
    watching = make_settings().watching
    assert (watching.server_timeout, watching.client_timeout) == (50, 60)


async def read_what_is_served() -> object:
    return await scanning.scan_resources(settings=make_settings(), logger=logging.getLogger())


async def fail() -> None:
    raise aiohttp.ClientConnectionError("Connection closed")


@pytest.mark.parametrize("is_handled", [True, False])
async def test_reads_that_kopf_forgets_when_it_ends_are_no_errors_of_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_handled: bool
) -> None:
    async def closed(path: str, **_: object) -> None:
        asked.set()
        await connection_is_closed.wait()
        await fail()

    asked, connection_is_closed = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr("kopf._cogs.clients.api.get", closed)
    if is_handled:
        asyncio.get_running_loop().set_exception_handler(without_forgotten_reads)
    reading = asyncio.create_task(read_what_is_served())
    await asked.wait()
    reading.cancel()
    await asyncio.wait({reading})
    connection_is_closed.set()
    await settle()
    del reading  # and with it the last reference to the others
    gc.collect()
    never_retrieved = [record for record in caplog.records if "never retrieved" in record.getMessage()]
    assert len(never_retrieved) == (0 if is_handled else 2)  # none of either: the handler is not needed any more


async def test_other_errors_that_nobody_has_waited_for_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().set_exception_handler(without_forgotten_reads)
    await asyncio.wait({asyncio.create_task(fail())})
    gc.collect()
    assert "never retrieved" in caplog.text


class FakeServer:
    """Makes sessions, and records their limits."""

    host, namespace = "https://fake", "here"

    def __init__(self) -> None:
        self.limits: list[int] = []
        self.sessions: list[aiohttp.ClientSession] = []

    def new_session(self, *, limit: int, patient: bool) -> aiohttp.ClientSession:
        assert patient
        self.limits.append(limit)
        self.sessions.append(aiohttp.ClientSession())
        return self.sessions[-1]


async def test_each_login_gets_a_session_of_its_own_to_our_server_and_namespace() -> None:
    server = FakeServer()
    clock = FakeClock()
    registry = make_registry(cast(ApiServer, server), cast(Any, None), cast(Any, None), cast(Any, None), clock=clock)
    (login,) = registry._activities.get_handlers(Activity.AUTHENTICATION)
    found = [await let_time_pass(clock, cast(Any, login.fn)()) for _ in range(2)]
    try:
        assert all(isinstance(connection, kopf.AiohttpSession) for connection in found)
        assert [connection.aiohttp_session for connection in found] == server.sessions
        assert [(connection.server, connection.default_namespace) for connection in found] == [
            ("https://fake", "here")
        ] * 2
        assert server.limits == [CONNECTIONS, CONNECTIONS]
    finally:
        for session in server.sessions:
            await session.close()


async def test_refused_credentials_cause_a_login_every_four_seconds_and_no_more() -> None:
    server, clock = FakeServer(), FakeClock()
    registry = make_registry(cast(ApiServer, server), cast(Any, None), cast(Any, None), cast(Any, None), clock=clock)
    (login,) = registry._activities.get_handlers(Activity.AUTHENTICATION)

    async def refused_again_and_again() -> None:
        while True:
            await cast(Any, login.fn)()

    task = asyncio.create_task(refused_again_and_again())
    try:
        await clock.advance(39)
        assert len(server.sessions) == 10
    finally:
        task.cancel()
        for session in server.sessions:
            await session.close()
