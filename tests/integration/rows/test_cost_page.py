"""docs/cost.md: its SQL works as it is printed, and its example, its reasons and its metrics exist."""

import re

import pytest
import yaml

from embedding_operator.metrics import Metrics
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.limits import TEXTS_PER_DAY, Limits, Sent, reached
from embedding_worker.rows.vector_sizes import column_bytes, hnsw_bytes
from hack.repository import ROOT
from tests.integration.rows.conftest import Keep
from tests.support.documented_sql import sql_blocks
from tests.support.fake_clock import FakeClock
from tests.support.kept_rows import Application
from tests.support.manifests import a_source

PAGE = (ROOT / "docs" / "cost.md").read_text()


async def test_the_sql_gives_what_was_sent_in_a_month(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    await keeper.store.acquire_texts([1_000_000, 2_000_000], Limits())
    businesses.run("UPDATE embedding_operator.usage SET tokens_reported = 500000, texts_cut = 1")
    (block,) = sql_blocks(PAGE, "See it")
    ((table, _, *numbers),) = businesses.run(block)
    assert table == "public.businesses"
    assert [float(number) for number in numbers] == [2, 2_000_000, 25, 0.3, 1]


def test_the_example_has_the_limits_that_it_shows() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    source = parse_source(a_source("businesses", **yaml.safe_load(block)["spec"]))
    assert source.spec.limits_at(0.0) == Limits(200_000, 20_000_000, 20.0, 0.15)


def test_the_reasons_are_those_of_the_limits() -> None:
    limits = (Limits(1), Limits(9, tokens_per_day=1), Limits(9, cost_per_month=1.0, price_per_million_tokens=1e6))
    found = [reached(each, Sent(1, 1, 1), next_tokens=1) for each in limits]
    assert [each and each.reason for each in found] == ["DayLimitReached", "TokenLimitReached", "CostLimitReached"]
    assert all(each is not None and f"`{each.reason}`" in PAGE for each in found)
    assert f"{TEXTS_PER_DAY:,}" in PAGE


def test_the_metrics_exist() -> None:
    known = {metric.name for metric in Metrics(clock=FakeClock()).described}
    assert set(re.findall(r"`(embedding_operator_[a-z_]+)`", PAGE)) <= known


def test_the_sizes_are_within_a_tenth_of_what_plan_computes() -> None:
    rows = re.findall(r"^\| (vector|halfvec), ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for kind, *numbers in rows:
        dimensions, column, index = (int(number.replace(",", "")) for number in numbers)
        assert column == pytest.approx(column_bytes(kind, dimensions, 1), rel=0.1)
        assert index == pytest.approx(hnsw_bytes(kind, dimensions, 1), rel=0.1)
