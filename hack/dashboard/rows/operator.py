"""What the operator does in the background, and its processes. Called by rows/__init__.py."""

from hack.dashboard.panels import BLUE, GREEN, RED, Kind, Panel, Query, Row
from hack.dashboard.queries import EVERY, HERE, by_source, gauge, of_process

BACKFILL_AND_AUDIT = Row(
    "Backfill and audit",
    (
        Panel(
            "Progress of the backfill",
            "Rows of the present or last backfill that need nothing more.",
            Kind.BARS,
            (by_source(f"{gauge('backfill_done_rows')} / ({gauge('backfill_rows')} > 0)"),),
            unit="percentunit",
            maximum=1,
        ),
        Panel(
            "Rows per second of the backfill",
            "In the last minute.",
            Kind.LINES,
            (by_source(gauge("backfill_rows_per_second")),),
        ),
        Panel(
            "Workers and failed rows of the backfill",
            "A row that fails gets a job. Without workers, the operator's process embeds the rows.",
            Kind.LINES,
            (
                by_source(gauge("backfill_workers"), "workers of {{source}}"),
                by_source(gauge("backfill_failed_rows"), "failed of {{source}}"),
            ),
        ),
        Panel(
            "Present pass of the audit",
            "The part of the table that it has read.",
            Kind.BARS,
            (by_source(f"clamp_max({gauge('audited_rows')} / ({gauge('rows')} > 0), 1)"),),
            unit="percentunit",
            maximum=1,
            steps=((0, BLUE),),
        ),
        Panel(
            "Since the last full audit",
            "How long ago an audit has come to the end of the table.",
            Kind.LINES,
            (by_source(f"time() - {gauge('audit_completed_timestamp_seconds')}"),),
            unit="s",
        ),
        Panel(
            "Empty texts",
            "The part of the rows that have no vector because their text is empty. With many, check spec.text.",
            Kind.LINES,
            (by_source(f"{gauge('blank_rows')} / ({gauge('rows')} > 0)"),),
            unit="percentunit",
        ),
    ),
)
OPERATOR = Row(
    "Operator",
    (
        Panel(
            "Leader",
            "Exactly one pod leads; the others stand by.",
            Kind.STATES,
            (Query(f"max by (pod) (embedding_operator_leader{{{HERE}}})", "{{pod}}"),),
            words={"0": ("stands by", BLUE), "1": ("leads", GREEN)},
        ),
        Panel(
            "Database",
            "Whether PostgreSQL answers the leader.",
            Kind.STATES,
            (
                Query(
                    f"max(embedding_operator_database_up{{{HERE}}} and embedding_operator_leader{{{HERE}}} == 1)",
                    "PostgreSQL",
                ),
            ),
            words={"0": ("away", RED), "1": ("answers", GREEN)},
        ),
        Panel(
            "Open jobs",
            "Dashed: how many may be open at the moment, in all sources.",
            Kind.LINES,
            (
                Query(f"max(embedding_operator_open_jobs{{{HERE}}})", "open"),
                Query(f"max(embedding_operator_window_jobs{{{HERE}}})", "window", dashed=True),
            ),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            Kind.LINES,
            (
                Query(
                    f"sum by (pod) ({of_process(f'process_resident_memory_bytes{{{HERE}}}')})",
                    "{{pod}}",
                ),
            ),
            unit="bytes",
        ),
        Panel(
            "CPU",
            "Cores that each process uses.",
            Kind.LINES,
            (
                Query(
                    f"sum by (pod) ({of_process(f'rate(process_cpu_seconds_total{{{HERE}}}[{EVERY}])')})",
                    "{{pod}}",
                ),
            ),
        ),
        Panel(
            "Version",
            "How many processes run each version.",
            Kind.TABLE,
            (Query(f"count by (version) (embedding_operator_build_info{{{HERE}}})"),),
        ),
    ),
)
