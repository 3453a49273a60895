"""What is known of the sources that the API server shows."""

from typing import Any

from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.resources.embedding_source import EmbeddingSource, RetrySpec, parse_source
from tests.support.manifests import a_source


def source(name: str, *, created: str = "2026-03-01T12:00:00Z", **changes: Any) -> EmbeddingSource:
    body = a_source(name, **changes)
    body["metadata"]["creationTimestamp"] = created
    return parse_source(body)


def test_a_source_is_known_until_it_is_removed() -> None:
    catalog = SourceCatalog()
    catalog.put(source("shops"))
    assert ("shops" in catalog, list(catalog), catalog.get("shops")) == (True, ["shops"], source("shops"))
    catalog.remove("shops")
    assert ("shops" in catalog, list(catalog), catalog.get("shops")) == (False, [], None)


def test_a_source_that_is_not_known_can_be_removed() -> None:
    catalog = SourceCatalog()
    catalog.remove("unknown")
    assert list(catalog) == []


def test_the_newest_version_of_a_source_is_the_one_that_is_known() -> None:
    catalog = SourceCatalog()
    catalog.put(source("shops", text="name"))
    catalog.put(source("shops", text="name || city"))
    known = catalog.get("shops")
    assert known is not None
    assert known.spec.text == "name || city"


def test_the_retry_policy_is_the_sources_own() -> None:
    catalog = SourceCatalog()
    catalog.put(source("shops", retry={"maxAttempts": 2, "maxSeconds": 3600}))
    assert catalog.retry_policy("shops") == RetrySpec(max_attempts=2, max_seconds=3600)


def test_the_retry_policy_of_an_unknown_source_is_the_default() -> None:
    assert SourceCatalog().retry_policy("unknown") == RetrySpec()


def test_an_older_source_of_the_same_column_is_found() -> None:
    catalog = SourceCatalog()
    catalog.put(source("older", created="2026-03-01T11:00:00Z"))
    newer = source("newer", created="2026-03-01T12:00:00Z")
    catalog.put(newer)
    assert catalog.older_on_the_same_column(newer) == "older"


def test_of_two_sources_of_the_same_age_the_first_name_counts_as_older() -> None:
    catalog = SourceCatalog()
    one, two = source("a"), source("b")
    catalog.put(one)
    catalog.put(two)
    assert (catalog.older_on_the_same_column(one), catalog.older_on_the_same_column(two)) == (None, "a")


def test_a_source_of_another_column_or_table_is_in_no_ones_way() -> None:
    catalog = SourceCatalog()
    catalog.put(source("a-column", embeddingColumn="other"))
    catalog.put(source("a-table", table="public.others"))
    assert catalog.older_on_the_same_column(source("b")) is None
