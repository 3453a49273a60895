"""What `embedding-operator plan` says of a source, from what is known of its rows, its provider and its table."""

from dataclasses import replace
from typing import Any

import pytest

from embedding_operator.cli.plan_lines import plan_table
from embedding_operator.cli.plan_provider import provider_facts
from embedding_operator.cli.plan_values import DueRows, PlanFacts, ProviderFacts, Rates
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.limits import Sent
from embedding_worker.providers.registry import Credentials
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model
from tests.support.manifests import a_source

MODEL = {"provider": "local", "name": "any", "dimensions": 8}
MILLIONS = DueRows(2_000_000, 2_000_000, 2_000_000, 360_000_000)
API = ProviderFacts(RateLimits(), 100, 6_000)


def said(rows: DueRows = MILLIONS, *, spec: dict[str, Any] | None = None, **facts: Any) -> dict[str, str]:
    """Each line of the table, by what it is about."""
    source = parse_source(a_source("businesses", **(spec or {})))
    _, *lines = plan_table(PlanFacts(source, rows, **({"provider": API} | facts))).splitlines()
    return {what.strip(): text.strip() for what, _, text in (line[2:].partition("  ") for line in lines)}


def test_a_plan_is_a_table_with_the_source_as_its_heading() -> None:
    table = plan_table(PlanFacts(parse_source(a_source("businesses")), MILLIONS, provider=API))
    assert table.splitlines()[:3] == [
        "source businesses: public.businesses, column embedding, model any@8",
        "  rows                     2000000",
        "  due                      2000000, of which no edit made 2000000 due",
    ]


def test_the_first_fill_of_a_large_table_has_its_rows_its_times_and_its_limit() -> None:
    assert said() == {
        "rows": "2000000",
        "due": "2000000, of which no edit made 2000000 due",
        "to be sent": "2000000 texts, about 120000000 tokens",
        "spec.backfill.mode": "Jobs: each due row gets an EmbeddingJob",
        "with mode Jobs": "about 5 hours, at 120 rows a second (--rows-per-second)",
        "with mode Auto": "about 20 minutes, at 2000 rows a second (--backfill-rows-per-second)",
        "cost": "not known: set spec.model.pricePerMillionTokens, or EMBEDDING_PRICE_PER_MILLION_TOKENS",
        "spec.limits.textsPerDay": "1000000: the last texts are sent 1 day later (UTC), unless you raise it",
        "vector column": "about 80 MB, as vector of 8 dimensions",
        "HNSW index": "about 683 MB, if one is built: after the fill, because writes beside it are about ten times slower",
    }


def test_a_table_without_a_due_row_has_nothing_more_to_say() -> None:
    assert said(DueRows(500, 0, 0, 0)) == {"rows": "500", "due": "0: all rows are fresh"}


def test_rows_that_are_not_sent_are_named_with_the_reason() -> None:
    found = said(DueRows(30_000, 20, 15, 300, blank=3, failing=2, edited=8, estimated=True))
    assert found["rows"] == "about 30000"
    assert found["due"] == "20, of which no edit made 12 due"
    assert found["without text"] == "3: their vectors become null, without a call"
    assert found["failing text"] == "2: spec.text fails for these rows"
    assert found["to be sent"] == "15 texts, about 100 tokens"


@pytest.mark.parametrize(
    ("backfill", "edited", "expected"),
    [
        ({"mode": "Jobs"}, 0, "Jobs: each due row gets an EmbeddingJob"),
        (
            {"mode": "Auto"},
            0,
            "Auto: rows that no edit made due are embedded page by page, in the operator's process; each other one gets a job",
        ),
        (
            {"mode": "Auto", "workers": 3},
            0,
            "Auto: rows that no edit made due are embedded page by page, by 3 workers; each other one gets a job",
        ),
        (
            {"mode": "Auto"},
            1_990_000,
            "Auto: each due row gets an EmbeddingJob, because not more than 10000 are due that no edit made due",
        ),
        (
            {"mode": "Auto", "threshold": 9_999},
            1_990_000,
            "Auto: rows that no edit made due are embedded page by page, in the operator's process; each other one gets a job",
        ),
    ],
)
def test_the_mode_says_how_the_rows_would_be_embedded(backfill: dict[str, Any], edited: int, expected: str) -> None:
    rows = DueRows(2_000_000, 2_000_000, 2_000_000, 1, edited=edited)
    assert said(rows, spec={"backfill": backfill})["spec.backfill.mode"] == expected


