"""`make bench`: all figures in one run on this machine. Prints a table in Markdown, and writes build/bench.json.

A run of only a part of it, or with another number of rows, writes build/bench-part.json.

An aim that is missed is shown, and is no error: the figures depend on the machine, and on what else it does. The short form
measures counts only, which do not, so there it is one.
"""

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import structlog
import typer

from hack.benchmarks import (
    backfill,
    batching,
    clearing,
    duplicates,
    edits,
    idle,
    inserts,
    leadership,
    lifecycle,
    local_model,
    pgboss_worker,
    quota,
    raw_write,
    seeding,
    single_edits,
    starting,
    trigger,
    vector_costs,
    workers,
)
from hack.benchmarks.errors import Skipped
from hack.benchmarks.figures import FAILED, FIGURES, Found, failed, missed, needed_for, table
from hack.benchmarks.loop_lag import measure as measure_loop_lag
from hack.benchmarks.machine import machine
from hack.benchmarks.setting import Setting
from hack.repository import ROOT

BUILD = ROOT / "build"
ROWS = 200_000
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Measurement:
    """What finds out one figure, or several at once."""

    measure: Callable[[Setting], Mapping[str, float]]
    figures: tuple[str, ...]


MEASUREMENTS = (
    Measurement(raw_write.measure, ("raw_write_rows_per_s", "raw_parallel_write_rows_per_s")),
    Measurement(
        lifecycle.measure,
        (
            "raw_life_cpu_ms",
            "job_cpu_ms",
            "raw_lives_per_s",
            "jobs_per_s",
            "operator_cpu_ms_per_job",
            "api_requests_per_job",
            "rss_growth_100k",
        ),
    ),
    Measurement(single_edits.measure, ("edit_to_fresh_p50_ms", "edit_to_fresh_p99_ms")),
    Measurement(edits.measure_behind_jobs, ("edit_behind_backfill_p99_s",)),
    Measurement(
        idle.measure,
        ("idle_statements_per_min", "idle_transactions_per_min", "idle_cpu_percent", "rss_mb_start"),
    ),
    Measurement(idle.measure_sources, ("sources_50_idle_cpu_ratio", "sources_50_idle_database_cpu_ratio")),
    Measurement(starting.measure, ("start_cpu_s",)),
    Measurement(starting.measure_restart, ("restart_s_500_open",)),
    Measurement(inserts.measure, ("insert_p99_ms_burners", "insert_p99_ms_busy")),
    Measurement(trigger.measure, ("trigger_ms",)),
    Measurement(seeding.measure, ("seed_rows_per_s",)),
    Measurement(pgboss_worker.measure_as_readme, ("pgboss_readme_seed_rows_per_s", "pgboss_readme_rows_per_s")),
    Measurement(backfill.measure, ("backfill_rows_per_s", "backfill_api_requests", "rss_mb_backfill")),
    Measurement(measure_loop_lag, ("provider_loop_lag_ms",)),
    Measurement(pgboss_worker.measure, ("pgboss_tuned_rows_per_s",)),
    Measurement(workers.measure, ("backfill_3_workers_speedup",)),
    Measurement(edits.measure, ("edit_during_backfill_p99_s",)),
    Measurement(clearing.measure, ("unchanged_marks_cleared_per_s",)),
    Measurement(batching.measure, ("batching_requests_2000",)),
    Measurement(quota.measure, ("quota_used_ratio", "quota_refusals")),
    Measurement(duplicates.measure, ("duplicate_texts_called_once",)),
    Measurement(local_model.measure, ("local_texts_per_s",)),
    Measurement(vector_costs.measure_reading, ("provider_parse_ms_per_vector",)),
    Measurement(vector_costs.measure_writing, ("vector_write_ms_per_vector",)),
    Measurement(leadership.measure, ("takeover_s", "handover_s")),
)

COUNTS = (
    Measurement(idle.measure_counts, ("idle_statements_per_min", "idle_transactions_per_min")),
    Measurement(batching.measure_counts, ("batching_requests_2000", "api_requests_per_job")),
    Measurement(quota.measure_refusals, ("quota_refusals",)),
    Measurement(duplicates.measure, ("duplicate_texts_called_once",)),
)
"""The short form: what does not depend on how fast the machine is, with few rows."""


def found_by(measurements: tuple[Measurement, ...], setting: Setting) -> Found:
    """Have all of them made. One that fails does not prevent the others."""
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for measurement in measurements:
        setting.say(f"measuring {', '.join(measurement.figures)}")
        try:
            values |= measurement.measure(setting)
        except Skipped as exc:
            values |= exc.found
            missing |= dict.fromkeys((name for name in measurement.figures if name not in exc.found), str(exc))
        except Exception as exc:
            setting.say(f"{measurement.figures[0]}: {type(exc).__name__}: {exc}")
            missing |= dict.fromkeys(measurement.figures, f"{FAILED}{type(exc).__name__}")
    return Found(values, missing).with_ratios()


def chosen(only: str) -> tuple[Measurement, ...]:
    """Those that are needed for this figure; all where it is empty. Raises typer.BadParameter."""
    try:
        needed = needed_for(only) if only else {figure.name for figure in FIGURES}
    except KeyError:
        raise typer.BadParameter(f"ONLY is {only!r}: one of {', '.join(f.name for f in FIGURES)}") from None
    return tuple(measurement for measurement in MEASUREMENTS if needed.intersection(measurement.figures))


def result(found: Found, here: Mapping[str, str | int | float]) -> str:
    """What is written: one object of numbers, and in it one object that describes the machine."""
    return json.dumps({**found.values, "machine": dict(here)}, indent=2) + "\n"


def file_name(*, only: str, rows: int, short: bool) -> str:
    """Where the figures of such a run are written: only a run of all of them replaces those of the last one."""
    return "bench-part.json" if only or short or rows != ROWS else "bench.json"


@app.command()
def main(
    only: Annotated[str, typer.Option(help="Only this figure.")] = "",
    rows: Annotated[int, typer.Option(help="Rows of the table.")] = ROWS,
    short: Annotated[bool, typer.Option(help="Only counts, with few rows; fails if one misses its aim.")] = False,
) -> None:
    """Measure how fast the operator is, beside what limits it and what it is compared with."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if short and only:
        raise typer.BadParameter(f"SHORT=1 measures all counts, and ONLY={only} one figure: give one of them")
    measurements = COUNTS if short else chosen(only)
    here = machine()
    typer.echo(f"{here['cores']} cores, load {here['load_before']}, {rows:,} rows")
    with tempfile.TemporaryDirectory(prefix="eo-bench-") as folder, ExitStack() as stack:
        found = found_by(measurements, Setting(rows, Path(folder), stack, typer.echo))
    file = BUILD / file_name(only=only, rows=rows, short=short)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(result(found, here))
    typer.echo(f"\n{table(found)}\n\nwritten to {file}")
    if short and (wrong := [*missed(found), *failed(found)]):
        typer.echo(f"missed, or failed: {', '.join(wrong)}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
