"""docs/benchmarks.md says how each figure of `make bench` is measured, and names the parts that `make bench-profile` shows."""

import re

from hack.benchmarks.figures import FIGURES
from hack.benchmarks.stacks import EVENT_LOOP, OTHER, PARTS
from hack.repository import ROOT

PAGE = (ROOT / "docs" / "benchmarks.md").read_text()


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_the_page_says_how_each_figure_is_measured() -> None:
    described = {
        name
        for line in section("What is measured").splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert [figure.name for figure in FIGURES if figure.name not in described] == []


def test_the_parts_of_the_time_of_a_job_are_those_of_the_command() -> None:
    shown = set(re.findall(r"^\| ([^|]+?) \| [\d.]+ \|", section("Where the time goes"), re.MULTILINE))
    assert shown - {"all"} <= {*PARTS, EVENT_LOOP, OTHER}
    assert shown & set(PARTS)
