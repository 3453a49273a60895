"""The model in force in a source's status: written by the operator, and read back by what embeds search texts."""

from dataclasses import replace
from typing import Any

import pytest

from embedding_operator.lifecycle.model_in_force import in_force, model_on_record, recorded
from embedding_operator.lifecycle.source_facts import SourceFacts
from embedding_operator.lifecycle.source_status import status
from embedding_worker.source import Model, TooLong
from tests.support.fake_clock import START

PLAIN = Model("fake", "one", 3)
WHOLE = Model(
    "fake",
    "one",
    3,
    "RETRIEVAL_DOCUMENT",
    endpoint="http://tei.search.svc:8080/v1",
    api_key_ref="secret/key",
    query_prefix="query: ",
    query_task_type="QUESTION_ANSWERING",
)


@pytest.mark.parametrize("model", [PLAIN, WHOLE], ids=["plain", "whole"])
def test_what_is_written_is_read_again(model: Model) -> None:
    assert model_on_record({"model": recorded(model)}, TooLong.TRUNCATE) == model
    without_nulls = {key: value for key, value in recorded(model).items() if value is not None}
    assert model_on_record({"model": without_nulls}, TooLong.REFUSE) == replace(model, too_long=TooLong.REFUSE)


@pytest.mark.parametrize("record", [{}, {"model": None}, {"model": {"provider": "fake"}}, {"model": "x"}])
def test_a_status_that_records_none_gives_none(record: dict[str, Any]) -> None:
    assert model_on_record(record, TooLong.TRUNCATE) is None


def test_while_a_change_waits_the_settings_of_search_texts_are_those_before_it() -> None:
    of_the_change = replace(PLAIN, query_prefix="new: ", query_task_type="CLUSTERING")
    before = {"model": recorded(WHOLE)}
    waiting = in_force(of_the_change, before, change_waits=True)
    assert (waiting.query_prefix, waiting.query_task_type) == ("query: ", "QUESTION_ANSWERING")
    assert in_force(of_the_change, before, change_waits=False) == of_the_change
    assert in_force(of_the_change, {}, change_waits=True) == PLAIN, "none are on record yet"


def test_until_the_configuration_is_decided_the_status_keeps_what_it_says() -> None:
    before = {"model": recorded(WHOLE)}
    assert status(SourceFacts(1, "one@3"), before, START)["model"] == before["model"]
    assert "model" not in status(SourceFacts(1, "one@3"), {}, START)
    assert status(SourceFacts(1, "one@3", model=PLAIN), before, START)["model"] == recorded(PLAIN)
