"""The sources that `embedding-operator serve` knows: as listed and watched, and as before while the API server is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable
from embedding_operator.api_server import Json
from embedding_operator.serve.known_sources import PAUSE_S, KnownSources
from tests.support.fake_clock import FakeClock, settle
from tests.support.manifests import a_source


class Server:
    """Lists these sources, and shows the events that a test puts."""

    namespace = "test"

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.events: asyncio.Queue[Json | ApiServerError] = asyncio.Queue()
        self.failures: list[ApiServerError] = []
        self.lists = 0

    async def sources_now(self) -> tuple[list[Json], str]:
        self.lists += 1
        if self.failures:
            raise self.failures.pop(0)
        return [a_source(name) for name in self.names], "7"

    async def watch_sources(self, version: str, *, within_s: float) -> AsyncIterator[Json]:
        while True:
            event = await self.events.get()
            if isinstance(event, ApiServerError):
                raise event
            yield event


@asynccontextmanager
async def watching(server: Server, clock: FakeClock) -> AsyncIterator[KnownSources]:
    watch = KnownSources(server, clock=clock)  # type: ignore[arg-type]
    task = asyncio.create_task(watch.run())
    await settle()
    yield watch
    task.cancel()


async def show(server: Server, kind: str, name: str, **metadata: str) -> None:
    body = a_source(name)
    server.events.put_nowait({"type": kind, "object": body | {"metadata": body["metadata"] | metadata}})
    await settle()


async def test_what_is_added_changed_or_deleted_is_known_at_once() -> None:
    server = Server("shops")
    async with watching(server, FakeClock()) as watch:
        assert (list(watch.sources), watch.is_listed, watch.problem) == (["shops"], True, None)
        await show(server, "ADDED", "hotels")
        assert sorted(watch.sources) == ["hotels", "shops"]
        await show(server, "MODIFIED", "shops", deletionTimestamp="2026-03-01T12:00:00Z")
        assert list(watch.sources) == ["hotels"]
        await show(server, "DELETED", "hotels")
        assert watch.sources == {}


async def test_before_the_first_list_the_reason_is_known() -> None:
    server = Server()
    server.failures = [ApiServerUnavailable("the API server cannot be reached (refused)")]
    async with watching(server, FakeClock()) as watch:
        assert not watch.is_listed
        assert "the API server cannot be reached (refused)" in (watch.problem or "")


async def test_while_the_api_server_is_away_the_last_known_sources_are_kept() -> None:
    server, clock = Server("shops"), FakeClock()
    async with watching(server, clock) as watch:
        server.failures = [ApiServerUnavailable("away")] * 3
        server.events.put_nowait(ApiServerUnavailable("away"))
        await settle()
        for _ in range(3):
            assert (list(watch.sources), watch.is_listed) == (["shops"], True)
            assert watch.problem is not None
            await clock.advance(PAUSE_S)
        server.names = ["hotels"]
        await clock.advance(PAUSE_S)
        assert (list(watch.sources), watch.problem) == (["hotels"], None)


async def test_a_version_that_is_too_old_is_followed_by_a_list() -> None:
    server, clock = Server("shops"), FakeClock()
    async with watching(server, clock) as watch:
        server.names = ["hotels"]
        await show(server, "ERROR", "shops")
        await clock.advance(PAUSE_S)
        assert (server.lists, list(watch.sources)) == (2, ["hotels"])
