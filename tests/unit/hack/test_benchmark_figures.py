"""The table of `make bench`, its ratios, and what is measured for one figure."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from hack.benchmarks import __main__ as command
from hack.benchmarks.__main__ import COUNTS, MEASUREMENTS, ROWS, Measurement, chosen, file_name, found_by, result
from hack.benchmarks.errors import Skipped
from hack.benchmarks.figures import (
    FIGURES,
    Found,
    Verdict,
    at_least,
    at_most,
    failed,
    missed,
    needed_for,
    shown,
    table,
)
from hack.benchmarks.idle import Idle, with_statements
from hack.benchmarks.machine import machine
from hack.benchmarks.setting import Setting


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """The command sets up the log of its process, which here is the one of all tests."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def line_of(name: str, found: Found) -> list[str]:
    (line,) = [line for line in table(found).splitlines() if f"`{name}`" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (at_least(0.6), 0.6, Verdict.MET),
        (at_least(0.6), 0.59, Verdict.MISSED),
        (at_most(200), 200, Verdict.MET),
        (at_most(200), 201, Verdict.MISSED),
    ],
)
def test_an_aim_is_met_up_to_its_bound(aim: object, value: float, verdict: Verdict) -> None:
    assert aim.verdict(value) is verdict  # type: ignore[attr-defined]


def test_the_table_says_which_aims_are_missed() -> None:
    found = Found({"backfill_api_requests": 250.0, "takeover_s": 12.345}, {})
    assert line_of("backfill_api_requests", found)[1:4] == ["250", "≤ 200", "MISSED"]
    assert line_of("takeover_s", found)[1:4] == ["12.3", "≤ 20", "met"]


def test_a_figure_that_was_not_asked_for_is_not_in_the_table() -> None:
    assert "handover_s" not in table(Found({"takeover_s": 1.0}, {}))


def test_a_ratio_is_computed_from_the_two_figures_that_it_names() -> None:
    found = Found({"backfill_rows_per_s": 3_000.0, "raw_write_rows_per_s": 4_000.0}, {}).with_ratios()
    assert found.values["backfill_vs_raw_write"] == 0.75
    assert "backfill_vs_pgboss_tuned" not in found.values


def test_a_ratio_to_what_was_skipped_says_why_there_is_none() -> None:
    skipped = Found({"backfill_rows_per_s": 1.0}, {"pgboss_tuned_rows_per_s": "skipped: no node"}).with_ratios()
    assert line_of("backfill_vs_pgboss_tuned", skipped)[1:4] == ["–", "≥ 10", "skipped: no node"]


def test_a_ratio_needs_both_of_its_figures() -> None:
    assert needed_for("backfill_vs_raw_write") >= {"backfill_rows_per_s", "raw_write_rows_per_s"}


@pytest.mark.parametrize(
    ("value", "text"), [(123_456.7, "123,457"), (0.6172, "0.617"), (12.0, "12"), (100, "100"), (0.0, "0")]
)
def test_values_are_shown_with_the_digits_that_say_something(value: float, text: str) -> None:
    assert shown(value) == text


def test_every_figure_is_a_ratio_or_is_found_by_one_measurement() -> None:
    measured = [name for measurement in MEASUREMENTS for name in measurement.figures]
    assert sorted(measured) == sorted(figure.name for figure in FIGURES if figure.ratio is None)


def test_one_figure_has_only_what_it_needs_measured() -> None:
    assert [found.figures[0] for found in chosen("backfill_vs_raw_write")] == [
        "raw_write_rows_per_s",
        "backfill_rows_per_s",
    ]
    assert chosen("") == MEASUREMENTS


def test_a_figure_that_does_not_exist_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(typer.BadParameter, match="backfill_rows_per_s"):
        chosen("rows_per_fortnight")


