"""Events are sent beside the work: at a pace, counted, and whatever becomes of them nobody who told one is the worse for it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog

from embedding_operator import event_poster
from embedding_operator.api_errors import ApiServerUnavailable, RequestRefused
from embedding_operator.event_poster import EventPoster, Pace
from embedding_operator.lifecycle.events import Event
from tests.support.deadline import eventually


def event(name: str, *, source: str = "businesses", action: str = "DeadLetter") -> Event:
    return Event(source, action, "Warning", "InputRejected", f"{name} is refused", {"name": name})


class ApiServer:
    """Takes events, unless it is to fail; notes what it was sent."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.sent: list[dict[str, Any]] = []

    async def create_event(self, manifest: dict[str, Any]) -> None:
        self.sent.append(manifest)
        if self.failure is not None:
            raise self.failure

    @property
    def notes(self) -> list[str]:
        return [manifest["note"] for manifest in self.sent]


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def poster(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EventPoster]:
    monkeypatch.setattr(event_poster, "PACE_S", 0.01)
    made = EventPoster(server.create_event, namespace="yellow-book", instance="pod-1")
    running = asyncio.create_task(made.run())
    yield made
    running.cancel()


async def test_an_event_is_sent_with_a_name_of_its_own(server: ApiServer, poster: EventPoster) -> None:
    for name in ("one", "two"):
        poster.tell(event(name))
        await eventually(lambda: len(server.sent) >= 1, within_s=5, because="an event was told")
    await eventually(lambda: len(server.sent) == 2, within_s=5, because="two events were told")
    names = [manifest["metadata"]["name"] for manifest in server.sent]
    assert [name.partition(".")[0] for name in names] == ["one", "two"]
    assert len(set(names)) == 2


async def test_a_storm_is_one_event_for_each_source_and_action_with_a_count(
    server: ApiServer, poster: EventPoster
) -> None:
    for n in range(500):
        poster.tell(event(f"job-{n}"))
    poster.tell(event("job-7", action="Replay"))
    poster.tell(event("other-1", source="others"))
    await eventually(lambda: len(server.sent) == 3, within_s=5, because="events were told")
    assert server.notes == [
        "job-499 is refused (and 499 more since the last event)",
        "job-7 is refused",
        "other-1 is refused",
    ]


@pytest.mark.parametrize("failure", [RequestRefused("forbidden"), ApiServerUnavailable("away"), ZeroDivisionError()])
async def test_an_event_that_is_refused_is_dropped_and_the_next_is_sent(
    server: ApiServer, poster: EventPoster, failure: Exception
) -> None:
    server.failure = failure
    with structlog.testing.capture_logs() as logs:
        for n in range(3):
            poster.tell(event(f"job-{n}"))
            await eventually(lambda n=n: len(server.sent) == n + 1, within_s=5, because="it was told")  # type: ignore[misc]
    assert len(server.sent) == 3
    if not isinstance(failure, ZeroDivisionError):  # said once, and not with each
        assert [entry["event"] for entry in logs] == ["event not sent"]
    server.failure = None
    poster.tell(event("last"))
    await eventually(lambda: server.notes[-1] == "last is refused", within_s=5, because="the API server is back")


def test_events_that_keep_coming_are_sent_ever_more_rarely() -> None:
    now, pace, pauses = 0.0, None, []
    for _ in range(11):
        pace = Pace.after(pace, now)
        pauses.append(pace.pause_s)
        now = pace.next_at
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_after_a_quiet_time_the_next_event_is_a_first_one_again() -> None:
    pace = Pace.after(Pace.after(Pace.after(None, 0), 1), 3)
    assert Pace.after(pace, pace.next_at + pace.pause_s).pause_s == 1
