"""A question about a row is answered from what the loop, the limits, the job table and the database know of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, Gone
from embedding_operator.reconciler.row_explainer import Lead, QuestionRefused, RowExplainer
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_job import Phase
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.rows.records import LastOutcome
from tests.support.fake_clock import START, settle
from tests.support.fake_store import FakeOneRow
from tests.support.looped_source import LoopedSource
from tests.support.operator_parts import SOURCE, job_of, source

TEXT = "Bakery"


class OneSource(Sources):
    """Has this loop, and no other."""

    def __init__(self, loop: SourceLoop) -> None:
        self._loop = loop

    def loops(self) -> list[tuple[str, SourceLoop]]:
        return [(SOURCE, self._loop)]


class Asked:
    """A source, and the way to ask about its rows."""

    def __init__(self, texts: dict[str, str], **spec: Any) -> None:
        self.looped = LoopedSource(texts, shown=source(**spec))
        self.store, self.server, self.table = self.looped.store, self.looped.server, self.looped.parts.table
        self.name = f"{self.server.namespace}/{SOURCE}"
        self.leads = True
        parts = self.looped.parts
        lead = Lead(lambda: self.leads, lambda: "operator-1")
        self.stored = FakeOneRow(self.store)
        self.explainer = RowExplainer(
            OneSource(self.looped.loop),
            server=self.server,
            jobs=parts.jobs,
            lead=lead,
            clock=parts.clock,
            one_row=lambda store: self.stored,
        )

    async def answer(self, row_id: str) -> dict[str, Any]:
        return await self.explainer.answer(self.name, row_id)

    async def reasons(self, row_id: str) -> list[str]:
        return [one["reason"] for one in (await self.answer(row_id))["why"]]


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    """Suspended, so that a row that is due gets no job, and with one row that is up to date."""
    made = Asked({"1": TEXT}, suspend=True)
    made.store.embed("1")
    async with made.looped.running():
        yield made


async def test_a_row_that_is_up_to_date_needs_no_reason(asked: Asked) -> None:
    answer = await asked.answer("1")
    assert (answer["row"]["state"], answer["job"], answer["why"], answer["queue"]) == ("UpToDate", None, [], None)
    assert (answer["leader"], answer["time"][:19]) == ("operator-1", START.isoformat()[:19])


async def test_a_due_row_has_what_holds_it_and_its_place(asked: Asked) -> None:
    for row_id in ("2", "3", "4"):
        asked.store.edit(row_id, f"text of {row_id}")
    assert await asked.reasons("3") == ["Suspended"]
    answer = await asked.answer("3")
    assert (answer["row"]["state"], answer["queue"]["rowsBefore"], answer["queue"]["estimatedSeconds"]) == (
        "Due",
        2,
        None,
    )
    assert "text of" not in str(answer)


async def test_a_row_that_does_not_exist_is_said(asked: Asked) -> None:
    assert (await asked.answer("4711"))["row"]["state"] == "NoSuchRow"


async def test_last_outcomes_are_those_of_the_row_store(asked: Asked) -> None:
    asked.stored.outcomes = (LastOutcome(START, "Retrying", "RowsRefused", "it is refused", 2),)
    assert [one["phase"] for one in (await asked.answer("1"))["lastOutcomes"]] == ["Retrying"]


async def test_an_open_job_is_shown_as_the_api_server_has_it(asked: Asked) -> None:
    asked.store.edit("2", "new")
    body = job_of("2", "new", Phase.RETRYING)
    body["status"] |= {"attempts": 2, "reason": "RowsRefused", "message": "it is refused"}
    job = asked.looped.parts.track(body)
    answer = await asked.answer("2")
    assert (answer["job"]["name"], answer["job"]["phase"], answer["job"]["attempts"]) == (job.name, "Retrying", 2)
    assert answer["job"]["message"] == "it is refused"
    assert answer["queue"] is None


async def test_the_place_of_a_job_is_among_the_jobs_that_are_at_work(asked: Asked) -> None:
    for number in range(3):
        asked.looped.parts.track(job_of(str(number), "new"))
        await asked.looped.clock.advance(1)
    places = [(await asked.answer(str(number)))["queue"]["rowsBefore"] for number in range(3)]
    assert places == [0, 1, 2]


async def test_a_dead_letter_is_its_own_reason(asked: Asked) -> None:
    asked.looped.parts.track(job_of("2", "new", Phase.DEAD_LETTERED))
    answer = await asked.answer("2")
    assert (answer["job"]["phase"], answer["why"], answer["queue"]) == ("DeadLettered", [], None)


async def test_a_job_that_has_just_ended_is_not_shown(asked: Asked) -> None:
    asked.store.edit("2", "new")
    job = asked.looped.parts.track(job_of("2", "new"))
    asked.server.fail("job", Gone(job.name))
    answer = await asked.answer("2")
    assert (answer["job"], [one["reason"] for one in answer["why"]]) == (None, ["Suspended"])


async def test_the_rate_is_that_of_the_source_in_the_last_minute() -> None:
    made = Asked({})
    async with made.looped.running():
        made.looped.setup.leads = False  # so that no job is created
        made.store.edit("1", "new")
        for _ in range(30):
            made.looped.parts.window.record_done(SOURCE)
            made.looped.parts.window.record_done("others")
            await made.looped.clock.advance(1)
        queue = (await made.answer("1"))["queue"]
        assert (queue["rowsPerSecond"], queue["estimatedSeconds"]) == (1.0, 1)
        await made.looped.clock.advance(61)
        assert (await made.answer("1"))["queue"]["rowsPerSecond"] is None


async def test_a_source_that_is_refused_says_so_of_each_row() -> None:
    made = Asked({"1": TEXT})
    made.looped.setup.failures = [SourceRefused("TableMissing", "create it")]
    async with made.looped.running():
        answer = await made.answer("1")
    assert (answer["row"], answer["why"]) == (None, [{"reason": "TableMissing", "message": "create it"}])


@pytest.mark.parametrize(
    ("question", "row_id", "status", "said"),
    [
        ("businesses", "1", 400, "NAMESPACE/NAME"),
        ("", "1", 400, "NAMESPACE/NAME"),
        ("NAMESPACE/businesses", "", 400, "id has 0 characters"),
        ("NAMESPACE/businesses", "x" * 1_025, 400, "id has 1025 characters"),
        ("NAMESPACE/others", "1", 404, "there is NAMESPACE/businesses"),
        ("elsewhere/businesses", "1", 404, "there is NAMESPACE/businesses"),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused_with_a_sentence(
    asked: Asked, question: str, row_id: str, status: int, said: str
) -> None:
    namespace = asked.server.namespace
    with pytest.raises(QuestionRefused, match=said.replace("NAMESPACE/b", f"{namespace}/b")) as refused:
        await asked.explainer.answer(question.replace("NAMESPACE", namespace), row_id)
    assert refused.value.status == status


async def test_a_process_that_does_not_lead_names_the_leader(asked: Asked) -> None:
    asked.leads = False
    with pytest.raises(QuestionRefused, match="ask operator-1") as refused:
        await asked.answer("1")
    assert (refused.value.status, refused.value.leader) == (503, "operator-1")
    assert asked.store.count("one_row") == 0


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), RowsLocked("away")])
async def test_while_the_database_is_away_the_answer_says_so_and_has_the_job(asked: Asked, error: Exception) -> None:
    asked.looped.parts.track(job_of("2", "new", Phase.DEAD_LETTERED))
    asked.store.fail("one_row", error)
    answer = await asked.answer("2")
    assert (answer["row"], answer["job"]["phase"]) == (None, "DeadLettered")
    assert answer["why"] == [{"reason": type(error).__name__, "message": "the database: away"}]


async def test_an_api_server_that_is_away_is_said(asked: Asked) -> None:
    asked.looped.parts.track(job_of("2", "new"))
    asked.server.fail("job", ApiServerUnreachable("away"))
    with pytest.raises(QuestionRefused, match="away") as refused:
        await asked.answer("2")
    assert refused.value.status == 503


async def test_while_a_source_is_set_up_again_that_is_the_reason(asked: Asked) -> None:
    asked.looped.loop.set_up_again()
    await settle()
    answer = await asked.answer("1")
    assert (answer["row"], [one["reason"] for one in answer["why"]]) == (None, ["SettingUp", "Suspended"])


async def test_a_table_that_refuses_the_question_is_not_a_database_that_is_away(asked: Asked) -> None:
    asked.looped.parts.track(job_of("2", "new", Phase.DEAD_LETTERED))
    asked.store.fail("one_row", SourceRefused("DatabaseRefused", "permission denied"))
    answer = await asked.answer("2")
    assert (answer["row"], answer["job"]["phase"]) == (None, "DeadLettered")
    assert answer["why"] == [{"reason": "DatabaseRefused", "message": "permission denied"}]


async def test_a_place_that_cannot_be_counted_leaves_the_rest_of_the_answer(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any, **kwargs: Any) -> None:
        raise DatabaseUnavailable("it is away")

    monkeypatch.setattr(asked.stored, "rows_around", away)
    asked.store.edit("2", "new")
    answer = await asked.answer("2")
    assert (answer["row"]["state"], answer["queue"]) == ("Due", None)
