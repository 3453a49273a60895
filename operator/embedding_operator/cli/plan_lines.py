"""Decides what `embedding-operator plan` says about a source: what would be done, how long it takes, and what limits it.

Pure; called by plan.py, which reads the facts. To say more, add a function to ASPECTS.
"""

from collections.abc import Callable, Sequence

from embedding_operator.cli.plan_limits import limits
from embedding_operator.cli.plan_sizes import cost, sizes
from embedding_operator.cli.plan_values import Line, PlanFacts
from embedding_operator.lifecycle.backfill_status import about, where
from embedding_operator.resources.embedding_source import BackfillMode
from embedding_worker.source import TooLong

JOBS_ROWS_PER_S = 120.0
"""With an API that answers in 0.2 s: docs/install.md, "What it will cost"."""
CALL_S = 0.2
MOST_WRITTEN_PER_S = 5_000.0
"""One database was measured to write more than that, without an index on the vectors."""


Aspect = Callable[[PlanFacts], Sequence[Line]]


def plan_table(facts: PlanFacts) -> str:
    """The table: a heading, and a line for each thing that is known."""
    spec = facts.source.spec
    lines = [line for aspect in ASPECTS for line in aspect(facts)]
    width = max(len(line.what) for line in lines)
    heading = (
        f"source {facts.source.name}: {spec.table}, column {spec.embedding_column}, model {spec.config().fingerprint}"
    )
    return "\n".join([heading, *(f"  {line.what:<{width}}  {line.said}" for line in lines)])


def _rows(facts: PlanFacts) -> list[Line]:
    rows = facts.rows
    return [
        Line("rows", f"{'about ' if rows.estimated else ''}{rows.total}"),
        Line(
            "due", f"{rows.due}, of which no edit made {rows.not_edited} due" if rows.due else "0: all rows are fresh"
        ),
        *([Line("without text", f"{rows.blank}: their vectors become null, without a call")] if rows.blank else ()),
        *([Line("failing text", f"{rows.failing}: spec.text fails for these rows")] if rows.failing else ()),
        *_too_long(facts),
        *([Line("to be sent", f"{rows.texts} texts, about {rows.tokens} tokens")] if rows.due else ()),
    ]


def _too_long(facts: PlanFacts) -> list[Line]:
    if not facts.rows.too_long:
        return []
    what = f"{facts.rows.too_long}: longer than the {facts.provider.max_text_bytes} bytes that the model accepts, so"
    if facts.source.spec.model.too_long is TooLong.REFUSE:
        return [
            Line("too long", f"{what} their jobs become dead letters; with spec.model.tooLong Truncate they are cut")
        ]
    return [Line("too long", f"{what} only their beginning is embedded")]


def _what_stops_it(facts: PlanFacts) -> list[Line]:
    lines = []
    if facts.waiting is not None:
        why = f"the spec's model or text has changed: nothing is sent until spec.approvedFingerprint is {facts.waiting}"
        lines.append(Line("approval", why))
    if facts.source.spec.suspend:
        lines.append(Line("suspended", "nothing is sent while spec.suspend is true"))
    if facts.provider.problem is not None:
        lines.append(Line("provider", facts.provider.problem))
    return lines


def _mode(facts: PlanFacts) -> list[Line]:
    if not facts.rows.due:
        return []
    spec = facts.source.spec.backfill
    if facts.in_pages:
        by = where(spec.workers)
        said = f"{spec.mode}: rows that no edit made due are embedded page by page, {by}; each other one gets a job"
    elif spec.mode is BackfillMode.AUTO:
        why = f"not more than {spec.threshold} are due that no edit made due"
        said = f"{spec.mode}: each due row gets an EmbeddingJob, because {why}"
    else:
        said = f"{spec.mode}: each due row gets an EmbeddingJob"
    return [Line("spec.backfill.mode", said)]


def _durations(facts: PlanFacts) -> list[Line]:
    texts = facts.rows.texts
    if not texts:
        return []
    jobs, backfill = facts.rates.jobs, facts.rates.backfill
    decided_by = facts.provider.rate_decided_by
    if decided_by is None:
        jobs, backfill = jobs or JOBS_ROWS_PER_S, backfill or computed_rate(facts)
    return [
        Line("with mode Jobs", _duration(texts, jobs, "--rows-per-second", decided_by)),
        Line("with mode Auto", _duration(texts, backfill, "--backfill-rows-per-second", decided_by)),
    ]


def _duration(texts: int, rows_per_s: float | None, option: str, decided_by: str | None) -> str:
    if rows_per_s is None:
        return f"not known: {decided_by}; measure the rate, and give {option}"
    return f"{about(texts / rows_per_s)}, at {rows_per_s:g} rows a second ({option})"


def computed_rate(facts: PlanFacts) -> float:
    """Rows a second of a backfill whose calls to a server take 0.2 s, if the database can write them."""
    spec = facts.source.spec.backfill
    calls = spec.concurrency * max(1, spec.workers)
    return min(MOST_WRITTEN_PER_S, round(calls * facts.provider.texts_a_call / CALL_S))


def _index(facts: PlanFacts) -> list[Line]:
    return [] if facts.index_advice is None else [Line("index", facts.index_advice)]


ASPECTS: tuple[Aspect, ...] = (_rows, cost, _what_stops_it, _mode, _durations, limits, sizes, _index)
