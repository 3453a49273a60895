"""The sizes of the operator's code stay within limits: short modules and functions, few parameters and imports."""

from pathlib import Path

import pytest

from hack.sizes import Distribution, FunctionSize, ModuleSize, largest, measured, table

MODULES = Distribution(median=110, p90=213, largest=284)
FUNCTIONS = Distribution(median=6, p90=18, largest=49)
MOST_PARAMETERS = 8
MOST_IMPORTS = 12


@pytest.fixture(scope="module")
def modules() -> list[ModuleSize]:
    return measured()


@pytest.fixture(scope="module")
def functions(modules: list[ModuleSize]) -> list[FunctionSize]:
    return [function for module in modules for function in module.functions]


def exceeded(found: Distribution, limit: Distribution) -> list[str]:
    return [
        f"{name}: {getattr(found, name)} is more than {getattr(limit, name)}"
        for name in ("median", "p90", "largest")
        if getattr(found, name) > getattr(limit, name)
    ]


def test_modules_are_short(modules: list[ModuleSize]) -> None:
    assert exceeded(Distribution.of([module.lines for module in modules]), MODULES) == []


def test_functions_are_short(functions: list[FunctionSize]) -> None:
    assert exceeded(Distribution.of([function.lines for function in functions]), FUNCTIONS) == []


def test_functions_have_few_parameters(functions: list[FunctionSize]) -> None:
    assert [function for function in functions if function.parameters > MOST_PARAMETERS] == []


def test_every_module_imports_few_others(modules: list[ModuleSize]) -> None:
    assert [(module.path, sorted(module.imports)) for module in modules if len(module.imports) > MOST_IMPORTS] == []


def test_the_table_names_the_largest_of_each(modules: list[ModuleSize]) -> None:
    lines = table(modules).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:6]] == [
        "| lines of a module",
        "| lines of a function",
        "| parameters of a function",
        "| imports of own modules",
    ]
    assert largest(modules).path in lines[2]


def test_lines_parameters_and_imports_are_counted(tmp_path: Path) -> None:
    package = tmp_path / "one"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "names.py").write_text("NAME = 1\n")
    (package / "work.py").write_text(
        "from one import names\nfrom one.names import NAME\nimport os\n\n\n"
        "class Worker:\n    def run(self, first, *rest, last=NAME, **more):\n        return names, os\n"
    )
    (module,) = measured([package])
    assert (module.lines, set(module.imports)) == (8, {"one.names"})
    assert [(function.lines, function.parameters) for function in module.functions] == [(2, 4)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7], Distribution(7, 7, 7)), ([*range(1, 12)], Distribution(6, 10, 11)), ([1, 2], Distribution(1, 1, 2))],
)
def test_a_distribution_has_values_that_occur(values: list[int], expected: Distribution) -> None:
    assert Distribution.of(values) == expected
