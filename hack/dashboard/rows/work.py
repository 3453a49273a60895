"""How much is embedded, and how fast. Called by rows/__init__.py."""

from hack.dashboard.panels import Kind, Panel, Query, Row
from hack.dashboard.queries import JOBS, RETRYING, by_source, quantiles, rate

SUCCEEDED = rate(JOBS, 'phase="Succeeded"')
ENDED = rate(JOBS, 'phase=~"Succeeded|DeadLettered"')
THROUGHPUT = Row(
    "Throughput",
    (
        Panel(
            "Jobs per minute",
            "Transitions of jobs to each phase. The rows of a backfill have no jobs.",
            Kind.LINES,
            (Query(f"60 * {rate(JOBS, by='phase')}", "{{phase}}"),),
        ),
        Panel(
            "Success and retries",
            "Of the jobs that ended, those that succeeded; of all transitions, those to Retrying.",
            Kind.LINES,
            (
                Query(f"{SUCCEEDED} / {ENDED}", "succeeded"),
                Query(f"{rate(JOBS, RETRYING)} / {rate(JOBS)}", "retried"),
            ),
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            "Texts per second",
            "Texts that are sent to the provider, in jobs and in the operator's own backfills.",
            Kind.LINES,
            (by_source(rate("provider_call_texts_sum", by="source")),),
        ),
    ),
)
LATENCY = Row(
    "Latency",
    (
        Panel(
            "Time of a job",
            "From the start of a job's handler to its outcome.",
            Kind.LINES,
            quantiles("job_seconds"),
            unit="s",
        ),
        Panel(
            "Time from an edit to its vector",
            "Of the rows that a job has embedded; pauses of the provider and retries are included.",
            Kind.LINES,
            quantiles("edit_to_fresh_seconds"),
            unit="s",
        ),
        Panel(
            "Time of a sweep",
            "Duration of a turn of the loop of a source: 95% take less.",
            Kind.LINES,
            (by_source(f"histogram_quantile(0.95, {rate('sweep_seconds_bucket', by='le, source')})"),),
            unit="s",
        ),
    ),
)
