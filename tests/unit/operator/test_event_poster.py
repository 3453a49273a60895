"""Events are sent beside the work: at a limited rate, with a count, and without an error for the one who emits them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import structlog

from embedding_operator.api_errors import ApiServerUnavailable, RequestRefused
from embedding_operator.event_poster import EventPoster, Pace
from embedding_operator.lifecycle.events import Event
from tests.support.fake_api_server import FakeApiServer
from tests.support.fake_clock import FakeClock, settle


def event(name: str, *, source: str = "businesses", action: str = "DeadLetter") -> Event:
    return Event(source, action, "Warning", "InputRejected", f"{name} is refused", {"name": name})


@dataclass
class System:
    server: FakeApiServer = field(default_factory=FakeApiServer)
    clock: FakeClock = field(default_factory=FakeClock)
    instance: str = "pod-1"
    poster: EventPoster = field(init=False)

    def __post_init__(self) -> None:
        create = self.server.create_event
        self.poster = EventPoster(create, namespace="yellow-book", instance=self.instance, clock=self.clock)

    @property
    def notes(self) -> list[str]:
        return [manifest["note"] for manifest in self.server.events]


@pytest.fixture
async def system() -> AsyncIterator[System]:
    made = System()
    running = asyncio.create_task(made.poster.run())
    yield made
    running.cancel()


async def test_an_event_is_sent_at_once(system: System) -> None:
    system.poster.emit(event("one"))
    await settle()
    (sent,) = system.server.events
    assert (sent["note"], sent["metadata"]["namespace"]) == ("one is refused", "yellow-book")
    assert sent["reportingInstance"] == "pod-1"
    assert sent["eventTime"] == "2026-03-01T12:00:00.000000Z"


async def test_an_event_that_is_emitted_during_a_pause_is_sent_after_it(system: System) -> None:
    for name in ("one", "two"):
        system.poster.emit(event(name))
        await settle()
    assert system.notes == ["one is refused"]
    await system.clock.advance(1)
    assert system.notes == ["one is refused", "two is refused"]


async def test_each_event_has_a_name_of_its_own(system: System) -> None:
    for _ in range(2):
        system.poster.emit(event("one"))
        await system.clock.advance(1)
    names = [manifest["metadata"]["name"] for manifest in system.server.events]
    assert [name.partition(".")[0] for name in names] == ["one", "one"]
    assert len(set(names)) == 2


async def test_many_events_at_once_are_one_for_each_source_and_action_with_a_count(system: System) -> None:
    for n in range(500):
        system.poster.emit(event(f"job-{n}"))
    system.poster.emit(event("job-7", action="Replay"))
    system.poster.emit(event("other-1", source="others"))
    await system.clock.advance(10)
    assert system.notes == [
        "job-499 is refused (and 499 more since the last event)",
        "job-7 is refused",
        "other-1 is refused",
    ]


async def test_events_that_keep_coming_for_five_minutes_cause_nine_requests(system: System) -> None:
    for second in range(300):
        system.poster.emit(event(f"job-{second}"))
        await system.clock.advance(1)
    assert len(system.server.events) == 9


@pytest.mark.parametrize("failure", [RequestRefused("forbidden"), ApiServerUnavailable("overloaded")])
async def test_events_that_are_refused_are_dropped_and_logged_once(
    system: System, failure: RequestRefused | ApiServerUnavailable
) -> None:
    system.server.fail("create_event", failure, failure)
    with structlog.testing.capture_logs() as logs:
        for n in range(3):
            system.poster.emit(event(f"job-{n}"))
            await system.clock.advance(10)
    assert system.notes == ["job-2 is refused"]
    assert [(entry["event"], entry["regarding"]) for entry in logs] == [("event not sent", "job-0")]


async def test_after_an_accepted_event_the_next_refusal_is_logged_again(system: System) -> None:
    with structlog.testing.capture_logs() as logs:
        for n in range(2):
            system.server.fail("create_event", RequestRefused("forbidden"))
            system.poster.emit(event(f"refused-{n}"))
            await system.clock.advance(10)
            system.poster.emit(event(f"accepted-{n}"))
            await system.clock.advance(10)
    assert [entry["regarding"] for entry in logs] == ["refused-0", "refused-1"]


async def test_an_unexpected_error_does_not_end_the_poster() -> None:
    clock, sent = FakeClock(), []

    async def create(manifest: dict[str, object]) -> None:
        sent.append(manifest["note"])
        if len(sent) == 1:
            raise ZeroDivisionError

    poster = EventPoster(create, namespace="yellow-book", instance="pod-1", clock=clock)
    running = asyncio.create_task(poster.run())
    for name in ("one", "two"):
        poster.emit(event(name))
        await clock.advance(10)
    assert sent == ["one is refused", "two is refused"]
    running.cancel()


async def test_a_long_host_name_is_cut_to_what_the_api_server_accepts() -> None:
    system = System(instance="h" * 253)
    running = asyncio.create_task(system.poster.run())
    system.poster.emit(event("one"))
    await settle()
    assert system.server.events[0]["reportingInstance"] == "h" * 128
    running.cancel()


def test_events_that_keep_coming_are_sent_after_growing_pauses() -> None:
    now, pace, pauses = 0.0, None, []
    for _ in range(11):
        pace = Pace.after(pace, now)
        pauses.append(pace.pause_s)
        now = pace.next_at
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_after_a_silence_as_long_as_the_last_pause_the_pauses_start_again() -> None:
    pace = Pace.after(Pace.after(Pace.after(None, 0), 1), 3)
    assert Pace.after(pace, pace.next_at + pace.pause_s).pause_s == 1
