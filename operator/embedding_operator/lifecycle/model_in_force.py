"""The model in force, as a source's status records it: the one that made the vectors of the table. Pure.

Written by the source's loop, and read by `embedding-operator serve`, which embeds search texts and reads nothing but sources.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from embedding_operator.resources.base import Resource
from embedding_worker.source import Model, TooLong


class RecordedModel(Resource):
    """`status.model`. What is not set is null, because the status is written as a merge patch."""

    provider: str
    name: str
    dimensions: int
    task_type: str | None = None
    endpoint: str | None = None
    api_key_ref: str | None = None
    query_prefix: str | None = None
    query_task_type: str | None = None


def recorded(model: Model) -> dict[str, Any]:
    """The model, for the status."""
    record = RecordedModel(
        provider=model.provider,
        name=model.name,
        dimensions=model.dimensions,
        task_type=model.task_type,
        endpoint=model.endpoint or None,
        api_key_ref=model.api_key_ref or None,
        query_prefix=model.query_prefix or None,
        query_task_type=model.query_task_type,
    )
    return record.model_dump(by_alias=True)


def model_on_record(status: Mapping[str, Any], too_long: TooLong) -> Model | None:
    """The model that a status records; None if it records none that this version understands."""
    try:
        record = RecordedModel.model_validate(status.get("model"))
    except ValidationError:
        return None
    return Model(
        record.provider,
        record.name,
        record.dimensions,
        record.task_type,
        too_long,
        endpoint=record.endpoint or "",
        api_key_ref=record.api_key_ref or "",
        query_prefix=record.query_prefix or "",
        query_task_type=record.query_task_type,
    )


def in_force(model: Model, status: Mapping[str, Any], *, change_waits: bool) -> Model:
    """The model with the settings of search texts that belong to it.

    `model` has those of the spec. While a changed model waits for approval, they are meant for that one, so those on record
    stay, or none if none are on record yet.
    """
    if not change_waits:
        return model
    before = model_on_record(status, model.too_long) or replace(model, query_prefix="", query_task_type=None)
    return replace(model, query_prefix=before.query_prefix, query_task_type=before.query_task_type)
