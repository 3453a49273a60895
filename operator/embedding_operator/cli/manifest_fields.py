"""Finds the fields of a manifest's spec that no EmbeddingSource has, such as misspelt ones. Pure; called by plan.py.

For manifests in files only: the operator must go on ignoring the fields of a newer CRD (resources/base.py).
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from embedding_operator.resources.embedding_source import EmbeddingSource, SourceSpec

TOP_LEVEL = {"apiVersion", "kind", *EmbeddingSource.model_fields}


def unknown_fields(body: Mapping[str, Any]) -> list[str]:
    """A phrase for each field that is not known, with the known one that is nearest to it. `metadata` belongs to Kubernetes."""
    spec = body.get("spec")
    top = [_phrase(key, "", TOP_LEVEL) for key in body if key not in TOP_LEVEL]
    return top + (list(_unknown(spec, SourceSpec, "spec.")) if isinstance(spec, Mapping) else [])


def _unknown(given: Mapping[str, Any], of: type[BaseModel], at: str) -> Iterator[str]:
    known = {field.alias or name: field.annotation for name, field in of.model_fields.items()}
    for key, value in given.items():
        if key not in known:
            yield _phrase(str(key), at, set(known))
        elif isinstance(value, Mapping) and (part := _model_in(known[key])) is not None:
            yield from _unknown(value, part, f"{at}{key}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Of `Model` and of `Model | None`."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _phrase(key: str, at: str, known: set[str]) -> str:
    (nearest, *_) = get_close_matches(str(key), sorted(known), n=1) or [""]
    return f"{at}{key} is no field of an EmbeddingSource" + (f", did you mean {at}{nearest}" if nearest else "")
