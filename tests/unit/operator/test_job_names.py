"""A job's name is its dedup key: the same for the same text, another for anything else, and always a valid name."""

import itertools
import re
import uuid

import pytest

from embedding_operator.resources.embedding_job import job_name

# A DNS-1123 subdomain, as the API server asks of a name.
VALID = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST = 253

SOURCES = ["a", "a-b", "a-1", "a.b", "a-b-1", "s" * 60]
IDS = [
    "1",
    "42",
    "-1",
    "9" * 38,
    str(uuid.UUID(int=0xABCDEF << 90)),
    str(uuid.UUID(int=0xABCDEF << 90)).upper(),
    "b",
    "B",
    "b-1",
    "b_1",
    "b.1",
    "b--1",
    "b-1-",
    "-b-1",
    "b 1",
    " ",
    "-",
    ".",
    "/",
    "ä",
    "Ä",
    "Straße 1",
    "日本語",
    "🍣",
    "a\nb",
    "a/b?c=d&e",
    "x" * 40,
    "x" * 41,
    "x" * 1024,
    "x" * 1023 + "y",
    "Ü" * 1024,
    "-" * 1024,
    "a-" * 30,
]


def name_of(source: str = "businesses", business_id: str = "42", text: str = "1" * 64, model: str = "any@8") -> str:
    return job_name(source=source, business_id=business_id, content_hash=text, fingerprint=model)


@pytest.mark.parametrize("business_id", IDS, ids=lambda value: ascii(value)[:40])
def test_every_id_makes_a_valid_name(business_id: str) -> None:
    for source in SOURCES:
        name = name_of(source, business_id)
        assert VALID.fullmatch(name)
        assert len(name) <= LONGEST


def test_a_number_or_a_uuid_can_be_read_in_the_name() -> None:
    assert re.fullmatch(r"businesses-42-[0-9a-f]{8}", name_of(business_id="42"))
    one = str(uuid.UUID(int=0xABCDEF << 90))
    assert re.fullmatch(rf"businesses-{one}-[0-9a-f]{{8}}", name_of(business_id=one))


def test_what_can_be_read_of_another_id_is_kept() -> None:
    assert re.fullmatch(r"businesses-joe-s-diner-[0-9a-f]{8}-[0-9a-f]{8}", name_of(business_id="Joe's Diner!"))


def test_the_same_text_of_the_same_business_has_the_same_name() -> None:
    assert name_of() == name_of()


@pytest.mark.parametrize(
    "other",
    [name_of(source="others"), name_of(business_id="43"), name_of(text="2" * 64), name_of(model="any@16")],
    ids=["source", "id", "text", "model"],
)
def test_another_source_id_text_or_model_has_another_name(other: str) -> None:
    assert other != name_of()


def test_no_two_businesses_share_a_name() -> None:
    businesses = set(itertools.product(SOURCES, [*IDS, *map(str, range(1_000))]))
    assert len({name_of(source, business_id) for source, business_id in businesses}) == len(businesses)


def test_an_id_that_imitates_anothers_slug_has_a_name_of_its_own() -> None:
    slug = name_of(business_id="Joe's Diner!").removeprefix("businesses-").rpartition("-")[0]
    assert name_of(business_id=slug) != name_of(business_id="Joe's Diner!")


def test_source_and_id_are_not_just_written_one_after_the_other() -> None:
    assert name_of("a", "b-1") != name_of("a-b", "1")