@pytest.mark.parametrize(
    ("backfill", "provider", "rows_per_s"),
    [
        ({}, API, 2_000),
        ({"concurrency": 1}, API, 500),
        ({}, ProviderFacts(), 1_280),
        ({"workers": 2}, API, 4_000),
        ({"workers": 100, "concurrency": 64}, API, 5_000),
    ],
    ids=["default", "one call", "smaller calls", "two workers", "more than a database writes"],
)
def test_the_rate_with_mode_auto_is_that_of_the_calls_in_flight(
    backfill: dict[str, Any], provider: ProviderFacts, rows_per_s: int
) -> None:
    found = said(spec={"backfill": backfill}, provider=provider)["with mode Auto"]
    assert f"at {rows_per_s} rows a second" in found


OWN_CPU = provider_facts(Model("local", "universal-sentence-encoder-multilingual-3", 512), Credentials())
OWN_SERVER = provider_facts(Model("openai", "e5", 8, endpoint="http://e5.invalid/v1"), Credentials())


def test_a_model_that_calls_no_server_has_no_time_that_nobody_has_measured() -> None:
    found = said(provider=OWN_CPU)
    assert found["with mode Jobs"].startswith("not known: the model runs on the CPU of the process that embeds")
    assert found["with mode Jobs"].endswith("--rows-per-second")
    assert found["with mode Auto"].endswith("--backfill-rows-per-second")


def test_a_server_that_the_source_names_has_no_time_that_nobody_has_measured() -> None:
    found = said(provider=OWN_SERVER)
    assert found["with mode Jobs"] == (
        "not known: the server that spec.model.endpoint names decides; measure the rate, and give --rows-per-second"
    )
    assert found["with mode Auto"].startswith("not known: the server that spec.model.endpoint names decides")


@pytest.mark.parametrize("provider", [OWN_CPU, OWN_SERVER], ids=["own process", "own server"])
def test_a_rate_that_was_measured_gives_the_time(provider: ProviderFacts) -> None:
    found = said(provider=provider, rates=Rates(backfill=500))
    assert found["with mode Jobs"].startswith("not known")
    assert found["with mode Auto"] == "about 1 hour, at 500 rows a second (--backfill-rows-per-second)"


def test_rates_that_were_given_are_used() -> None:
    found = said(rates=Rates(jobs=45.5, backfill=10_000))
    assert found["with mode Jobs"] == "about 12 hours, at 45.5 rows a second (--rows-per-second)"
    assert found["with mode Auto"] == "about 3 minutes, at 10000 rows a second (--backfill-rows-per-second)"


def test_the_limits_of_the_provider_say_how_long_they_make_it() -> None:
    found = said(provider=ProviderFacts(RateLimits(requests=100, texts=3_000, tokens=1_000_000), 100, 6_000))
    assert found["requests a minute"] == "100: at least about 3 hours for 20000 requests"
    assert found["texts a minute"] == "3000: at least about 11 hours for 2000000 texts"
    assert found["tokens a minute"] == "1000000: at least about 2 hours for 120000000 tokens"


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        (2_000_000, 0, "2000000: enough for today (UTC)"),
        (2_000_000, 1, "2000000: the last texts are sent 1 day later (UTC), unless you raise it"),
        (1_000_000, 0, "1000000: the last texts are sent 1 day later (UTC), unless you raise it"),
        (1_000_000, 1, "1000000: the last texts are sent 2 days later (UTC), unless you raise it"),
        (1_000_000, 3_000_000, "1000000: the last texts are sent 2 days later (UTC), unless you raise it"),
    ],
)
def test_the_limit_of_the_day_says_on_which_day_the_last_text_is_sent(limit: int, used: int, expected: str) -> None:
    sent = Sent(used, 0, 0)
    assert said(spec={"limits": {"textsPerDay": limit}}, sent=sent)["spec.limits.textsPerDay"] == expected
    assert said(spec={"maxTextsPerDay": limit}, sent=sent)["spec.limits.textsPerDay"] == expected


