"""Whether a database would do, decided from what its catalog says."""

from dataclasses import replace

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.readiness import DatabaseFacts, creatable_schema, supported_server, usable_vector

GOOD = DatabaseFacts(
    160004, "16.4", "yellow_book", "operator", "0.8.1", True, schema_exists=False, may_enter=False, may_create=True
)


def test_a_database_that_meets_the_needs_is_described_in_a_few_words() -> None:
    assert supported_server(GOOD) == "PostgreSQL 16.4, as role 'operator' in database 'yellow_book'"
    assert usable_vector(GOOD) == "0.8.1"
    assert creatable_schema(GOOD) == "is not there yet, and the role may create it"
    assert creatable_schema(replace(GOOD, schema_exists=True, may_enter=True)) == "is there"


@pytest.mark.parametrize(("number", "supported"), [(130020, False), (139999, False), (140000, True), (180004, True)])
def test_postgresql_14_is_the_oldest(number: int, supported: bool) -> None:
    facts = replace(GOOD, version_number=number)
    if supported:
        supported_server(facts)
    else:
        with pytest.raises(SourceRefused, match="is older than 14, which is needed"):
            supported_server(facts)


@pytest.mark.parametrize(
    ("vector", "supported"), [("0.4.4", False), ("0.6.2", False), ("0.7.0", True), ("0.10.0", True), ("1.0", True)]
)
def test_pgvector_0_7_is_the_oldest(vector: str, supported: bool) -> None:
    facts = replace(GOOD, vector=vector)
    if supported:
        assert usable_vector(facts) == vector
    else:
        with pytest.raises(
            SourceRefused, match=f"version {vector} is older than 0.7, .*: ALTER EXTENSION vector UPDATE"
        ):
            usable_vector(facts)


@pytest.mark.parametrize(
    ("available", "remedy"),
    [
        (True, "the extension is not in the database: CREATE EXTENSION vector in database 'yellow_book'"),
        (False, "the extension is not in the database: install pgvector on the server, then CREATE EXTENSION"),
    ],
)
def test_where_pgvector_is_missing_the_remedy_depends_on_the_server(available: bool, remedy: str) -> None:
    with pytest.raises(SourceRefused, match=remedy):
        usable_vector(replace(GOOD, vector=None, vector_available=available))


def test_a_role_that_may_not_create_the_schema_gets_the_statement_that_lets_it() -> None:
    with pytest.raises(SourceRefused) as refused:
        creatable_schema(replace(GOOD, name='yellow "book"', role="the operator", may_create=False))
    assert refused.value.message == (
        'it is not there, and role "the operator" may not create it: GRANT CREATE ON DATABASE "yellow ""book""" TO '
        '"the operator", or CREATE SCHEMA embedding_operator AUTHORIZATION "the operator"'
    )


def test_a_schema_that_another_role_has_created_is_enough_if_it_may_be_used() -> None:
    there = replace(GOOD, schema_exists=True, may_enter=True, may_create=False)
    assert creatable_schema(there) == "is there, and the role may create no table in it"
    with pytest.raises(SourceRefused, match=r"GRANT USAGE, CREATE ON SCHEMA embedding_operator TO \"operator\"$"):
        creatable_schema(replace(there, may_enter=False))
