"""What `embedding-operator plan` refuses and knows before it asks any database."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.cli.manifest_fields import unknown_fields
from embedding_operator.cli.plan import plan_manifest
from embedding_operator.cli.plan_provider import provider_facts
from embedding_operator.cli.plan_values import Rates
from embedding_operator.settings import settings_from
from embedding_worker.providers.registry import Credentials
from embedding_worker.source import Model
from tests.support.manifests import CRDS

LOCAL = Model("local", "universal-sentence-encoder-multilingual-3", 512)
GEMINI = Model("gemini", "gemini-embedding-001", 768)


@pytest.mark.parametrize(("model", "calls_server"), [(LOCAL, False), (GEMINI, True), (Model("none", "x", 3), True)])
def test_a_plan_knows_which_provider_calls_a_server_also_without_its_key(model: Model, calls_server: bool) -> None:
    assert provider_facts(model, Credentials()).calls_server is calls_server


def crd_spec() -> Any:
    crd = yaml.safe_load((CRDS / "embeddingsources.yaml").read_text())
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def filled(schema: Any) -> Any:
    """Every field of this schema, each object with all of its own."""
    properties = schema.get("properties")
    return "x" if properties is None else {name: filled(part) for name, part in properties.items()}


def test_every_field_of_the_crd_is_known_in_a_manifest() -> None:
    body = {"apiVersion": "v", "kind": "EmbeddingSource", "metadata": {"generateName": "x"}, "spec": filled(crd_spec())}
    assert unknown_fields(body) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is no YAML"),
        ("kind: ConfigMap", "declares no EmbeddingSource"),
        ("", "declares no EmbeddingSource"),
        ("kind: EmbeddingSource\nmetadata: {name: x}\nspec: {table: a.b}", "spec.idColumn: Field required"),
        ("kind: EmbeddingSource\nmetadata: {name: x}", "spec: Field required"),
        ("kind: EmbeddingSource\nspecs: {}", "specs is no field of an EmbeddingSource, did you mean spec"),
        (
            "kind: EmbeddingSource\nspec: {model: {pricePerMillionToken: 1}, limits: {textsPerday: 1}}",
            "spec.model.pricePerMillionToken is no field of an EmbeddingSource, did you mean spec.model.pricePerMillionTokens; "
            "spec.limits.textsPerday is no field of an EmbeddingSource, did you mean spec.limits.textsPerDay",
        ),
        (
            "kind: EmbeddingSource\nspec: {model: {apiKeySecretRef: {secret: x}}, id_column: x, qqq: 1}",
            "spec.model.apiKeySecretRef.secret is no field of an EmbeddingSource; "
            "spec.id_column is no field of an EmbeddingSource, did you mean spec.idColumn; "
            "spec.qqq is no field of an EmbeddingSource",
        ),
    ],
)
def test_a_manifest_without_a_source_that_is_understood_is_said_in_a_sentence(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "source.yaml"
    file.write_text(content)
    emitted: list[str] = []
    settings = settings_from({"DATABASE_URL": "postgresql://192.0.2.1/never"})
    with file.open() as manifest:
        assert asyncio.run(plan_manifest(settings, manifest, Rates(), emitted.append)) == 1
    (line,) = emitted
    assert line.startswith(f"✗ {file} ")
    assert message in line
