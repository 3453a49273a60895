"""`make bench-plot`: jobs a second and memory over the window, the rows and the sources, as a picture for docs/benchmarks.md.

It measures the fills of fills.py, writes the points to build/bench-plot.json, and draws docs/benchmarks.svg from that file.
With --draw it only draws. Points of few small fills are drawn to build/benchmarks.svg.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import structlog
import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hack.benchmarks.fills import SMALL, USUAL, Fill, Point, Sizes, fills, measured
from hack.benchmarks.machine import machine
from hack.benchmarks.setting import Setting
from hack.repository import ROOT

RESULT = ROOT / "build" / "bench-plot.json"
PICTURE = ROOT / "docs" / "benchmarks.svg"
TRIAL = ROOT / "build" / "benchmarks.svg"
"""Points of the small fills are not drawn over the picture of the page."""
INCHES = (11, 3.6)
JOBS, MEMORY, GRID, PAGE = "#1f6feb", "#c2410c", "#d8dee4", "#ffffff"

Machine = Mapping[str, str | int | float]
"""As machine.py describes it."""


@dataclass(frozen=True)
class Series:
    """The points in which one value varies."""

    what: str
    values: list[int]
    points: list[Point]
    others: str


def panels(sizes: Sizes, points: Sequence[Point]) -> list[Series]:
    """One for each value that varies, in the order of its values. Raises KeyError if a fill has no point."""
    by_fill, base = {point.fill: point for point in points}, sizes.base
    of_window = [by_fill[Fill(value, base.rows, base.sources)] for value in sizes.windows]
    of_rows = [by_fill[Fill(base.window, value, base.sources)] for value in sizes.rows]
    of_sources = [by_fill[Fill(base.window, base.rows, value)] for value in sizes.sources]
    window, rows = f"window {base.window}", f"{base.rows:,} rows"
    sources = "1 source" if base.sources == 1 else f"{base.sources} sources"
    return [
        Series("window (jobs open at once)", list(sizes.windows), of_window, f"{rows}, {sources}"),
        Series("rows", list(sizes.rows), of_rows, f"{window}, {sources}"),
        Series("sources, which share the rows", list(sizes.sources), of_sources, f"{window}, {rows}"),
    ]


def draw(series: Sequence[Series], file: Path, *, caption: str) -> None:
    """Write an SVG with a panel for each. All of them have the same two scales, which begin at 0.

    Texts stay texts, which makes a small file, and the same points always give the same file.
    """
    points = [point for each in series for point in each.points]
    most_jobs = 1.15 * max(point.jobs_per_s for point in points)
    most_mb = 1.3 * max(point.rss_mb for point in points)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9, "axes.titlesize": 9}):
        figure = Figure(figsize=INCHES, facecolor=PAGE, layout="constrained")
        FigureCanvasSVG(figure)
        for each in series:
            left = figure.add_subplot(1, len(series), series.index(each) + 1)
            right = left.twinx()
            _curve(left, each, [point.jobs_per_s for point in each.points], most_jobs, JOBS, "o-")
            _curve(right, each, [point.rss_mb for point in each.points], most_mb, MEMORY, "s--")
            left.set(xlabel=each.what, title=each.others)
            left.grid(axis="y", color=GRID, linewidth=0.6)
            _name_scale(left, "jobs/s", JOBS, shown=each is series[0])
            _name_scale(right, "largest resident set, MB", MEMORY, shown=each is series[-1])
        figure.supxlabel(caption, fontsize=8)
        figure.savefig(file, format="svg", facecolor=PAGE, metadata={"Date": None})


def _curve(axes: Axes, series: Series, values: list[float], most: float, color: str, style: str) -> None:
    axes.plot(series.values, values, style, color=color, linewidth=1.4, markersize=4)
    axes.set_xscale("log")
    axes.set_xticks(series.values, [f"{value:,}" for value in series.values])
    axes.minorticks_off()
    axes.set_ylim(0, most)


def _name_scale(axes: Axes, name: str, color: str, *, shown: bool) -> None:
    """All panels have the same scale, so it is written beside one of them."""
    axes.tick_params(axis="y", colors=color)
    if shown:
        axes.set_ylabel(name, color=color)
    else:
        axes.set_yticklabels([])


def written(sizes: Sizes, points: Sequence[Point], on: Machine) -> str:
    """As the file of the points has it."""
    return json.dumps({"machine": on, "sizes": asdict(sizes), "points": list(map(asdict, points))}, indent=2)


def read(text: str) -> tuple[Sizes, list[Point], Machine]:
    """The opposite of `written`."""
    content = json.loads(text)
    given, base = content["sizes"], Fill(**content["sizes"]["base"])
    sizes = Sizes(tuple(given["windows"]), tuple(given["rows"]), tuple(given["sources"]), base)
    points = [Point(**{**point, "fill": Fill(**point["fill"])}) for point in content["points"]]
    return sizes, points, content["machine"]


def picture_of(sizes: Sizes) -> Path:
    """Where points of these sizes are drawn."""
    return TRIAL if sizes == SMALL else PICTURE


def caption(on: Machine) -> str:
    return f"{on['cores']} cores of {on['model']}, load {on['load_before']} before; commit {on['commit']}"


def _measure(sizes: Sizes) -> None:
    here = machine()
    typer.echo(caption(here))
    with tempfile.TemporaryDirectory(prefix="eo-bench-") as folder, ExitStack() as stack:
        points = list(measured(Setting(sizes.base.rows, Path(folder), stack, typer.echo), fills(sizes)))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(written(sizes, points, here) + "\n")


def main(
    small: Annotated[bool, typer.Option(help="Few small fills, to try it.")] = False,
    draw_only: Annotated[bool, typer.Option("--draw", help="Draw the points of the last run again.")] = False,
) -> None:
    """Measure jobs a second and memory over the window, the rows and the sources, and draw them."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if not draw_only:
        _measure(SMALL if small else USUAL)
    elif not RESULT.exists():
        raise typer.BadParameter(f"{RESULT.relative_to(ROOT)} is missing: measure first, without DRAW=1")
    sizes, points, on = read(RESULT.read_text())
    picture = picture_of(sizes)
    draw(panels(sizes, points), picture, caption=caption(on))
    typer.echo(f"drawn: {picture.relative_to(ROOT)}; points: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    typer.run(main)
