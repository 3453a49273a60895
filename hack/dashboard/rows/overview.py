"""Whether all is well. Called by rows/__init__.py."""

from hack.dashboard.panels import GREEN, RED, YELLOW, Kind, Panel, Query, Row
from hack.dashboard.queries import HERE, OF_SOURCE, by_source, gauge

READY = gauge("source_condition", 'condition="Ready", status="True"')
CONDITIONS = f"embedding_operator_source_condition{{{OF_SOURCE}"
WHEN_TRUE, WHEN_FALSE = "Stalled|RowsLocked|ReembedRequired|BlankTexts", "DatabaseReady|ProviderReady"
PROBLEMS = (
    f'sum by (source) (max by (source, condition) ({CONDITIONS}, condition=~"{WHEN_TRUE}", status="True"}}'
    f' or {CONDITIONS}, condition=~"{WHEN_FALSE}", status="False"}}))'
)
SEVERAL = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Sources not ready",
            "Sources whose condition Ready is not True: kubectl get esrc says why.",
            Kind.STAT,
            (Query(f"sum(1 - {READY})"),),
            width=4,
            height=4,
            steps=((1, RED),),
        ),
        Panel(
            "Fresh",
            "The part of all rows that have the vector of their present text.",
            Kind.STAT,
            (Query(f"1 - sum({gauge('due_rows')}) / sum({gauge('rows')})"),),
            unit="percentunit",
            decimals=1,
            width=4,
            height=4,
        ),
        Panel(
            "Due rows",
            "Rows whose embedding is missing or stale.",
            Kind.STAT,
            (Query(f"sum({gauge('due_rows')})"),),
            width=4,
            height=4,
        ),
        Panel(
            "Oldest due row",
            "How long the oldest due row without a dead letter has waited.",
            Kind.STAT,
            (Query(f"max({gauge('oldest_due_seconds')})"),),
            unit="s",
            width=4,
            height=4,
        ),
        Panel(
            "Dead letters",
            "Jobs that wait until someone acts: kubectl embeddings dead-letters groups them by reason.",
            Kind.STAT,
            (Query(f"sum({gauge('source_dead_letters')})"),),
            width=4,
            height=4,
            steps=((1, YELLOW), (100, RED)),
        ),
        Panel(
            "Alerts",
            "Alerts of the operator that fire in this namespace.",
            Kind.STAT,
            (Query(f'count(ALERTS{{{HERE}, alertname=~"EmbeddingOperator.+", alertstate="firing"}}) or vector(0)'),),
            width=4,
            height=4,
            steps=((1, RED),),
        ),
        Panel(
            "Due rows by source",
            "A line that only rises: rows change faster than they are embedded, or nothing is embedded. Dashed: change marks.",
            Kind.LINES,
            (
                by_source(gauge("due_rows")),
                by_source(gauge("change_marks"), "marks of {{source}}", dashed=True),
            ),
        ),
        Panel(
            "Oldest due row by source",
            "Dashed: spec.freshnessTarget of the source, above which an alert fires.",
            Kind.LINES,
            (
                by_source(gauge("oldest_due_seconds")),
                by_source(gauge("freshness_target_seconds"), "target of {{source}}", dashed=True),
            ),
            unit="s",
        ),
        Panel(
            "Problems of each source",
            "How many of its conditions say that someone should look: Stalled, DatabaseReady, RowsLocked, "
            "ProviderReady, ReembedRequired, BlankTexts.",
            Kind.STATES,
            (by_source(PROBLEMS),),
            words={"0": ("none", GREEN), "1": ("one", YELLOW), **{str(n): (word, RED) for n, word in SEVERAL.items()}},
        ),
    ),
)
