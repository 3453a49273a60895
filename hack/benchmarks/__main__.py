"""`make bench`: all figures in one run on this machine. Prints a table in Markdown, and writes build/bench.json.

An aim that is missed is shown, and is no error: the figures depend on the machine, and on what else it does.
"""

import json
import logging
import os
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
    leadership,
    lifecycle,
    local_model,
    pgboss_worker,
    quota,
    raw_write,
    vector_costs,
    workers,
)
from hack.benchmarks.errors import Skipped
from hack.benchmarks.figures import FIGURES, Found, needed_for, table
from hack.benchmarks.loop_lag import measure as measure_loop_lag
from hack.benchmarks.setting import Setting
from hack.repository import ROOT

RESULT = ROOT / "build" / "bench.json"
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
            "lifecycle_cpu_vs_raw",
            "raw_lives_per_s",
            "jobs_per_s",
            "lifecycle_vs_raw",
            "operator_cpu_ms_per_job",
            "api_requests_per_job",
            "rss_growth_100k",
        ),
    ),
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


def found_by(measurements: tuple[Measurement, ...], setting: Setting) -> Found:
    """Have all of them made. One that fails does not prevent the others."""
    values: dict[str, float] = {}
    missing: dict[str, str] = {}
    for measurement in measurements:
        try:
            values |= measurement.measure(setting)
        except Skipped as exc:
            missing |= dict.fromkeys(measurement.figures, str(exc))
        except Exception as exc:
            setting.say(f"{measurement.figures[0]}: {type(exc).__name__}: {exc}")
            missing |= dict.fromkeys(measurement.figures, f"failed: {type(exc).__name__}")
    return Found(values, missing).with_ratios()


def chosen(only: str) -> tuple[Measurement, ...]:
    """Those that are needed for this figure; all where it is empty. Raises typer.BadParameter."""
    try:
        needed = needed_for(only) if only else {figure.name for figure in FIGURES}
    except KeyError:
        raise typer.BadParameter(f"ONLY is {only!r}: one of {', '.join(f.name for f in FIGURES)}") from None
    return tuple(measurement for measurement in MEASUREMENTS if needed.intersection(measurement.figures))


@app.command()
def main(
    only: Annotated[str, typer.Option(help="Only this figure.")] = "",
    rows: Annotated[int, typer.Option(help="Rows of the table.")] = 200_000,
) -> None:
    """Measure how fast the operator is, beside what limits it and what it is compared with."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    measurements = chosen(only)
    typer.echo(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {rows:,} rows")
    with tempfile.TemporaryDirectory(prefix="eo-bench-") as folder, ExitStack() as stack:
        found = found_by(measurements, Setting(rows, Path(folder), stack, typer.echo))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(dict(found.values), indent=2) + "\n")
    typer.echo(f"\n{table(found)}\n\nwritten to {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    app()
