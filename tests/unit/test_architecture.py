"""docs/architecture.md names every module of the worker and of the operator."""

from collections import Counter

import pytest

from hack.repository import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = (
    ROOT / "worker" / "embedding_worker",
    ROOT / "operator" / "embedding_operator",
    ROOT / "plugin" / "kubectl_embeddings",
)
MODULES = [path for package in PACKAGES for path in sorted(package.rglob("*.py")) if path.name != "__init__.py"]
NAMES = Counter(path.name for path in MODULES)


def is_named(module: str) -> bool:
    name = module.rpartition("/")[2]
    return f"`{module}`" in PAGE or (NAMES[name] == 1 and f"`{name}`" in PAGE)


@pytest.mark.parametrize("module", [str(path.relative_to(ROOT)) for path in MODULES])
def test_each_module_is_named_by_its_path_or_by_a_name_that_no_other_has(module: str) -> None:
    assert is_named(module)
