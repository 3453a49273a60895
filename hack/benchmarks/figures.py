"""The figures of `make bench`: their aims, what each is compared with, and the table in which they are shown. Pure.

Called by __main__.py, which has the measurements made.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    MET = "met"
    MISSED = "MISSED"
    NONE = ""


@dataclass(frozen=True)
class Aim:
    """A bound that a figure is to keep."""

    bound: float
    at_least: bool

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {shown(self.bound)}"

    def verdict(self, value: float) -> Verdict:
        return Verdict.MET if (value >= self.bound if self.at_least else value <= self.bound) else Verdict.MISSED


@dataclass(frozen=True)
class Figure:
    name: str
    aim: Aim | None
    reference: str
    """What it is compared with, or how it is measured, in a few words."""
    ratio: tuple[str, str] | None = None
    """The two other figures that it is the ratio of."""

    def misses_aim(self, values: Mapping[str, float]) -> bool:
        """Whether it has an aim, and was measured, and its value is beyond the aim."""
        return self.aim is not None and self.name in values and self.aim.verdict(values[self.name]) is Verdict.MISSED


def at_least(bound: float) -> Aim:
    return Aim(bound, at_least=True)


def at_most(bound: float) -> Aim:
    return Aim(bound, at_least=False)


FAILED = "failed: "
"""How the reason begins why a figure is missing, where that is an error. Others were skipped."""

FIGURES = (
    Figure(
        "raw_life_cpu_ms",
        None,
        "create, status patch and delete by a client that does nothing else: client, API server, etcd",
    ),
    Figure("job_cpu_ms", None, "operator, API server, etcd and PostgreSQL"),
    Figure(
        "lifecycle_cpu_vs_raw", at_least(0.75), "raw_life_cpu_ms over job_cpu_ms", ("raw_life_cpu_ms", "job_cpu_ms")
    ),
    Figure("raw_lives_per_s", None, "32 requests in flight"),
    Figure("jobs_per_s", None, "one EmbeddingJob for each row, calls of 200 ms"),
    Figure("lifecycle_vs_raw", at_least(0.8), "jobs_per_s over raw_lives_per_s", ("jobs_per_s", "raw_lives_per_s")),
    Figure("operator_cpu_ms_per_job", at_most(3), "its process alone"),
    Figure("api_requests_per_job", at_most(2.1), "writes of jobs and their statuses, counted by the API server"),
    Figure("rss_growth_100k", at_most(1.1), "from the first tenth of the jobs to the last"),
    Figure("edit_to_fresh_p50_ms", at_most(200), "a single edit of 10,000 fresh rows, to the commit of its vector"),
    Figure("edit_to_fresh_p99_ms", at_most(500), "the same; the provider answers at once"),
    Figure("edit_behind_backfill_p99_s", at_most(1.5), "while each row of a first fill has a job, calls of 200 ms"),
    Figure("idle_statements_per_min", at_most(700), "one source, 10,000 fresh rows; of the operator's role"),
    Figure("idle_transactions_per_min", None, "in the same minute"),
    Figure("idle_cpu_percent", at_most(1.5), "in the same minute, of one core; its process alone"),
    Figure("rss_mb_start", at_most(110), "the resident set after that minute"),
    Figure("sources_50_idle_cpu_ratio", at_most(10), "50 idle sources over one; the operator's process"),
    Figure("sources_50_idle_database_cpu_ratio", None, "the same of PostgreSQL"),
    Figure("start_cpu_s", at_most(2), "processor time of the process until /readyz answers 200"),
    Figure("restart_s_500_open", at_most(3), "from the start of the process, 500 jobs being open, to its first vector"),
    Figure("insert_p99_ms_burners", None, "an application's inserts beside two processes that burn processor time"),
    Figure("insert_p99_ms_busy", None, "the same inserts during a first fill with a job for each row"),
    Figure(
        "insert_p99_ratio_busy", at_most(1.5), "insert_p99_ms_burners", ("insert_p99_ms_busy", "insert_p99_ms_burners")
    ),
    Figure("trigger_ms", at_most(0.05), "what it adds to an update of one row"),
    Figure("pgboss_readme_seed_rows_per_s", None, "`boss.send` for each row, one after the other"),
    Figure("seed_rows_per_s", None, "from the creation of the source to the last change mark of the audit"),
    Figure(
        "pgboss_seed_ratio",
        at_least(50),
        "pgboss_readme_seed_rows_per_s",
        ("seed_rows_per_s", "pgboss_readme_seed_rows_per_s"),
    ),
    Figure("pgboss_readme_rows_per_s", None, "`boss.work` with its default options, calls of 200 ms"),
    Figure("raw_write_rows_per_s", None, "the same statement with ready vectors, over one connection"),
    Figure("raw_parallel_write_rows_per_s", None, "the same over 2 and 4 connections at once; the better one"),
    Figure("backfill_rows_per_s", None, "from the first write to the last, 32 calls of 200 ms in flight"),
    Figure(
        "backfill_vs_raw_write", at_least(0.6), "raw_write_rows_per_s", ("backfill_rows_per_s", "raw_write_rows_per_s")
    ),
    Figure("pgboss_tuned_rows_per_s", None, "the best of several settings of one worker process"),
    Figure(
        "backfill_vs_pgboss_tuned",
        at_least(10),
        "pgboss_tuned_rows_per_s",
        ("backfill_rows_per_s", "pgboss_tuned_rows_per_s"),
    ),
    Figure("backfill_3_workers_speedup", at_least(2.5), "one worker, 2 calls in flight each"),
    Figure("backfill_api_requests", at_most(200), "counted by the API server"),
    Figure("edit_during_backfill_p99_s", at_most(2), "from the commit of an edit to its vector"),
    Figure("provider_loop_lag_ms", at_most(50), "while 100 answers of 256 vectors of 1,536 dimensions are read"),
    Figure("rss_mb_backfill", at_most(300), "the operator's process, at its largest"),
    Figure("takeover_s", at_most(20), "from SIGKILL of the leader to the standby's first vector"),
    Figure("handover_s", at_most(3), "from SIGTERM of an idle leader to the standby's first vector"),
    Figure("unchanged_marks_cleared_per_s", at_least(50_000), "rows whose text came out unchanged"),
    Figure("batching_requests_2000", at_most(25), "for 2,000 jobs, at 100 texts a request of 200 ms"),
    Figure("quota_used_ratio", at_least(0.95), "of 3,000 texts, in one minute"),
    Figure("quota_refusals", at_most(0), "by the server, which enforces that quota"),
    Figure(
        "duplicate_texts_called_once", Aim(1, at_least=False), "how often a text was sent that a batch of 100 rows has"
    ),
    Figure("local_texts_per_s", None, "the demo's businesses, on one core"),
    Figure("provider_parse_ms_per_vector", at_most(0.15), "768 dimensions, from the answer's bytes; processor time"),
    Figure(
        "vector_write_ms_per_vector", at_most(0.1), "768 dimensions, encoded and sent; processor time of the operator"
    ),
)
"""In the order of the table."""


@dataclass(frozen=True)
class Found:
    """What was found out: the values, and for figures that have none, why."""

    values: Mapping[str, float]
    missing: Mapping[str, str]

    def with_ratios(self) -> "Found":
        """Also those figures that are the ratio of two others."""
        values, missing = dict(self.values), dict(self.missing)
        for figure in FIGURES:
            if figure.ratio is None:
                continue
            of, to = figure.ratio
            if of in values and values.get(to):
                values[figure.name] = values[of] / values[to]
            elif why := missing.get(of) or missing.get(to):
                missing[figure.name] = why
        return Found(values, missing)


def missed(found: Found) -> list[str]:
    """The figures that were measured and miss their aims."""
    return [figure.name for figure in FIGURES if figure.misses_aim(found.values)]


def failed(found: Found) -> list[str]:
    """The figures whose measurement failed. One that was skipped did not: the machine lacks something that it needs."""
    return [name for name, why in found.missing.items() if why.startswith(FAILED)]


def needed_for(only: str) -> set[str]:
    """The figures that have to be measured for this one. Raises KeyError if there is no figure of this name."""
    figure = {figure.name: figure for figure in FIGURES}[only]
    return {*(figure.ratio or ()), only}


def shown(value: float) -> str:
    """With as many digits as say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(found: Found) -> str:
    """In Markdown. Figures that were neither measured nor missed are left out."""
    lines = ["| figure | value | aim | | reference |", "| --- | ---: | --- | --- | --- |"]
    return "\n".join([*lines, *_lines(found)])


def _lines(found: Found) -> Iterable[str]:
    for figure in FIGURES:
        aim = str(figure.aim or "")
        if figure.name in found.values:
            value = found.values[figure.name]
            verdict = figure.aim.verdict(value) if figure.aim else Verdict.NONE
            yield f"| `{figure.name}` | {shown(value)} | {aim} | {verdict.value} | {figure.reference} |"
        elif figure.name in found.missing:
            yield f"| `{figure.name}` | – | {aim} | {found.missing[figure.name]} | {figure.reference} |"
