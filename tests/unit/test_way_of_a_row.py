"""docs/architecture.md lists the modules that a business id enters on its way from a change mark to a vector."""

import re

from hack.repository import ROOT

MAX_MODULES = 20
STEP = re.compile(r"^\| (\d+)\. [^|]+ \| `([^`]+)` \|", re.MULTILINE)
ID_NAMES = re.compile(r"\b(business_id|businessId|row_id|RowRequest|PresentRow|DueRow|VectorWrite)\b")
BESIDE_THE_WAY = {
    "operator/embedding_operator/reconciler/row_explainer.py",  # answers questions about a row
    "worker/embedding_worker/rows/one_row.py",  # reads what the book-keeping knows of a row that is asked about
    "operator/embedding_operator/dry_run.py",  # logs what would be done
    "operator/embedding_operator/reconciler/job_rate.py",  # counts the jobs of a row within a minute
    "operator/embedding_operator/reconciler/status_report.py",  # counts without the dead letters
    "operator/embedding_operator/reconciler/backfill.py",  # leaves the rows that have jobs to their jobs
    "worker/embedding_worker/backfill.py",  # the other way: rows without jobs, through the same pipeline
    "worker/embedding_worker/backfill_pages.py",  # reads the rows of that way
    "worker/embedding_worker/locked_rows.py",  # keeps the vectors of rows that are written later
    "worker/embedding_worker/pipeline.py",  # names the types that it connects
    "worker/embedding_worker/rows/records.py",  # defines the types that are passed on
    "worker/embedding_worker/rows/pages.py",  # the audit
    "worker/embedding_worker/rows/derived_table.py",  # what statements are built on
    "worker/embedding_worker/rows/psql_views.py",  # SQL for people, which takes an id as a parameter
    "worker/embedding_worker/rows/psql_rows.py",  # SQL for people too
    "worker/embedding_worker/outcome_log.py",  # gathers what became of rows
    "worker/embedding_worker/rows/last_outcomes.py",  # stores that
    "operator/embedding_operator/reconciler/settled_jobs_log.py",  # names the row of a job in a log line
    "operator/embedding_operator/reconciler/job_records.py",  # passes on to that, and to metrics and Events
    "operator/embedding_operator/rewrites.py",  # counts how often a row is embedded
    "operator/embedding_operator/metrics.py",  # passes on to that, and has no id in a label
    "operator/embedding_operator/reconciler/tracked_job.py",  # defines what the job table stores
}


def listed() -> list[str]:
    return [module for _, module in STEP.findall((ROOT / "docs" / "architecture.md").read_text())]


def test_the_way_of_a_row_enters_few_modules_each_once() -> None:
    modules = listed()
    assert 10 < len(modules) <= MAX_MODULES
    assert len(set(modules)) == len(modules)
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert f"through these {len(modules)} modules" in text


def test_every_module_that_handles_a_business_id_is_listed() -> None:
    sources = [*(ROOT / "operator").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    handling = {str(path.relative_to(ROOT)) for path in sources if ID_NAMES.search(path.read_text())}
    assert handling - set(listed()) == BESIDE_THE_WAY
