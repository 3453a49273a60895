"""`make bench-plot`: which fills are measured, what each panel shows, and that the points are drawn again from their file."""

from dataclasses import replace
from pathlib import Path

import pytest

from hack.benchmarks.fills import SMALL, USUAL, Fill, Point, Sizes, default_window, fills
from hack.benchmarks.plot import PICTURE, Machine, caption, draw, panels, picture_of, read, written

SIZES = Sizes((25, 500), (100, 1_000), (1, 5), Fill(500, 1_000, 1))
MACHINE: Machine = {"cores": 2, "model": "Some CPU", "memory_gb": 8.0, "load_before": 0.5, "commit": "abc1234"}
POINTS = [Point(fill, 10.0 * number, 100.0 + number) for number, fill in enumerate(fills(SIZES), start=1)]


def test_one_value_varies_at_a_time_and_the_base_is_measured_once() -> None:
    assert fills(SIZES) == (Fill(25, 1_000, 1), Fill(500, 1_000, 1), Fill(500, 100, 1), Fill(500, 1_000, 5))


@pytest.mark.parametrize("sizes", [USUAL, SMALL])
def test_the_base_has_the_operators_own_window_and_is_in_every_panel(sizes: Sizes) -> None:
    assert sizes.base.window == default_window() == 500
    assert sizes.base.window in sizes.windows
    assert sizes.base.rows in sizes.rows
    assert sizes.base.sources in sizes.sources
    assert [fill for fill in fills(sizes) if fill.rows % fill.sources] == []


def test_each_panel_has_the_points_in_which_one_value_varies() -> None:
    shown = [(each.values, [point.jobs_per_s for point in each.points], each.others) for each in panels(SIZES, POINTS)]
    assert shown == [
        ([25, 500], [10, 20], "1,000 rows, 1 source"),
        ([100, 1_000], [30, 20], "window 500, 1 source"),
        ([1, 5], [20, 40], "window 500, 1,000 rows"),
    ]


def test_a_panel_without_one_of_its_points_is_not_drawn() -> None:
    with pytest.raises(KeyError):
        panels(SIZES, POINTS[1:])


def test_the_points_are_read_as_they_were_written() -> None:
    assert read(written(SIZES, POINTS, MACHINE)) == (SIZES, POINTS, MACHINE)


def test_small_fills_are_not_drawn_over_the_picture_of_the_page() -> None:
    assert picture_of(USUAL) == PICTURE
    assert picture_of(read(written(SMALL, [], MACHINE))[0]) == PICTURE.parents[1] / "build" / PICTURE.name


def test_the_picture_is_small_and_the_same_points_give_the_same_file(tmp_path: Path) -> None:
    first, again, other = (tmp_path / f"{name}.svg" for name in ("first", "again", "other"))
    for file, points in ((first, POINTS), (again, POINTS), (other, [replace(POINTS[0], rss_mb=90.0), *POINTS[1:]])):
        draw(panels(SIZES, points), file, caption=caption(MACHINE))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    assert len(first.read_bytes()) < 60_000
    assert {
        "jobs/s",
        "largest resident set, MB",
        "window (jobs open at once)",
        "2 cores of Some CPU, load 0.5 before; commit abc1234",
    } <= set(first.read_text().replace("<", ">").split(">"))
