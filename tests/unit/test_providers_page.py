"""docs/providers.md: its tables agree with the providers and with pyproject.toml, and its manifests with the resource."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from embedding_operator.resources.embedding_source import ModelSpec
from embedding_worker.providers.provider import registered_providers
from embedding_worker.source import Model
from hack.repository import ROOT

PAGE = (ROOT / "docs" / "providers.md").read_text()
MODELS = {
    "gemini": Model("gemini", "gemini-embedding-001", 768),
    "google-genai": Model("google-genai", "gemini-embedding-001", 768),
    "local": Model("local", "universal-sentence-encoder-multilingual-3", 512),
    "openai": Model("openai", "text-embedding-3-small", 1536),
    "simulated": Model("simulated", "any-name", 768),
}
VALUES = {"GEMINI_API_KEY": "k", "OPENAI_API_KEY": "k", "EMBEDDING_SIMULATED_ALLOWED": "true"}


def rows(header: str) -> dict[str, list[str]]:
    """The cells of the table with this header, by the providers that the first cell of a row names."""
    table = PAGE.split(f"| provider | {header} |")[1].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {name: others for first, *others in cells for name in re.findall(r"`([a-z-]+)`", first)}


@pytest.mark.parametrize("header", ["what makes the vectors", "extra", "texts in a call"])
def test_each_table_has_every_provider(header: str) -> None:
    assert set(MODELS) == set(registered_providers())
    assert set(rows(header)) == set(MODELS)


def test_the_extras_are_those_that_the_providers_name_and_pyproject_has() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, (extra, *_) in rows("extra").items():
        assert extra.strip("`") == (registered_providers()[name].extra or "none")
        assert extra == "none" or extra.strip("`") in extras


def test_the_limits_of_a_call_and_of_a_text_are_those_of_the_providers() -> None:
    for name, (texts, longest, *_) in rows("texts in a call").items():
        made = registered_providers()[name].make(MODELS[name], VALUES)
        assert re.findall(r"^\d+", texts) == [str(made.max_texts)]
        assert re.findall(r"^[\d,]+ bytes", longest) == [f"{made.max_text_bytes:,} bytes"]


def test_task_types_are_said_where_a_provider_has_them() -> None:
    crd: Any = yaml.safe_load((ROOT / "crds" / "embeddingsources.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    enum = set(spec["model"]["properties"]["taskType"]["enum"])
    for name, (_, _, task_types, *_) in rows("texts in a call").items():
        named = set(re.findall(r"`([A-Z_]+)`", task_types))
        assert named == (enum if name in ("gemini", "google-genai") else set())


@pytest.mark.parametrize("manifest", re.findall(r"```yaml\n(model:.*?)```", PAGE, re.DOTALL))
def test_the_models_that_the_page_shows_can_be_parsed(manifest: str) -> None:
    shown = yaml.safe_load(manifest)["model"]
    spec = ModelSpec.model_validate(shown)
    assert spec.model().fingerprint.startswith(f"{spec.name}@{spec.dimensions}")
    assert spec.model_dump(by_alias=True, exclude_defaults=True).keys() == shown.keys()


def test_the_text_with_a_prefix_is_read_as_it_is_meant() -> None:
    (shown,) = re.findall(r"```yaml\n(text:.*?)```", PAGE, re.DOTALL)
    assert yaml.safe_load(shown) == {"text": "'passage: ' || concat_ws(' ', name, description)"}
