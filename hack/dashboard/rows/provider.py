"""How the provider answers, and which texts it does not embed. Called by rows/__init__.py."""

from hack.dashboard.panels import GREEN, RED, YELLOW, Kind, Panel, Query, Row
from hack.dashboard.queries import EVERY, HERE, JOBS, OF_SOURCE, RETRYING, by_source, gauge, quantiles, rate

CALLS = "provider_call_seconds"
USED = f"60 * sum by (provider, kind) (rate(embedding_operator_provider_usage_total{{{HERE}}}[{EVERY}]))"
LIMIT = f"max by (provider, kind) (embedding_operator_provider_limit_per_minute{{{HERE}}})"
PAUSED_UNTIL = f"max by (provider) (embedding_operator_provider_throttled_until_timestamp_seconds{{{HERE}}})"
PROVIDER = Row(
    "Provider",
    (
        Panel(
            "Circuits",
            "While a circuit is open, no call is made, and no row loses an attempt.",
            Kind.STATES,
            (Query(f"max by (circuit) (embedding_operator_circuit_open{{{HERE}}})", "{{circuit}}"),),
            words={"0": ("closed", GREEN), "1": ("open", RED)},
        ),
        Panel(
            "Calls per second by outcome",
            "Succeeded, or the class of the error.",
            Kind.LINES,
            (Query(rate(f"{CALLS}_count", by="outcome"), "{{outcome}}"),),
            unit="reqps",
        ),
        Panel(
            "Duration of a call",
            "How long half, 95% and 99% of the calls take at most.",
            Kind.LINES,
            quantiles(CALLS),
            unit="s",
        ),
        Panel(
            "Texts per call",
            "On average. Few texts in a call while many rows are due: batches are bisected, or calls were too large.",
            Kind.LINES,
            (
                by_source(
                    f"{rate('provider_call_texts_sum', by='source')} / {rate('provider_call_texts_count', by='source')}"
                ),
            ),
        ),
        Panel(
            "Used of the limits of the sources",
            "The parts of spec.limits that are used: texts and tokens until midnight UTC, the cost until the month ends.",
            Kind.BARS,
            (
                by_source(f"{gauge('texts_today')} / {gauge('texts_per_day_limit')}", "texts of {{source}}"),
                by_source(f"{gauge('tokens_today')} / {gauge('tokens_per_day_limit')}", "tokens of {{source}}"),
                by_source(
                    f"{gauge('estimated_cost_this_month')} / {gauge('estimated_cost_per_month_limit')}",
                    "cost of {{source}}",
                ),
            ),
            unit="percentunit",
            maximum=1,
            steps=((0.75, YELLOW), (0.9, RED)),
        ),
        Panel(
            "Texts and tokens of today",
            "Tokens as the provider reports them, as far as it does; else they are estimated from the lengths of the texts.",
            Kind.LINES,
            (
                by_source(gauge("texts_today"), "texts of {{source}}"),
                by_source(gauge("tokens_today"), "tokens of {{source}}"),
            ),
        ),
        Panel(
            "Used of the limits per minute",
            "Requests, texts and tokens of a minute, where the chart's values limit them.",
            Kind.LINES,
            (Query(f"{USED} / {LIMIT}", "{{kind}} of {{provider}}"),),
            unit="percentunit",
        ),
        Panel(
            "Pause that the provider asks for",
            "How long no call is made after an answer 429.",
            Kind.LINES,
            (Query(f"clamp_min({PAUSED_UNTIL} - time(), 0)", "{{provider}}"),),
            unit="s",
        ),
        Panel(
            "Estimated cost of today and of the month",
            "Of the tokens, in the currency of the price that is set; 0 without a price.",
            Kind.LINES,
            (
                by_source(gauge("estimated_cost_today"), "{{source}} today"),
                by_source(gauge("estimated_cost_this_month"), "{{source}} this month"),
            ),
        ),
    ),
)
DEAD_LETTERS = Row(
    "Dead letters and retries",
    (
        Panel(
            "Dead letters by source",
            "Jobs in phase DeadLettered now.",
            Kind.LINES,
            (by_source(gauge("source_dead_letters")),),
            width=6,
        ),
        Panel(
            "New dead letters by source and reason",
            "Since the processes of the operator have started.",
            Kind.TABLE,
            (
                Query(
                    f'sum by (source, reason) (embedding_operator_{JOBS}{{{OF_SOURCE}, phase="DeadLettered"}})',
                ),
            ),
            width=6,
        ),
        Panel(
            "Retries and replays per minute",
            "Retries by reason; a replay is made by a person.",
            Kind.LINES,
            (
                Query(f"60 * {rate(JOBS, RETRYING, by='reason')}", "{{reason}}"),
                Query(f"60 * {rate('replays_total')}", "replays"),
            ),
            width=6,
        ),
        Panel(
            "Rows embedded again and again",
            "Vectors that were written in an hour for rows which had been embedded five times within the hour before.",
            Kind.LINES,
            (by_source(f"sum by (source) (increase(embedding_operator_rewritten_rows_total{{{OF_SOURCE}}}[1h]))"),),
            width=6,
        ),
    ),
)
