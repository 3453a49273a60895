"""The picture of the dashboard: how values are written, and that every kind of panel is drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from hack.dashboard.grafana import FILE
from hack.dashboard.picture import Line, answers, color_of, draw, spans
from hack.dashboard.units import written

SINCE, UNTIL = 1_772_366_400.0, 1_772_366_700.0
LABELS = {"source": "businesses", "circuit": "gemini", "pod": "first", "phase": "Succeeded", "reason": "Embedded"}


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, "short", "0"),
        (1234, "short", "1.23K"),
        (2_500_000, "short", "2.5M"),
        (0.985, "percentunit", "98.5%"),
        (0.0042, "s", "4.2 ms"),
        (0, "s", "0 s"),
        (90, "s", "1.5 min"),
        (7_200, "s", "2 h"),
        (141_000_000, "bytes", "134 MiB"),
        (2.5, "reqps", "2.5 req/s"),
        (float("nan"), "s", "-"),
    ],
)
def test_a_value_is_written_in_its_unit(value: float, unit: str, expected: str) -> None:
    assert written(value, unit) == expected


def test_a_state_that_does_not_change_is_one_span() -> None:
    line = Line("", {}, [0, 10, 20, 30], [1, 1, 0, 0])
    assert spans(line) == [(0, 20, 1), (20, 30, 0)]


@pytest.mark.parametrize(("value", "color"), [(0, "#73bf69"), (1, "#f2cc0c"), (99, "#f2cc0c"), (100, "#f2495c")])
def test_a_color_is_that_of_the_last_step_that_is_reached(value: float, color: str) -> None:
    panel = next(it for it in json.loads(FILE.read_text())["panels"] if it["title"] == "Dead letters")
    assert color_of(panel, value) == color


def test_a_legend_has_the_labels_of_its_answer() -> None:
    panel = next(it for it in json.loads(FILE.read_text())["panels"] if it["title"] == "Oldest due row by source")
    found = answers(panel, lambda expr: [series()])
    assert [(line.legend, line.dashed) for line in found] == [("businesses", False), ("target of businesses", True)]


def series() -> Any:
    moments = [SINCE, (SINCE + UNTIL) / 2, UNTIL]
    return {"metric": LABELS, "values": [[moment, value] for moment, value in zip(moments, "011", strict=True)]}


def test_all_panels_are_drawn_into_a_small_file(tmp_path: Path) -> None:
    file = tmp_path / "dashboard.png"
    draw(json.loads(FILE.read_text()), lambda expr: [series()], file, since=SINCE, until=UNTIL)
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1_000
        assert picture.height > picture.width
    assert file.stat().st_size < 250_000
