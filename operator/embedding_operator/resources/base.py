"""What both custom resources have in common: how they are parsed, their metadata, and how a moment is written and read.

Imported by the two resources and by lifecycle/. Pure: it reads no clock and makes no request.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

log = structlog.get_logger(__name__)

Parsed = TypeVar("Parsed")


class Resource(BaseModel):
    """A part of a custom resource: camelCase in the API, frozen here. Fields that a newer CRD adds are ignored."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


class Metadata(Resource):
    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: datetime = datetime.min.replace(tzinfo=UTC)
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @property
    def is_being_deleted(self) -> bool:
        """It only exists until others have removed their finalizers, and counts as deleted."""
        return self.deletion_timestamp is not None

    @property
    def version(self) -> int:
        """The resource version as a number, 0 where there is none.

        Kubernetes states that the versions of one resource are decimal integers that can be compared (KEP-5504).
        """
        return int(self.resource_version) if self.resource_version.isdecimal() else 0


def timestamp(moment: datetime) -> str:
    """The moment in UTC as Kubernetes writes it, to the millisecond: 2026-03-01T12:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parsed_timestamp(value: Any) -> datetime | None:
    """The moment, aware; None where it is none that can be represented. People write statuses too, and the API server accepts
    moments without a time zone, and some that Python does not know.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


def understood(parse: Callable[[Mapping[str, Any]], Parsed], bodies: Iterable[Mapping[str, Any]]) -> Iterable[Parsed]:
    """Parse these objects. One that this version cannot parse, because its CRD is newer or older, is logged and left out."""
    for body in bodies:
        try:
            yield parse(body)
        except ValidationError as exc:
            log.error("object not understood", name=body["metadata"]["name"], problems=exc.error_count())
