"""/healthz, /readyz and /metrics: the answers that the kubelet and Prometheus get."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest

from embedding_operator.health import health_server, overdue


@pytest.mark.parametrize("silent_s", [0.0, 60.0, 300.0])
def test_nothing_is_overdue_within_five_minutes(silent_s: float) -> None:
    assert overdue(silent_s, "the loop") == []


def test_what_has_not_run_for_longer_is_named_with_its_time() -> None:
    assert overdue(360.0, "the loop of source shops") == ["the loop of source shops has not run for 360 s"]


@dataclass
class Process:
    """What the server reads."""

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
async def test_a_probe_without_a_problem_succeeds(ask: Ask, path: str) -> None:
    assert await ask(path) == (200, "ok\n")


async def test_a_stuck_process_fails_healthz_with_the_reasons_and_stays_ready(process: Process, ask: Ask) -> None:
    process.stuck = ["housekeeping has not run for 360 s", "the watch of jobs has not run for 310 s"]
    assert await ask("/healthz") == (503, "\n".join(process.stuck) + "\n")
    assert (await ask("/readyz"))[0] == 200


async def test_a_process_that_waits_is_not_ready_and_needs_no_restart(process: Process, ask: Ask) -> None:
    process.not_ready = ["source shops waits for the database: connection refused"]
    assert await ask("/readyz") == (503, "source shops waits for the database: connection refused\n")
    assert (await ask("/healthz"))[0] == 200


async def test_a_process_is_ready_again_when_everything_can_be_reached(process: Process, ask: Ask) -> None:
    process.not_ready = ["the API server cannot be reached"]
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


async def test_a_port_in_use_raises_an_os_error(process: Process) -> None:
    server = health_server(process.port, stuck=list, not_ready=list, metrics=bytes)
    with pytest.raises(OSError, match="address already in use"):
        await server.__aenter__()


async def test_the_port_is_free_again_after_the_end() -> None:
    async with health_server(0, stuck=list, not_ready=list, metrics=bytes) as port:
        pass
    async with health_server(port, stuck=list, not_ready=list, metrics=bytes) as again:
        assert again == port