def test_a_measurement_that_fails_or_is_skipped_does_not_prevent_the_others(tmp_path: Path) -> None:
    said: list[str] = []

    def failing(setting: Setting) -> Mapping[str, float]:
        raise ValueError("no luck")

    def skipping(setting: Setting) -> Mapping[str, float]:
        raise Skipped("skipped: no npm")

    found = found_by(
        (
            Measurement(failing, ("raw_write_rows_per_s",)),
            Measurement(skipping, ("pgboss_tuned_rows_per_s",)),
            Measurement(lambda setting: {"takeover_s": 4.0}, ("takeover_s",)),
        ),
        Setting(10, tmp_path, ExitStack(), said.append),
    )
    assert found.values == {"takeover_s": 4.0}
    assert found.missing["pgboss_tuned_rows_per_s"] == "skipped: no npm"
    assert found.missing["raw_write_rows_per_s"] == "failed: ValueError"
    assert said == [
        "measuring raw_write_rows_per_s",
        "raw_write_rows_per_s: ValueError: no luck",
        "measuring pgboss_tuned_rows_per_s",
        "measuring takeover_s",
    ]


def test_what_a_skipped_measurement_has_found_is_kept(tmp_path: Path) -> None:
    def skipping(setting: Setting) -> Mapping[str, float]:
        raise Skipped("skipped: no log", {"rss_mb_start": 100.0})

    figures = ("idle_statements_per_min", "rss_mb_start")
    found = found_by((Measurement(skipping, figures),), Setting(10, tmp_path, ExitStack(), print))
    assert found == Found({"rss_mb_start": 100.0}, {"idle_statements_per_min": "skipped: no log"})


def test_a_skipped_measurement_is_no_failure() -> None:
    assert failed(Found({}, {"handover_s": "skipped: no npm", "takeover_s": "failed: ValueError"})) == ["takeover_s"]


def test_the_statements_of_an_idle_minute_are_left_out_where_there_is_no_log() -> None:
    others = {"idle_transactions_per_min": 2.0}
    assert with_statements(Idle(1.0, 2.0, 3.0, 4.0), others) == {"idle_statements_per_min": 1.0, **others}
    with pytest.raises(Skipped) as skipped:
        with_statements(Idle(None, 2.0, 3.0, 4.0), others)
    assert skipped.value.found == others


@pytest.mark.parametrize(
    ("only", "rows", "short", "file"),
    [
        ("", ROWS, False, "bench.json"),
        ("jobs_per_s", ROWS, False, "bench-part.json"),
        ("", 20_000, False, "bench-part.json"),
        ("", ROWS, True, "bench-part.json"),
    ],
)
def test_only_a_whole_run_replaces_the_figures_of_the_last_one(only: str, rows: int, short: bool, file: str) -> None:
    assert file_name(only=only, rows=rows, short=short) == file


def test_the_short_form_of_one_figure_is_refused() -> None:
    refused = CliRunner().invoke(command.app, ["--short", "--only=jobs_per_s"])
    assert refused.exit_code == 2
    assert "ONLY=jobs_per_s" in refused.output


def test_the_figures_that_miss_their_aims_are_named() -> None:
    found = Found({"backfill_api_requests": 250.0, "takeover_s": 12.3, "jobs_per_s": 1.0}, {"handover_s": "skipped"})
    assert missed(found) == ["backfill_api_requests"]


def test_the_short_form_measures_figures_of_the_table() -> None:
    assert {name for count in COUNTS for name in count.figures} <= {figure.name for figure in FIGURES}


def run_short(value: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code where the short form finds this number of refusals, or skips counting them."""

    def measure(setting: Setting) -> Mapping[str, float]:
        if value is None:
            raise Skipped("skipped: no server")
        return {"quota_refusals": value}

    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    monkeypatch.setattr(command, "COUNTS", (Measurement(measure, ("quota_refusals",)),))
    return CliRunner().invoke(command.app, ["--short"]).exit_code


def test_the_short_form_fails_where_a_count_misses_its_aim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_short(0.0, tmp_path, monkeypatch) == 0
    assert run_short(1.0, tmp_path, monkeypatch) == 1
    assert run_short(None, tmp_path, monkeypatch) == 0
    assert [file.name for file in (tmp_path / "build").iterdir()] == ["bench-part.json"]


def test_the_result_is_one_object_of_numbers_and_the_machine() -> None:
    written = json.loads(result(Found({"takeover_s": 4.0}, {}), {"cores": 2, "commit": "abc"}))
    assert written == {"takeover_s": 4.0, "machine": {"cores": 2, "commit": "abc"}}


def test_the_machine_is_described() -> None:
    here = machine()
    assert set(here) == {"cores", "model", "memory_gb", "load_before", "commit"}
    assert here["cores"]
    assert here["model"]