def test_limits_of_tokens_and_cost_say_when_the_last_text_is_sent() -> None:
    spec = {"limits": {"tokensPerDay": 50_000_000, "estimatedCostPerMonth": 7.5}}
    found = said(spec=spec, sent=Sent(0, 10_000_000, 25_000_000), price_per_million_tokens=0.15)
    assert found["cost"] == "about 18.00, at 0.15 for a million tokens; the provider bills its own count"
    later = "the last texts are sent {} later (UTC), unless you raise it"
    assert found["spec.limits.tokensPerDay"] == f"50000000: {later.format('2 days')}"
    assert found["spec.limits.estimatedCostPerMonth"] == f"7.5, of which 3.75 is used: {later.format('2 months')}"
    dear = said(spec={"limits": {"estimatedCostPerMonth": 18.0}}, price_per_million_tokens=0.15)
    assert dear["spec.limits.estimatedCostPerMonth"] == "18, of which 0.00 is used: enough for this month (UTC)"


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        (None, "20: no price is known, so the source would be refused; see the line cost"),
        (0.0, "20: enough, because the price is 0"),
    ],
)
def test_a_limit_of_the_cost_without_a_price_says_so(price: float | None, expected: str) -> None:
    found = said(spec={"limits": {"estimatedCostPerMonth": 20}}, price_per_million_tokens=price)
    assert found["spec.limits.estimatedCostPerMonth"] == expected


@pytest.mark.parametrize(
    ("price", "expected"),
    [(0.15, "18.00"), (0.001, "0.12"), (0.00008, "0.0096"), (0.0000001, "0.000012"), (0.0, "0.00")],
)
def test_a_small_cost_has_its_first_two_digits(price: float, expected: str) -> None:
    assert said(price_per_million_tokens=price)["cost"].startswith(f"about {expected}, at ")


def test_equal_texts_and_those_that_are_too_long_are_counted() -> None:
    rows = replace(MILLIONS, distinct=1_500_000, distinct_estimated=True, too_long=70)
    found = said(rows)
    assert found["distinct texts"] == "about 1500000: equal texts of one call are sent once, which saves at most 500000"
    assert found["too long"] == (
        "70: longer than the 6000 bytes that the model accepts, so only their beginning is embedded"
    )
    refused = said(rows, spec={"model": MODEL | {"tooLong": "Refuse"}})["too long"]
    assert "so their jobs become dead letters" in refused
    assert "distinct texts" not in said(replace(MILLIONS, distinct=2_000_000))


@pytest.mark.parametrize(
    ("dimensions", "kind", "column", "index"),
    [
        (768, "vector", "about 8.3 GB, as vector of 768 dimensions", "about 8.2 GB, if one is built: after the fill"),
        (3_072, "halfvec", "about 17 GB, as halfvec of 3072 dimensions", "about 16 GB, if one is built"),
        (3_072, "vector", "about 28 GB", "none on vector beyond 2000 dimensions: declare the column as halfvec"),
        (4_096, "vector", "about 34 GB", "none: pgvector builds none beyond 4000 dimensions"),
        (384, "real[]", "about 3.1 GB", "none on real[]: declare the column as vector or halfvec of pgvector"),
    ],
)
def test_the_sizes_of_column_and_index_are_told(dimensions: int, kind: str, column: str, index: str) -> None:
    found = said(spec={"model": MODEL | {"dimensions": dimensions}}, vector_type=kind)
    assert found["vector column"].startswith(column)
    assert found["HNSW index"].startswith(index)


def test_what_prevents_all_calls_is_said() -> None:
    found = said(
        spec={"suspend": True}, waiting="other@8#0123abcd", provider=ProviderFacts(problem="GEMINI_API_KEY is not set")
    )
    assert found["approval"].endswith("nothing is sent until spec.approvedFingerprint is other@8#0123abcd")
    assert found["suspended"] == "nothing is sent while spec.suspend is true"
    assert found["provider"] == "GEMINI_API_KEY is not set"


def test_advice_about_indexes_is_the_last_line() -> None:
    assert list(said(index_advice="build one"))[-1] == "index"
