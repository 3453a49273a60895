"""First fills in which each row gets an EmbeddingJob, with several windows, numbers of rows and numbers of sources.

Each has a database, a namespace and an operator of its own, as a process, and is measured for a minute at most.
Called by plot.py.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from embedding_operator.settings import Settings
from hack.benchmarks.memory import memory_mb
from hack.benchmarks.operator_system import OperatorSystem, operator_system
from hack.benchmarks.setting import Setting
from hack.benchmarks.waiting import wait_until

AT_MOST_S = 60.0
"""A longer fill is not waited for: it says no more about jobs a second."""
LOOK_EVERY_S = 0.5
STATES = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'embedding_operator'::regnamespace AND relkind = 'r' AND relname LIKE '%\\_state'"""
"""The tables with what is known of each row, one for each source."""
WRITTEN = "SELECT embedded_at FROM {state} WHERE vector_hash IS NOT NULL"
RATE = """
WITH written AS ({written})
SELECT count(*) FILTER (WHERE embedded_at > first) / greatest(extract(epoch FROM max(embedded_at) - min(first)), 0.001)
FROM written, (SELECT min(embedded_at) AS first FROM written) AS of_all"""
"""The vectors after the first ones, over the time from the first ones to the last."""


@dataclass(frozen=True)
class Fill:
    window: int
    """EMBEDDING_MAX_OPEN_JOBS."""
    rows: int
    """Of all sources together."""
    sources: int


@dataclass(frozen=True)
class Point:
    """What was measured in one fill."""

    fill: Fill
    jobs_per_s: float
    rss_mb: float
    """The largest resident set of the operator's process, from its start on."""


@dataclass(frozen=True)
class Sizes:
    """The values of each panel. Where one of them varies, the others are at their base."""

    windows: tuple[int, ...]
    rows: tuple[int, ...]
    sources: tuple[int, ...]
    base: Fill


def default_window() -> int:
    return int(Settings.model_fields["max_open_jobs"].default)


USUAL = Sizes((25, 50, 100, 200, 500), (1_000, 5_000, 20_000), (1, 5, 20), Fill(default_window(), 5_000, 1))
SMALL = Sizes((25, 100, 500), (500, 1_000), (1, 5), Fill(default_window(), 1_000, 1))
"""For a quick try: these fills are over before the window has grown."""


def fills(sizes: Sizes) -> tuple[Fill, ...]:
    """Each one once, although the base belongs to all panels."""
    base = sizes.base
    return tuple(
        dict.fromkeys(
            [
                *(replace(base, window=window) for window in sizes.windows),
                *(replace(base, rows=rows) for rows in sizes.rows),
                *(replace(base, sources=sources) for sources in sizes.sources),
            ]
        )
    )


def measured(setting: Setting, wanted: tuple[Fill, ...]) -> Iterator[Point]:
    for fill in wanted:
        point = _measure(setting, fill)
        setting.say(
            f"window {fill.window}, rows {fill.rows:,}, sources {fill.sources}: "
            f"{point.jobs_per_s:.0f} jobs/s, {point.rss_mb:.0f} MB"
        )
        yield point


def _measure(setting: Setting, fill: Fill) -> Point:
    """The sources are there before the operator starts. It is stopped before the vectors are counted."""
    rows_of_each = fill.rows // fill.sources
    with operator_system(setting, rows_of_each) as system:
        names = [f"{system.listings.name}{number}" for number in range(2, fill.sources + 1)]
        sources = [system, *(system.with_table(name, rows_of_each) for name in names)]
        for each in sources:
            each.apply_source(backfill={"mode": "Jobs"})
        with ExitStack() as stack:
            operator = replace(system, stack=stack).start_operator(
                settings={"EMBEDDING_MAX_OPEN_JOBS": str(fill.window)}
            )
            _wait_until_filled(sources)
            rss_mb = memory_mb(Path(f"/proc/{operator.daemon.pid}/status").read_text(), "VmHWM")
        return Point(fill, _jobs_per_s(system), rss_mb)


def _wait_until_filled(sources: Sequence[OperatorSystem]) -> None:
    """Return when all rows have vectors, or after AT_MOST_S."""
    tables = [f"(SELECT count(*) FROM public.{each.listings.name} WHERE embedding IS NULL)" for each in sources]
    empty, until = f"SELECT {' + '.join(tables)}", time.monotonic() + AT_MOST_S
    wait_until(
        lambda: time.monotonic() > until or sources[0].listings.number(empty) == 0,
        within_s=2 * AT_MOST_S,
        because="a fill is over",
        every_s=LOOK_EVERY_S,
    )


def _jobs_per_s(system: OperatorSystem) -> float:
    """By PostgreSQL's clock, of all sources together."""
    states = [state for (state,) in system.listings.run(STATES)]
    written = " UNION ALL ".join(WRITTEN.format(state=state) for state in states)
    return system.listings.number(RATE.format(written=written))
