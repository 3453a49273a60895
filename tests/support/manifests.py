"""Valid manifests of both resources, and functions that change them. Called by the tests of the CRDs and of the operator."""

import copy
from collections.abc import Iterator
from typing import Any

import yaml

from embedding_operator.resources import GROUP, VERSION
from hack.repository import ROOT

Json = dict[str, Any]
CRDS = ROOT / "crds"
EXAMPLE = ROOT / "docs" / "examples" / "businesses.yaml"


def merged(document: Json, patch: Json) -> Json:
    """The document with a JSON merge patch (RFC 7386) applied: null removes."""
    result = copy.deepcopy(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def without(document: Json, path: str) -> Json:
    """The document without the field at this path, such as `spec.model.name`."""
    result = copy.deepcopy(document)
    *parents, last = path.split(".")
    place = result
    for step in parents:
        place = place[step]
    del place[last]
    return result


def validation_messages(crd_file: str) -> set[str]:
    """The messages of all validation rules in a file of crds/."""

    def found_in(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for rule in node.get("x-kubernetes-validations", ()):
                yield rule["message"]
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from found_in(child)

    return set(found_in(yaml.safe_load((CRDS / crd_file).read_text())))


def example_source() -> Json:
    """The source of docs/examples/businesses.yaml."""
    source: Json = yaml.safe_load(EXAMPLE.read_text())
    return source


def a_source(name: str, **changes: Any) -> Json:
    """An EmbeddingSource with the required fields only, and these changes to its spec."""
    spec = {
        "table": "public.businesses",
        "idColumn": "id",
        "text": "name",
        "model": {"provider": "local", "name": "any", "dimensions": 8},
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EmbeddingSource",
        "metadata": {"name": name},
        "spec": merged(spec, changes),
    }


def a_job(name: str, *, labels: dict[str, str] | None = None, **changes: Any) -> Json:
    """An EmbeddingJob with these changes to its spec."""
    spec = {
        "sourceRef": {"name": "businesses"},
        "businessId": "42",
        "contentHash": "0123456789abcdef" * 4,
        "fingerprint": "any@8",
    }
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EmbeddingJob",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": merged(spec, changes),
    }
