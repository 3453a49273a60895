"""What `embedding-operator plan` knows of a source: made by plan_facts.py, read by plan_lines.py and what that calls. Pure."""

from dataclasses import dataclass, field

from embedding_operator.resources.embedding_source import BackfillMode, EmbeddingSource
from embedding_worker.limits import Sent
from embedding_worker.providers.embedder import BYTES_PER_TOKEN
from embedding_worker.rows.records import RateLimits


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
    too_long: int = 0
    """Rows whose text is longer than the model accepts."""
    distinct: int | None = None
    """Different texts among those to be sent; None if that is not known."""
    distinct_estimated: bool = False
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

    Neither is known of a model that runs in the process that embeds the rows, or on a server that the source names.
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
    """Otherwise the model is in the process that embeds."""
    rate_decided_by: str | None = None
    """What decides how many rows a second are embedded, where no rate is known before it is measured."""
    problem: str | None = None
    """Why it can't be called yet, in a sentence; the other values are then assumed."""


NOTHING_SENT = Sent(0, 0, 0)


@dataclass(frozen=True)
class PlanFacts:
    source: EmbeddingSource
    rows: DueRows
    rates: Rates = Rates()
    provider: ProviderFacts = ProviderFacts()
    sent: Sent = NOTHING_SENT
    price_per_million_tokens: float | None = None
    vector_type: str = "vector"
    """Of the column, without its dimensions."""
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
