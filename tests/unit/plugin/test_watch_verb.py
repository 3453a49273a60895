"""`kubectl embeddings watch`: how it goes on by itself, what it prints for programs, and what its view shows to people."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused, Unauthorized
from kubectl_embeddings.cluster import Json, VersionExpired
from kubectl_embeddings.failures import NotFound
from kubectl_embeddings.layout import Format
from kubectl_embeddings.live_state import LiveState
from kubectl_embeddings.source_watch import ANSWERS_AGAIN, Change, Kind
from kubectl_embeddings.watching import watch_lines
from tests.support.fake_clock import START, FakeClock
from tests.support.fake_requests import VERSION, FakeRequests, Printed, condition, source_body

AWAY = condition("ProviderReady", "False", "ProviderUnavailable", "it answers 503")


class Over(Exception):
    """The end of a test's watch."""


class Clock(FakeClock):
    """Time passes at once."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._elapsed_s += seconds


def source(name: str = "a", *, version: str = "1", **status: Any) -> Json:
    body = source_body(name, status={"summary": "Sweeping", **status})
    body["metadata"]["resourceVersion"] = version
    return body


def event(body: Json, kind: str = "MODIFIED") -> Json:
    return {"type": kind, "object": body}


async def watched(
    *watches: Sequence[Json | Exception], names: Sequence[str] = (), output: Format | None = None
) -> tuple[FakeRequests, Printed, Clock]:
    """A namespace with the source `a`, what is printed while these watches follow each other, and the time that has passed."""
    cluster, printed, clock = FakeRequests(sources=[source()]), Printed(output=output), Clock()
    cluster.watches, cluster.end = list(watches), Over()
    with pytest.raises(Over):
        await watch_lines(cluster, names, printed.screen, clock=clock)
    return cluster, printed, clock


def cells(printed: Printed) -> list[list[str]]:
    return [line.split()[:2] for line in printed.lines]


async def test_what_is_there_is_a_line_and_so_is_each_change() -> None:
    _, printed, _ = await watched([event(source(version="2", summary="Suspended"))])
    assert cells(printed) == [["SOURCE", "STATUS"], ["a", "Sweeping"], ["a", "Suspended"]]


async def test_a_change_of_what_is_not_shown_is_no_line() -> None:
    _, printed, _ = await watched([event(source(version="2", today={"texts": 5})), event(source(version="3"))])
    assert cells(printed) == [["SOURCE", "STATUS"], ["a", "Sweeping"]]


async def test_sources_that_come_and_go_are_lines() -> None:
    _, printed, _ = await watched(
        [event(source("b", version="2"), "ADDED"), event(source("b", version="3"), "DELETED")]
    )
    assert cells(printed)[2:] == [["b", "Sweeping"], ["b", "(deleted)"]]


async def test_each_change_is_a_json_document_in_one_line_without_managed_fields() -> None:
    _, printed, _ = await watched([event(source(version="2"))], output=Format.JSON)
    found = [json.loads(line) for line in printed.lines]
    assert [(one["type"], one["object"]["kind"]) for one in found] == [
        ("ADDED", "EmbeddingSource"),
        ("MODIFIED", "EmbeddingSource"),
    ]
    assert "managedFields" not in printed.text


async def test_only_the_sources_that_were_named_are_shown() -> None:
    _, printed, _ = await watched([event(source("b", version="2"), "ADDED")], names=["a"])
    assert cells(printed) == [["SOURCE", "STATUS"], ["a", "Sweeping"]]


async def test_a_name_that_does_not_exist_ends_it() -> None:
    with pytest.raises(NotFound, match="has no EmbeddingSource b"):
        await watch_lines(FakeRequests(), ["b"], Printed().screen, clock=Clock())


async def test_a_watch_that_ends_is_followed_by_one_from_the_newest_version_and_not_at_once() -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "150"}}}
    cluster, printed, clock = await watched([event(source(version="120"))], [bookmark], [])
    assert cluster.watched_from == [VERSION, "120", "150", "150"]
    assert (len(printed.lines), printed.notes) == (2, [])
    assert clock.slept == [1.0, 1.0, 1.0]


async def test_after_an_expired_version_what_has_changed_meanwhile_is_found_in_a_list() -> None:
    cluster, printed, clock = FakeRequests(sources=[source("a"), source("gone")]), Printed(), Clock()

    async def sources_at() -> tuple[list[Json], str]:
        return (lists.pop(0), "200")

    lists = [[source("a"), source("gone")], [source("a", version="2", summary="Suspended"), source("new")]]
    cluster.sources_at = sources_at  # type: ignore[method-assign]
    cluster.watches, cluster.end = [[VersionExpired()]], Over()
    with pytest.raises(Over):
        await watch_lines(cluster, [], printed.screen, clock=clock)
    assert cells(printed)[3:] == [["gone", "(deleted)"], ["a", "Suspended"], ["new", "Sweeping"]]


async def test_an_api_server_that_is_lost_is_said_once_and_asked_again_less_and_less_often() -> None:
    lost = ApiServerUnreachable("the API server cannot be reached (ClientOSError)")
    _, printed, clock = await watched([lost], [lost], [lost], [lost], [lost], [lost], [event(source(version="2"))])
    assert printed.notes == [f"{lost}: what is shown is what was known before, and it is asked again", ANSWERS_AGAIN]
    assert clock.slept[:6] == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


async def test_credentials_are_read_again_once() -> None:
    refused = Unauthorized("token expired")
    await watched([refused], [event(source(version="2"))], [refused], [])
    cluster = FakeRequests()
    cluster.watches = [[refused], [refused]]
    with pytest.raises(Unauthorized):
        await watch_lines(cluster, [], Printed().screen, clock=Clock())


async def test_a_right_that_is_missing_ends_it() -> None:
    cluster = FakeRequests()
    cluster.watches = [[RequestRefused("cannot watch")]]
    with pytest.raises(RequestRefused):
        await watch_lines(cluster, [], Printed().screen, clock=Clock())


def lines(state: LiveState, *, after: float = 0, width: int = 100, height: int = 20) -> list[str]:
    return state.lines(START + timedelta(seconds=after), width=width, height=height)


def apply(state: LiveState, body: Json, kind: Kind = Kind.MODIFIED, *, after: float = 0) -> None:
    state.apply(Change(kind, body), START + timedelta(seconds=after))


def test_the_view_shows_the_sources_and_below_them_the_newest_transitions_first() -> None:
    state = LiveState()
    apply(state, source(conditions=[condition("Ready", "True", "Watching", "")]), Kind.ADDED)
    apply(state, source(conditions=[condition("Ready", "True", "Suspended", "")]), after=5)
    assert [line.split()[0] for line in lines(state)[:2]] == ["SOURCE", "a"]
    assert lines(state)[3:] == [
        "2026-03-01 12:00:05Z  a  Ready is True (Suspended)",
        "2026-03-01 11:00:00Z  a  Ready is True (Watching)",
    ]


def test_a_source_that_is_gone_is_a_transition() -> None:
    state = LiveState()
    apply(state, source(), Kind.ADDED)
    apply(state, source(), Kind.DELETED)
    assert lines(state) == ["no EmbeddingSource", "", "2026-03-01 12:00:00Z  a  deleted"]


def test_the_texts_in_a_second_are_those_of_the_last_minute() -> None:
    state = LiveState()
    for second, texts in ((0, 0), (30, 3000), (90, 6000)):
        apply(state, source(today={"date": "2026-03-01", "texts": texts}), after=second)
    assert lines(state, after=90)[1].split()[-1] == "50.0"
    apply(state, source(today={"date": "2026-03-02", "texts": 1}), after=100)
    assert state.row("a", START + timedelta(seconds=100))[-1] == ""


def test_the_view_fits_into_the_terminal() -> None:
    state = LiveState()
    for number in range(30):
        apply(state, source(conditions=[AWAY | {"reason": f"Reason{number}"}]), after=number)
    shown = lines(state, width=60, height=12)
    assert len(shown) <= 12
    assert max(map(len, shown)) <= 60


def test_what_needs_attention_is_known_and_a_lost_api_server_is_shown() -> None:
    state = LiveState()
    apply(state, source("a"), Kind.ADDED)
    apply(state, source("b", conditions=[AWAY]), Kind.ADDED)
    assert state.needs_attention() == {"b"}
    state.problem = "the API server cannot be reached"
    assert "the API server cannot be reached" in lines(state)
