"""docs/metrics.md has every metric of the code, and its queries name no other."""

import re

from embedding_operator.metrics import Metrics
from hack.release.metrics_page import PAGE, up_to_date_page
from tests.support.fake_clock import FakeClock

SUFFIXES = r"(?:_bucket|_sum|_count)?"


def test_the_page_is_up_to_date_with_the_code() -> None:
    assert PAGE.read_text() == up_to_date_page(), "run `make format`"


def test_the_queries_name_metrics_and_labels_that_exist() -> None:
    described = {metric.name: metric for metric in Metrics(clock=FakeClock()).described}
    queries = PAGE.read_text().partition("## Questions and their queries")[2]
    named = re.findall(r"(embedding_operator_[a-z_]+?)" + SUFFIXES + r"(?:\{([^}]*)\})?(?=[\[\s`)])", queries)
    assert len(named) >= 10
    for name, selector in named:
        labels = set(re.findall(r"([a-z]+)=", selector))
        assert labels <= set(described[name].labels), (name, selector)
