"""EmbeddingSource: a table that is declared once. Parses what the API server gives. Pure.

Called where sources are listed or watched. crds/embeddingsources.yaml is the contract; a test compares the two.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from embedding_operator.resources.base import Metadata, Resource, understood
from embedding_worker.errors import SourceRefused
from embedding_worker.limits import TEXTS_PER_DAY, Limits
from embedding_worker.providers.accounts import vector_origin
from embedding_worker.rows.ownership import TAKE_OVER_ANNOTATION, Claim, Owner
from embedding_worker.source import ChangeDetection, ExistingVectors, Model, SourceConfig, TableColumn, TooLong

RECONCILE_ANNOTATION = "reconcile.embeddings.yellowbook.dev/requestedAt"
"""A token that changes requests a sweep and a full audit; it is copied to status.lastHandledReconcileAt when both are done."""

UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


def parsed_duration(written: Any) -> Any:
    """Of a duration such as `1h30m`. Raises ValueError for another text; the type of the field decides about other values."""
    if not isinstance(written, str):
        return written
    if not re.fullmatch(r"([0-9]{1,5}[hms]){1,3}", written):
        raise ValueError(f"{written!r} is no duration in hours, minutes and seconds, such as 15m")
    return sum((int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(\w)", written)), timedelta())


Duration = Annotated[timedelta, BeforeValidator(parsed_duration)]


class SecretKeyRef(Resource):
    name: str
    key: str


class ModelSpec(Resource):
    provider: str
    name: str
    dimensions: int
    task_type: str | None = None
    too_long: TooLong = TooLong.TRUNCATE
    endpoint: str = ""
    api_key_secret_ref: SecretKeyRef | None = None
    same_vectors_as: str = ""
    query_prefix: str = ""
    query_task_type: str | None = None
    price_per_million_tokens: float | None = None

    def model(self) -> Model:
        ref = self.api_key_secret_ref
        return Model(
            self.provider,
            self.name,
            self.dimensions,
            self.task_type,
            self.too_long,
            endpoint=self.endpoint,
            api_key_ref=f"{ref.name}/{ref.key}" if ref is not None else "",
            origin=vector_origin(self.provider, self.endpoint),
            same_vectors_as=self.same_vectors_as,
            query_prefix=self.query_prefix,
            query_task_type=self.query_task_type,
        )


class LimitsSpec(Resource):
    """How much may be sent. See embedding_worker.limits."""

    texts_per_day: int | None = None
    tokens_per_day: int | None = None
    estimated_cost_per_month: float | None = None


class RetrySpec(Resource):
    """How often a row is tried, and the pauses between the attempts. See lifecycle/retry_policy.py."""

    max_attempts: int = 6
    initial_seconds: int = 2
    factor: int = 2
    max_seconds: int = 32


class BackfillMode(StrEnum):
    JOBS = "Jobs"
    AUTO = "Auto"


class BackfillSpec(Resource):
    """How rows are embedded that no edit made due."""

    mode: BackfillMode = BackfillMode.JOBS
    threshold: int = 10_000
    concurrency: int = 4
    workers: int = 0


class SourceSpec(Resource):
    table: str
    id_column: str
    text: str
    embedding_column: str = "embedding"
    model: ModelSpec
    change_detection: ChangeDetection = ChangeDetection.TRIGGER
    existing_vectors: ExistingVectors = ExistingVectors.REPLACE
    retry: RetrySpec = RetrySpec()
    backfill: BackfillSpec = BackfillSpec()
    limits: LimitsSpec = LimitsSpec()
    max_texts_per_day: int | None = None
    """Of manifests for earlier versions: what limits.texts_per_day is now."""
    freshness_target: Duration | None = None
    suspend: bool = False
    approved_fingerprint: str = ""

    def config(self) -> SourceConfig:
        """The part of the spec that the data plane needs."""
        schema, _, table = self.table.partition(".")
        return SourceConfig(
            at=TableColumn(schema, table, self.id_column, self.embedding_column),
            text=self.text,
            model=self.model.model(),
            change_detection=self.change_detection,
            existing_vectors=self.existing_vectors,
        )

    @property
    def limits_in_force(self) -> Limits:
        """How much may be sent, without a limit of the cost: that needs a price. See limits_at."""
        texts = self.limits.texts_per_day or self.max_texts_per_day or TEXTS_PER_DAY
        return Limits(texts, self.limits.tokens_per_day)

    def price(self, default: float) -> float | None:
        """Of a million tokens, where one is set. `default` is that of the release, and 0 where that sets none."""
        own = self.model.price_per_million_tokens
        return own if own is not None else default or None

    def limits_at(self, default_price: float) -> Limits:
        """How much may be sent. Raises SourceRefused where the cost is limited, and no price is known."""
        cost, price = self.limits.estimated_cost_per_month, self.price(default_price)
        if cost is None:
            return self.limits_in_force
        if price is None:
            raise SourceRefused(
                "PriceMissing",
                f"spec.limits.estimatedCostPerMonth is {cost:g}, and no price is known: set spec.model.pricePerMillionTokens, "
                "or settings.pricePerMillionTokens in the chart's values",
            )
        return replace(self.limits_in_force, cost_per_month=cost, price_per_million_tokens=price)


class EmbeddingSource(Resource):
    metadata: Metadata
    spec: SourceSpec
    status: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def requested_reconcile(self) -> str | None:
        """The token of the newest request to reconcile; None where nobody has made one."""
        return self.metadata.annotations.get(RECONCILE_ANNOTATION)

    def claim(self, cluster: str) -> Claim:
        """With which the source claims the book-keeping of its table. `cluster`: what its cluster is recognized by."""
        metadata = self.metadata
        owner = Owner(metadata.namespace, metadata.name, metadata.uid, cluster)
        return Claim(owner, metadata.annotations.get(TAKE_OVER_ANNOTATION, ""))


def parse_source(body: Mapping[str, Any]) -> EmbeddingSource:
    """Raises pydantic's ValidationError where this version does not understand the object."""
    return EmbeddingSource.model_validate({key: body[key] for key in ("metadata", "spec", "status") if key in body})


def parse_sources(bodies: Iterable[Mapping[str, Any]]) -> list[EmbeddingSource]:
    """Those that this version understands; the others are logged and left out."""
    return list(understood(parse_source, bodies))


def older_on_the_same_column(source: EmbeddingSource, others: Iterable[EmbeddingSource]) -> str | None:
    """The name of an older source of the same table and column: two of them would overwrite each other's vectors."""
    age = (source.metadata.creation_timestamp, source.name)
    for other in others:
        same = other.spec.config().at == source.spec.config().at
        if same and (other.metadata.creation_timestamp, other.name) < age:
            return other.name
    return None
