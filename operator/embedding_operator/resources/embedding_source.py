"""EmbeddingSource: a table declared once. Parsed here from what the API server gives; it decides only."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from embedding_operator.lifecycle.retry_policy import RetryPolicy
from embedding_worker.source import ChangeDetection, Model, SourceConfig, TableColumn, TooLong

RECONCILE_ANNOTATION = "reconcile.embeddings.yellowbook.dev/requestedAt"
"""A token that changes asks for a sweep and an audit now; it comes back as status.lastHandledReconcileAt."""


class Resource(BaseModel):
    """camelCase outside, frozen inside; what a newer CRD adds is passed over."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class ModelSpec(Resource):
    provider: str
    name: str
    dimensions: int
    task_type: str | None = None
    too_long: TooLong = TooLong.TRUNCATE


class RetrySpec(Resource):
    max_attempts: int = 6
    initial_seconds: int = 2
    factor: int = 2
    max_seconds: int = 32

    def policy(self) -> RetryPolicy:
        return RetryPolicy(self.max_attempts, self.initial_seconds, self.factor, self.max_seconds)


class SourceSpec(Resource):
    table: str
    id_column: str
    text: str
    embedding_column: str = "embedding"
    model: ModelSpec
    change_detection: ChangeDetection = ChangeDetection.TRIGGER
    retry: RetrySpec = RetrySpec()
    max_texts_per_day: int = 1_000_000
    suspend: bool = False
    approved_fingerprint: str = ""

    def config(self) -> SourceConfig:
        """What the data plane needs of it."""
        schema, _, table = self.table.partition(".")
        return SourceConfig(
            at=TableColumn(schema, table, self.id_column, self.embedding_column),
            text=self.text,
            model=Model(
                self.model.provider, self.model.name, self.model.dimensions, self.model.task_type, self.model.too_long
            ),
            change_detection=self.change_detection,
        )


class Metadata(Resource):
    name: str
    uid: str = ""
    generation: int = 0
    creation_timestamp: datetime = datetime.min.replace(tzinfo=UTC)
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class EmbeddingSource(Resource):
    metadata: Metadata
    spec: SourceSpec
    status: dict[str, Any] = Field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.metadata.name


def parsed_source(body: Mapping[str, Any]) -> EmbeddingSource:
    return EmbeddingSource.model_validate({key: body[key] for key in ("metadata", "spec", "status") if key in body})


def older_on_the_same_column(source: EmbeddingSource, others: Iterable[EmbeddingSource]) -> str | None:
    """The name of a source that keeps this very column and was there first; two would undo each other's work."""
    age = (source.metadata.creation_timestamp, source.name)
    for other in others:
        same = other.spec.config().at == source.spec.config().at
        if same and (other.metadata.creation_timestamp, other.name) < age:
            return other.name
    return None
