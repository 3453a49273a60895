"""The dashboard in the chart is what its code says, and its queries name metrics that exist."""

import json
import re
from typing import Any

import pytest

from embedding_operator.metrics import Metrics
from hack.dashboard.grafana import FILE, dashboard_json
from hack.dashboard.rows import ROWS
from hack.dashboard.rows.overview import WHEN_FALSE, WHEN_TRUE
from tests.support.fake_clock import FakeClock

DESCRIBED = {metric.name: set(metric.labels) for metric in Metrics(clock=FakeClock()).described}
OF_PROMETHEUS = ("process_", "ALERTS")
"""Names of metrics that are not ours."""
OF_TARGETS = {"namespace", "pod", "instance"}
"""Labels that a target has in Kubernetes."""
PANELS = [panel for row in ROWS for panel in row.panels]
each_panel = pytest.mark.parametrize("panel", PANELS, ids=[panel.title for panel in PANELS])


def written() -> Any:
    return json.loads(FILE.read_text())


def test_the_charts_file_is_up_to_date_with_the_code() -> None:
    assert FILE.read_text() == dashboard_json(), "run `make format`"


def test_panels_have_different_titles_and_numbers_and_fill_the_width() -> None:
    panels = written()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    for height in {panel["gridPos"]["y"] for panel in panels}:
        assert sum(panel["gridPos"]["w"] for panel in panels if panel["gridPos"]["y"] == height) == 24


def test_it_asks_for_a_prometheus_a_namespace_and_sources() -> None:
    variables = written()["templating"]["list"]
    assert [variable["name"] for variable in variables] == ["datasource", "namespace", "source"]
    assert variables[2]["current"]["value"] == ["$__all"]


def selected(query: str) -> list[tuple[str, str]]:
    """Each metric of the query, and what is between its braces; empty where it has none."""
    return re.findall(r"\b((?:embedding_operator|process)_\w+|ALERTS)\b(?:\{([^}]*)\})?", query)


@each_panel
def test_a_query_names_metrics_and_labels_that_exist(panel: Any) -> None:
    for query in panel.queries:
        for name, matchers in selected(query.expr):
            if name.startswith(OF_PROMETHEUS):
                continue
            labels = DESCRIBED[name] if name in DESCRIBED else DESCRIBED[re.sub("_(bucket|sum|count)$", "", name)]
            assert set(re.findall(r"(\w+)=", matchers)) <= labels | OF_TARGETS, name


@each_panel
def test_a_query_reads_the_chosen_namespace_only(panel: Any) -> None:
    for query in panel.queries:
        found = selected(query.expr)
        assert found, query.expr
        assert all('namespace="$namespace"' in matchers for _, matchers in found), query.expr


def test_a_condition_of_each_kind_that_is_counted_has_a_word_for_all_at_once() -> None:
    (panel,) = [panel for panel in PANELS if panel.title == "Problems of each source"]
    kinds = f"{WHEN_TRUE}|{WHEN_FALSE}".split("|")
    assert list(panel.words) == [str(number) for number in range(len(kinds) + 1)]


@each_panel
def test_a_panel_says_in_a_sentence_what_it_shows(panel: Any) -> None:
    assert panel.description.endswith(".")
