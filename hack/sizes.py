"""The sizes of the operator's code: modules, functions, parameters and imports, computed from the syntax trees.

`python -m hack.sizes` prints them as a table. A test compares the figures with the limits. Reads files only.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.repository import ROOT

PACKAGES = (
    ROOT / "worker" / "embedding_worker",
    ROOT / "operator" / "embedding_operator",
    ROOT / "plugin" / "kubectl_embeddings",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class FunctionSize:
    """A function by its place, such as `rows/store.py:clear`, with its lines (signature and docstring included)."""

    place: str
    lines: int
    parameters: int
    """Without `self` and `cls`."""


@dataclass(frozen=True)
class ModuleSize:
    """A module by its path in the repository."""

    path: str
    lines: int
    imports: frozenset[str]
    """The modules of the three packages that it imports."""
    functions: tuple[FunctionSize, ...]


@dataclass(frozen=True)
class Distribution:
    median: int
    p90: int
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> "Distribution":
        ordered = sorted(values)
        return cls(_quantile(ordered, 0.5), _quantile(ordered, 0.9), ordered[-1])

    def __str__(self) -> str:
        return f"{self.median} / {self.p90} / {self.largest}"


def _quantile(ordered: Sequence[int], share: float) -> int:
    """The value at this share of the way through the ordered values, rounded down to a value that occurs."""
    return ordered[int(share * (len(ordered) - 1))]


def measured(packages: Sequence[Path] = PACKAGES) -> list[ModuleSize]:
    """The sizes of all modules that define a function or a class, by path. Others only hold constants or imports."""
    files = [file for package in packages for file in sorted(package.rglob("*.py"))]
    known = {_module_name(file, package) for package in packages for file in sorted(package.rglob("*.py"))}
    return [_module(file, known) for file in files if _defines_something(file)]


def _defines_something(file: Path) -> bool:
    return any(isinstance(node, Function | ast.ClassDef) for node in ast.walk(ast.parse(file.read_text())))


def _module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(file: Path, known: set[str]) -> ModuleSize:
    text = file.read_text()
    tree = ast.parse(text)
    path = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else file.name
    functions = tuple(_function(path, node) for node in ast.walk(tree) if isinstance(node, Function))
    return ModuleSize(path, len(text.splitlines()), frozenset(_imported(tree, known)), functions)


def _function(path: str, node: Function) -> FunctionSize:
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    given += [extra for extra in (node.args.vararg, node.args.kwarg) if extra is not None]
    parameters = sum(argument.arg not in ("self", "cls") for argument in given)
    return FunctionSize(f"{path}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1, parameters)


def _imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """The known modules that a tree imports, also where a module is imported from its package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & known
            yield from below or {node.module} & known


def largest(modules: Sequence[ModuleSize]) -> ModuleSize:
    return max(modules, key=lambda module: module.lines)


def table(modules: Sequence[ModuleSize]) -> str:
    """The figures as a table, in Markdown."""
    functions = [function for module in modules for function in module.functions]
    most = max(functions, key=lambda function: function.parameters)
    longest = max(functions, key=lambda function: function.lines)
    widest = max(modules, key=lambda module: len(module.imports))
    module = largest(modules)
    rows = [
        ("lines of a module", Distribution.of([module.lines for module in modules]), f"`{module.path}`"),
        ("lines of a function", Distribution.of([function.lines for function in functions]), f"`{longest.place}`"),
        (
            "parameters of a function",
            Distribution.of([function.parameters for function in functions]),
            f"`{most.place}`",
        ),
        ("imports of own modules", Distribution.of([len(module.imports) for module in modules]), f"`{widest.path}`"),
    ]
    head = ["| of worker and operator | median / p90 / largest | the largest |", "| --- | --- | --- |"]
    last = f"The largest module imports {len(module.imports)} of the project's own modules."
    return "\n".join([*head, *(f"| {what} | {size} | {where} |" for what, size, where in rows), "", last])


if __name__ == "__main__":
    print(table(measured()))
