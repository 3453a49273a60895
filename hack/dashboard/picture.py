"""Draws the dashboard for the documents, from the chart's JSON and the answers of a Prometheus. Called by story.py.

It draws what Grafana would: the place, the title, the unit, the legends, the colors of thresholds and the words of values of each
panel. It is not Grafana, which no package registry has.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from hack.dashboard.units import written

Json = Any
COLUMNS = 24
INCHES_PER_COLUMN, INCHES_PER_LINE, DPI = 0.58, 0.27, 96
PAGE, CARD, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2a2d34", "#d8d9da", "#8e9097"
PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")
COLORS = {"green": "#73bf69", "yellow": "#f2cc0c", "red": "#f2495c", "blue": "#5794f2"}
COLORS_OF_THE_FILE = 256
TICKS = 4
STEPS = {False: [1, 2, 5, 10], True: [1, 3, 6, 10]}
"""The first digits of the ticks of an axis. Of durations, such that they are whole minutes and hours."""
LETTER = 0.0042
"""The width of a letter of a legend, as a part of the picture."""


@dataclass(frozen=True)
class Line:
    """One answer of a query: moments in Unix time, and their values."""

    legend: str
    labels: dict[str, str]
    times: list[float]
    values: list[float]
    dashed: bool = False


Ask = Callable[[str], Sequence[Json]]
"""The series that a query has in the range of the picture, as Prometheus gives them."""


def draw(dashboard: Json, ask: Ask, file: Path, *, since: float, until: float) -> None:
    """Write a PNG of all panels. `since` and `until` are the range of their time axes."""
    panels = dashboard["panels"]
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = COLUMNS * INCHES_PER_COLUMN, (lines + 2) * INCHES_PER_LINE
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor=PAGE)
    FigureCanvasAgg(figure)
    figure.text(0.008, 1 - 0.9 / (lines + 2), dashboard["title"], color=TEXT, fontsize=15, weight="bold", va="center")
    for panel in panels:
        _Placed(figure, panel, lines).draw(ask, since, until)
    write_small(figure, file)


def write_small(figure: Figure, file: Path) -> None:
    """With few colors, because a picture in a repository stays there."""
    whole = BytesIO()
    figure.savefig(whole, format="png", facecolor=PAGE)
    Image.open(whole).convert("RGB").quantize(COLORS_OF_THE_FILE).save(file, optimize=True)


class _Placed:
    """A panel with its place in the figure."""

    def __init__(self, figure: Figure, panel: Json, lines: int) -> None:
        place = panel["gridPos"]
        self._figure = figure
        self._panel = panel
        self._unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
        self._line = 1 / (lines + 2)
        self._left, self._width = place["x"] / COLUMNS, place["w"] / COLUMNS
        self._bottom = 1 - (place["y"] + place["h"] + 2) * self._line
        self._height = place["h"] * self._line

    def draw(self, ask: Ask, since: float, until: float) -> None:
        if self._panel["type"] == "row":
            self._say(0.008, 0.4, f"⌄ {self._panel['title']}", size=11, color=TEXT)
            return
        self._card()
        found = answers(self._panel, ask)
        {
            "stat": self._stat,
            "timeseries": self._lines,
            "state-timeline": self._states,
            "bargauge": self._bars,
            "table": self._table,
        }[self._panel["type"]](found, since, until)

    def _card(self) -> None:
        gap, low = 0.002, 0.12 * self._line
        corner, size = (self._left + gap, self._bottom + low), (self._width - 2 * gap, self._height - 2 * low)
        self._figure.add_artist(Rectangle(corner, *size, facecolor=CARD, edgecolor=EDGE, linewidth=0.8, zorder=-1))
        self._say(0.008, self._height / self._line - 0.75, self._panel["title"], size=9, color=TEXT)

    def _say(self, x: float, lines: float, text: str, *, size: float, color: str, align: str = "left") -> None:
        """At `x` from the panel's left edge, so many lines above its lower edge."""
        place = (self._left + x, self._bottom + lines * self._line)
        self._figure.text(*place, text, fontsize=size, color=color, ha=align, va="center")

    def _axes(self, *, left: float, below: float) -> Axes:
        """The place for a plot, below the title; `left` is a part of the width, `below` in lines."""
        bottom, height = self._bottom + below * self._line, self._height - (below + 1.5) * self._line
        place = (self._left + left * self._width, bottom, (0.97 - left) * self._width, height)
        axes = self._figure.add_axes(place, facecolor=CARD)
        axes.tick_params(colors=FAINT, labelsize=7, length=0)
        axes.spines[:].set_visible(False)
        return axes

    def _stat(self, found: list[Line], since: float, until: float) -> None:
        """A number, above a faint graph of its past."""
        value = last(found[0]) if found else float("nan")
        color = color_of(self._panel, value)
        for line in found:
            axes = self._axes(left=0.03, below=0.3)
            axes.fill_between(dates(line.times), line.values, color=color, alpha=0.12, linewidth=0)
            axes.set_axis_off()
            axes.set_xlim(*dates([since, until]))
            axes.set_ylim(bottom=0)
        self._say(self._width / 2, 1.6, written(value, self._unit), size=22, color=color, align="center")

    def _lines(self, found: list[Line], since: float, until: float) -> None:
        axes = self._axes(left=0.12, below=1.9)
        for number, line in enumerate(found):
            color, style = PALETTE[number % len(PALETTE)], "--" if line.dashed else "-"
            axes.plot(dates(line.times), line.values, style, color=color, linewidth=1.1)
            if not line.dashed:
                axes.fill_between(dates(line.times), line.values, color=color, alpha=0.08, linewidth=0)
        self._time_axis(axes, since, until)
        axes.set_ylim(bottom=0)
        axes.grid(color=EDGE, linewidth=0.6)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS[self._unit == "s"]))
        axes.yaxis.set_major_formatter(lambda value, _: written(value, self._unit))
        self._legend(found)

    def _legend(self, found: list[Line]) -> None:
        """As many as there is room for."""
        x = 0.008
        for number, line in enumerate(found):
            width = 0.018 + LETTER * len(line.legend)
            if x + width > self._width:
                break
            self._say(x, 0.65, "━", size=8, color=PALETTE[number % len(PALETTE)])
            self._say(x + 0.01, 0.65, line.legend, size=7, color=FAINT)
            x += width

    def _states(self, found: list[Line], since: float, until: float) -> None:
        axes = self._axes(left=beside_names(found), below=1.3)
        words = words_of(self._panel)
        for place, line in enumerate(found):
            for begin, end, value in spans(line):
                word, color = words.get(f"{value:g}", (f"{value:g}", FAINT))
                first, length = dates([begin])[0], dates([end])[0] - dates([begin])[0]
                axes.barh(place, length, left=first, height=0.6, color=color, alpha=0.85, edgecolor=CARD)
                if end - begin > (until - since) / 8:
                    axes.text(first + length / 2, place, word, fontsize=7, color=PAGE, ha="center", va="center")
        axes.set_yticks(range(len(found)), [line.legend for line in found])
        axes.set_ylim(max(len(found), 2) - 0.5, -0.5)
        self._time_axis(axes, since, until)

    def _time_axis(self, axes: Axes, since: float, until: float) -> None:
        axes.set_xlim(*dates([since, until]))
        moments = [since + (part + 0.5) * (until - since) / TICKS for part in range(TICKS)]
        axes.set_xticks(
            dates(moments), [datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S") for moment in moments]
        )

    def _bars(self, found: list[Line], since: float, until: float) -> None:
        axes = self._axes(left=beside_names(found), below=0.7)
        for place, line in enumerate(found):
            value = last(line)
            color = color_of(self._panel, value)
            axes.barh(place, 1, height=0.5, color=EDGE)
            axes.barh(place, min(value, 1), height=0.5, color=color)
            axes.text(1.03, place, written(value, self._unit), fontsize=10, color=color, va="center")
        axes.set_yticks(range(len(found)), [line.legend for line in found])
        axes.set_ylim(max(len(found), 2) - 0.5, -0.5)
        axes.set_xlim(0, 1.25)
        axes.set_xticks([])

    def _table(self, found: list[Line], since: float, until: float) -> None:
        names = sorted({name for line in found for name in line.labels}, reverse=True)
        rows = [[*names, "value"], *([*(line.labels[name] for name in names), f"{last(line):g}"] for line in found)]
        for number, cells in enumerate(rows):
            height = self._height / self._line - 2 - number
            for column, cell in enumerate(cells):
                x = 0.008 + column * (self._width - 0.02) / len(cells)
                self._say(x, height, cell, size=8, color=PALETTE[6] if number == 0 else TEXT)


def answers(panel: Json, ask: Ask) -> list[Line]:
    """The lines of all queries of a panel."""
    return [
        Line(
            legend(target["legendFormat"], series["metric"]),
            series["metric"],
            [float(moment) for moment, _ in series["values"]],
            [float(value) for _, value in series["values"]],
            is_dashed(panel, target["refId"]),
        )
        for target in panel["targets"]
        for series in ask(target["expr"])
    ]


def beside_names(lines: Sequence[Line]) -> float:
    """Where a plot begins that has these names at its left, as a part of the width of a panel."""
    return 0.04 + 0.0125 * max((len(line.legend) for line in lines), default=0)


def legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


def is_dashed(panel: Json, letter: str) -> bool:
    return any(override["matcher"]["options"] == letter for override in panel["fieldConfig"]["overrides"])


def words_of(panel: Json) -> dict[str, tuple[str, str]]:
    """A value → its word and its color."""
    return {
        value: (shown["text"], COLORS[shown["color"]])
        for mapping in panel["fieldConfig"]["defaults"].get("mappings", ())
        for value, shown in mapping["options"].items()
    }


def color_of(panel: Json, value: float) -> str:
    """That of the last step that the value has reached."""
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[reached[-1]]


def last(line: Line) -> float:
    """The last value that is a number."""
    return next((value for value in reversed(line.values) if value == value), float("nan"))


def spans(line: Line) -> list[tuple[float, float, float]]:
    """Begin, end and value of each time in which the value does not change."""
    found: list[tuple[float, float, float]] = []
    for moment, value in zip(line.times, line.values, strict=True):
        if found and found[-1][2] == value:
            found[-1] = (found[-1][0], moment, value)
        else:
            found = [*found[:-1], (found[-1][0], moment, found[-1][2])] if found else []
            found.append((moment, moment, value))
    return found


def dates(moments: Sequence[float]) -> list[float]:
    """As matplotlib counts them, in UTC."""
    return [moment / 86_400 for moment in moments]
