"""Decides what `embedding-operator plan` says about a source: what would be done, how long it takes, and what limits it.

Pure; called by plan.py, which reads the facts. To say more, add a function to ASPECTS.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from embedding_operator.lifecycle.backfill_status import about, where
from embedding_operator.resources.embedding_source import BackfillMode, EmbeddingSource
from embedding_worker.providers.embedder import BYTES_PER_TOKEN
from embedding_worker.providers.rate_limits import pace
from embedding_worker.rows.records import RateLimits

JOBS_ROWS_PER_S = 120.0
"""With an API that answers in 0.2 s: docs/install.md, "What it will cost"."""
CALL_S = 0.2
MOST_WRITTEN_PER_S = 5_000.0
"""One database was measured to write more than that, without an index on the vectors."""


@dataclass(frozen=True)
class DueRows:
    """The rows of a table that are not up to date in the spec's configuration."""

    total: int
    """Rows of the table."""
    due: int
    texts: int
    """Texts to be sent."""
    text_bytes: int
    """Of these texts, in UTF-8."""
    blank: int = 0
    failing: int = 0
    """Rows for which spec.text fails."""
    edited: int = 0
    """Rows that an edit made due."""
    estimated: bool = False
    """Whether `total` is an estimate."""

    @property
    def tokens(self) -> int:
        """An estimate."""
        return self.text_bytes // BYTES_PER_TOKEN

    @property
    def not_edited(self) -> int:
        return max(0, self.due - self.edited)


@dataclass(frozen=True)
class Rates:
    """Rows a second, as given or measured; None: the documented rate, or one that is computed.

    Neither is known of a model that runs in the process that embeds the rows.
    """

    jobs: float | None = None
    backfill: float | None = None


@dataclass(frozen=True)
class ProviderFacts:
    """What limits the calls to a provider."""

    limits: RateLimits = field(default_factory=RateLimits)
    texts_a_call: int = 64
    max_text_bytes: int = 8_000
    calls_server: bool = True
    """Otherwise the model is in the process that embeds, and no rate of it is known: its CPU decides."""
    problem: str | None = None
    """Why it can't be called yet, in a sentence; the other values are then assumed."""


@dataclass(frozen=True)
class PlanFacts:
    source: EmbeddingSource
    rows: DueRows
    rates: Rates = Rates()
    provider: ProviderFacts = ProviderFacts()
    used_today: int = 0
    """Texts that were sent today."""
    waiting: str | None = None
    """What spec.approvedFingerprint has to be, if the change of the model or the text is not approved."""
    index_advice: str | None = None

    @property
    def in_pages(self) -> bool:
        """Whether a backfill would begin."""
        spec = self.source.spec.backfill
        return spec.mode is BackfillMode.AUTO and self.rows.not_edited > spec.threshold


@dataclass(frozen=True)
class Line:
    what: str
    said: str


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
        *([Line("to be sent", f"{rows.texts} texts, about {rows.tokens} tokens")] if rows.due else ()),
    ]


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
    if facts.provider.calls_server:
        jobs, backfill = jobs or JOBS_ROWS_PER_S, backfill or computed_rate(facts)
    return [
        Line("with mode Jobs", _duration(texts, jobs, "--rows-per-second")),
        Line("with mode Auto", _duration(texts, backfill, "--backfill-rows-per-second")),
    ]


def _duration(texts: int, rows_per_s: float | None, option: str) -> str:
    if rows_per_s is None:
        return f"not known: the model runs on the CPU of the process that embeds the rows; measure the rate, and give {option}"
    return f"{about(texts / rows_per_s)}, at {rows_per_s:g} rows a second ({option})"


def computed_rate(facts: PlanFacts) -> float:
    """Rows a second of a backfill whose calls to a server take 0.2 s, if the database can write them."""
    spec = facts.source.spec.backfill
    calls = spec.concurrency * max(1, spec.workers)
    return min(MOST_WRITTEN_PER_S, round(calls * facts.provider.texts_a_call / CALL_S))


def _limits(facts: PlanFacts) -> list[Line]:
    rows, limits = facts.rows, facts.provider.limits
    if not rows.texts:
        return []
    needed = {
        "requests": (math.ceil(rows.texts / facts.provider.texts_a_call), limits.requests),
        "texts": (rows.texts, limits.texts),
        "tokens": (rows.tokens, limits.tokens),
    }
    lines = [
        Line(f"{kind} a minute", f"{limit}: at least {about(amount / per_s)} for {amount} {kind}")
        for kind, (amount, limit) in needed.items()
        if (per_s := pace(limit))
    ]
    return [Line("spec.maxTextsPerDay", _days(facts)), *lines]


def _days(facts: PlanFacts) -> str:
    limit = facts.source.spec.max_texts_per_day
    later = facts.rows.texts - max(0, limit - facts.used_today)
    if later <= 0:
        return f"{limit}: enough for today (UTC)"
    days = math.ceil(later / limit)
    return f"{limit}: the last texts are sent {days} day{'s' if days > 1 else ''} later (UTC), unless you raise it"


def _index(facts: PlanFacts) -> list[Line]:
    return [] if facts.index_advice is None else [Line("index", facts.index_advice)]


ASPECTS: tuple[Aspect, ...] = (_rows, _what_stops_it, _mode, _durations, _limits, _index)
