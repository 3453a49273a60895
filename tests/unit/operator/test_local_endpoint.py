"""The endpoint for questions about rows: what is asked, what each failure is answered with, and who may ask."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from embedding_operator import local_endpoint as module
from embedding_operator.local_endpoint import local_endpoint
from embedding_operator.reconciler.row_explainer import QuestionRefused
from embedding_worker.errors import DatabaseUnavailable


class Leader:
    """Answers every question in the same way."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def explain(self, source: str, row_id: str) -> dict[str, Any]:
        self.asked.append((source, row_id))
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return {"id": row_id}


@pytest.fixture
def leader() -> Leader:
    return Leader()


@pytest.fixture
async def session(leader: Leader) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        local_endpoint(0, leader.explain) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as made,
    ):
        yield made


async def ask(session: aiohttp.ClientSession, query: str = "?source=ns/a&id=1", **headers: str) -> tuple[int, Any]:
    async with session.get(f"/v1/rows{query}", headers=headers) as response:
        return response.status, json.loads(await response.text())


async def test_source_and_id_are_asked_for_as_they_were_given(session: aiohttp.ClientSession, leader: Leader) -> None:
    assert await ask(session, "?source=ns%2Fa&id=a%2Fb%26c") == (200, {"id": "a/b&c"})
    assert await ask(session, "") == (200, {"id": ""})
    assert leader.asked == [("ns/a", "a/b&c"), ("", "")]


@pytest.mark.parametrize(
    ("failure", "status", "said"),
    [
        (QuestionRefused(400, "source is empty"), 400, {"error": "source is empty"}),
        (QuestionRefused(503, "ask it", leader="pod-1"), 503, {"error": "ask it", "leader": "pod-1"}),
        (DatabaseUnavailable("it is away"), 503, {"error": "the database gives no answer: it is away"}),
    ],
)
async def test_a_failure_has_a_status_and_a_sentence(
    session: aiohttp.ClientSession, leader: Leader, failure: Exception, status: int, said: dict[str, str]
) -> None:
    leader.failure = failure
    assert await ask(session) == (status, said)


@pytest.mark.parametrize(("host", "status"), [("localhost:1", 200), ("127.0.0.1", 200), ("page.example", 400)])
async def test_a_page_whose_name_resolves_to_this_machine_gets_no_answer(
    session: aiohttp.ClientSession, leader: Leader, host: str, status: int
) -> None:
    assert (await ask(session, Host=host))[0] == status
    assert len(leader.asked) == (1 if status == 200 else 0)


async def test_one_question_is_answered_at_a_time(session: aiohttp.ClientSession, leader: Leader) -> None:
    leader.may_answer.clear()
    asking = [asyncio.create_task(ask(session)) for _ in range(3)]
    async with session.get("/other") as response:  # the server has taken the questions that came before
        assert response.status == 404
    assert len(leader.asked) == 1
    leader.may_answer.set()
    assert [status for status, _ in await asyncio.gather(*asking)] == [200, 200, 200]


async def test_a_question_that_takes_too_long_is_given_up(
    session: aiohttp.ClientSession, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHIN_S", 0.05)
    leader.may_answer.clear()
    status, answer = await ask(session)
    assert (status, answer["error"].endswith("ask again")) == (503, True)


async def test_nothing_can_be_written(session: aiohttp.ClientSession) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        async with session.request(method, "/v1/rows") as response:
            assert response.status == 405


async def test_a_port_that_is_in_use_stops_nothing(leader: Leader) -> None:
    async with local_endpoint(0, leader.explain) as first, local_endpoint(first or 0, leader.explain) as second:
        assert second is None
        async with aiohttp.ClientSession(f"http://127.0.0.1:{first}") as session:
            assert (await ask(session))[0] == 200
