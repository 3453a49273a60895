"""/healthz, /readyz and /metrics: what the kubelet and Prometheus are answered."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from embedding_operator.health import STUCK_S, health_server, overdue


def test_what_has_just_come_round_is_not_overdue() -> None:
    assert overdue(time.monotonic(), "the loop") == []


def test_what_is_late_is_not_overdue_yet() -> None:
    assert overdue(time.monotonic() - STUCK_S + 60, "the loop") == []


def test_what_has_been_silent_for_longer_is_named_with_its_silence() -> None:
    (problem,) = overdue(time.monotonic() - STUCK_S - 60, "the loop of source shops")
    assert problem == "the loop of source shops has not come round for 360 s"


@dataclass
class Process:
    """What the server asks."""

    stuck: list[str] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)
    port: int = 0


Ask = Callable[[str], Awaitable[tuple[int, str]]]


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    made = Process()
    server = health_server(
        0, stuck=lambda: made.stuck, not_ready=lambda: made.not_ready, metrics=lambda: b"any_metric 1.0\n"
    )
    async with server as made.port:
        yield made


@pytest.fixture
async def ask(process: Process) -> AsyncIterator[Ask]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{process.port}") as session:

        async def answer(path: str) -> tuple[int, str]:
            async with session.get(path) as response:
                return response.status, await response.text()

        yield answer


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_all_is_well(ask: Ask, path: str) -> None:
    assert await ask(path) == (200, "ok\n")


async def test_a_process_that_is_stuck_asks_for_its_restart_and_says_why(process: Process, ask: Ask) -> None:
    process.stuck = ["housekeeping has not come round for 360 s", "the watch of jobs has not come round for 310 s"]
    assert await ask("/healthz") == (503, "\n".join(process.stuck) + "\n")
    assert (await ask("/readyz"))[0] == 200


async def test_a_process_that_waits_for_something_is_not_ready_and_needs_no_restart(process: Process, ask: Ask) -> None:
    process.not_ready = ["source shops waits for the database: it is away"]
    assert await ask("/readyz") == (503, "source shops waits for the database: it is away\n")
    assert (await ask("/healthz"))[0] == 200


async def test_it_is_ready_again_when_nothing_is_away_any_more(process: Process, ask: Ask) -> None:
    process.not_ready = ["the API server is away"]
    assert (await ask("/readyz"))[0] == 503
    process.not_ready = []
    assert (await ask("/readyz"))[0] == 200


async def test_the_metrics_are_served_in_the_format_of_prometheus(process: Process) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{process.port}/metrics") as response,
    ):
        assert (response.status, await response.text()) == (200, "any_metric 1.0\n")
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_nothing_else_is_served(ask: Ask) -> None:
    assert (await ask("/"))[0] == 404


async def test_a_port_that_is_taken_is_an_error_of_the_system(process: Process) -> None:
    server = health_server(process.port, stuck=list, not_ready=list, metrics=bytes)
    with pytest.raises(OSError, match="address already in use"):
        await server.__aenter__()


async def test_the_port_is_free_again_after_the_end() -> None:
    async with health_server(0, stuck=list, not_ready=list, metrics=bytes) as port:
        pass
    async with health_server(port, stuck=list, not_ready=list, metrics=bytes) as again:
        assert again == port
