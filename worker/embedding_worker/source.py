"""The configuration in force for one table and column: what is embedded, and by which model. Pure.

The operator makes it from an EmbeddingSource; every other module of this package reads it.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from embedding_worker.errors import SourceRefused


class ChangeDetection(StrEnum):
    TRIGGER = "Trigger"
    AUDIT = "Audit"


class ExistingVectors(StrEnum):
    REPLACE = "Replace"
    ADOPT = "Adopt"


class TooLong(StrEnum):
    TRUNCATE = "Truncate"
    REFUSE = "Refuse"


@dataclass(frozen=True)
class TableColumn:
    """The user's table, its id column, and the column that holds the vector. The book-keeping belongs to these."""

    schema: str
    table: str
    id_column: str
    embedding_column: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def bookkeeping_name(self) -> str:
        """The stem of the book-keeping tables' names: readable, unique for table and column, and at most 49 characters long.

        PostgreSQL cuts names at 63 bytes, so 14 are left for the suffixes.
        """
        slug = re.sub(r"[^a-z0-9]+", "_", f"{self.table}_{self.embedding_column}".lower()).strip("_")[:40]
        digest = hashlib.sha256("\0".join((self.schema, self.table, self.embedding_column)).encode()).hexdigest()
        return f"{slug}_{digest[:8]}"


@dataclass(frozen=True)
class Model:
    """A provider's model, how it is reached, and what else changes a vector for the same text."""

    provider: str
    name: str
    dimensions: int
    task_type: str | None = None
    too_long: TooLong = TooLong.TRUNCATE
    endpoint: str = ""
    """The server that is called; empty for that of the provider's settings."""
    api_key_ref: str = ""
    """SECRET/KEY, which is sent to the server; empty for the key of the provider's settings, or for none at an own endpoint."""
    origin: str = ""
    """Where its vectors come from, if its name alone does not say that: the address of a server, or a provider's name."""
    same_vectors_as: str = ""
    """The fingerprint of a model that gives the same vectors, as the user has declared."""
    query_prefix: str = ""
    """Is put before a search text."""
    query_task_type: str | None = None
    """The task type of a search text; None for the provider's choice."""

    @property
    def fingerprint(self) -> str:
        """What determines a vector: `model@dimensions`, `/task type` if there is one, and `@origin` if there is one."""
        if self.same_vectors_as:
            return self.same_vectors_as
        task_type = f"/{self.task_type}" if self.task_type else ""
        origin = f"@{self.origin}" if self.origin else ""
        return f"{self.name}@{self.dimensions}{task_type}{origin}"

    @property
    def as_called(self) -> "Model":
        """Without the fields that change no call for a row's text: models that are equal in this share a client."""
        return replace(self, too_long=TooLong.TRUNCATE, same_vectors_as="", query_prefix="", query_task_type=None)


def refuse_other_dimensions(model: Model) -> None:
    """Raises SourceRefused where its vectors cannot be those of the model that it names, because they have another size."""
    claimed = model.same_vectors_as
    if claimed and re.search(rf"@{model.dimensions}([/@]|$)", claimed) is None:
        raise SourceRefused(
            "WrongDimensions",
            f"spec.model.sameVectorsAs is {claimed!r}, and spec.model.dimensions is {model.dimensions}: vectors of another size "
            "are not the same, correct one of the two",
        )


OPTIONAL_ON_RECORD = ("endpoint", "api_key_ref", "origin", "same_vectors_as")
"""Fields of a model that a record holds where they are set."""


@dataclass(frozen=True)
class SourceConfig:
    """One table's configuration in force."""

    at: TableColumn
    text: str
    model: Model
    change_detection: ChangeDetection = ChangeDetection.TRIGGER
    existing_vectors: ExistingVectors = ExistingVectors.REPLACE
    """What the first audit does with vectors that the column held before."""

    @property
    def fingerprint(self) -> str:
        return self.model.fingerprint

    @property
    def signature(self) -> str:
        """What determines the table's vectors: the fingerprint, and 8 hex digits of the SHA-256 of the text expression.

        If it changes, rows are embedded again, which costs money.
        """
        return f"{self.fingerprint}#{hashlib.sha256(self.text.encode()).hexdigest()[:8]}"

    def as_record(self) -> str:
        """The part of the configuration in force that is stored in the database, as JSON."""
        model = self.model
        record = {"text": self.text, "provider": model.provider, "name": model.name, "dimensions": model.dimensions}
        # Only what is set: a record that has changed would be prepared again.
        others = {field: value for field in OPTIONAL_ON_RECORD if (value := getattr(model, field))}
        return json.dumps(record | {"task_type": model.task_type} | others)


def has_same_vectors(config: SourceConfig, record: str) -> bool:
    """Whether the configuration on record gives the same vectors, by another provider, server or key perhaps."""
    return in_force(config, record, approved="")[1] is None


def in_force(wanted: SourceConfig, record: str | None, *, approved: str) -> tuple[SourceConfig, str | None]:
    """The configuration to run, and the signature that waits for approval (None: nothing waits).

    The first configuration needs no approval. Another model or text expression costs money: until `approved` names its
    signature, the configuration on record (`record`, see as_record) continues to serve edits.
    """
    if record is None:
        return wanted, None
    kept = json.loads(record)
    model = replace(
        wanted.model,
        provider=kept["provider"],
        name=kept["name"],
        dimensions=kept["dimensions"],
        task_type=kept["task_type"],
        **{field: kept.get(field, "") for field in OPTIONAL_ON_RECORD},
    )
    before = replace(wanted, text=kept["text"], model=model)
    if wanted.signature in (before.signature, approved):
        return wanted, None
    return before, wanted.signature
