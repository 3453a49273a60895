"""docs/runbook.md has a section for each alert of the chart, in the order of its file, and each leads to its section."""

import re

import pytest
import yaml

from hack.release.chart_readme import VALUES
from hack.repository import CHART, ROOT

PAGE = (ROOT / "docs" / "runbook.md").read_text()
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
SECTIONS = re.findall(r"^## (EmbeddingOperator\w+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
BASE = yaml.safe_load(VALUES.read_text())["prometheusRule"]["runbookUrlBase"]


def test_each_alert_has_a_section_and_a_line_in_the_table() -> None:
    assert [alert for alert, _ in SECTIONS] == list(ALERTS)
    lines = re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", PAGE, re.MULTILINE)
    assert lines == [(alert, rule["labels"]["severity"]) for alert, rule in ALERTS.items()]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_leads_to_its_section(alert: str) -> None:
    """GitHub forms the anchor of a heading of letters by writing it in lower case."""
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"{BASE}#{alert.lower()}"
    assert BASE.endswith("/docs/runbook.md")


@pytest.mark.parametrize(("alert", "text"), SECTIONS, ids=dict(SECTIONS))
def test_a_section_says_what_it_means_where_to_look_what_to_do_and_how_to_verify_it(alert: str, text: str) -> None:
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Meaning", "Look", "Do", "Verify"], alert


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_severe_it_is_and_what_it_means(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    assert not rule["annotations"]["summary"].endswith(".")
