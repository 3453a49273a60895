"""Forms what the verbs print: tables, durations, paragraphs, JSON and YAML. Pure.

Without a terminal nothing is shortened or wrapped, so that each row of a table is one line for grep and awk.
"""

import json
import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import yaml

from embedding_operator.resources import GROUP, VERSION

GAP = "  "
NARROWEST = 8
"""A column is not made narrower than this."""
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class Format(StrEnum):
    JSON = "json"
    YAML = "yaml"


@dataclass(frozen=True)
class Screen:
    """Where a verb prints what was asked for (`emit`) and what is beside that (`note`), and in which form."""

    emit: Callable[[str], None]
    note: Callable[[str], None]
    width: int | None = None
    """The columns of the terminal; None where the output goes elsewhere."""
    format: Format | None = None
    """None: for people."""


def printable(text: str) -> str:
    """Without characters that change what a terminal shows or does: they are written as in Python, `\\x1b` or `\\u202e`.

    Line breaks remain, and every kind of space.
    """
    return "".join(char if char == "\n" or _is_shown(char) else ascii(char)[1:-1] for char in text)


def _is_shown(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def one_line(text: str) -> str:
    """A text of the cluster, printable, and without line breaks of its own."""
    return printable(" ".join(text.split()))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> str:
    """The rows below their headers. Where they are too wide, the widest columns are shortened, with an ellipsis."""
    lines = [list(headers), *[[one_line(cell) for cell in row] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    if width is not None:
        widths = _narrowed(widths, width - len(GAP) * (len(widths) - 1))
    return "\n".join(
        GAP.join(_cell(text, size) for text, size in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _narrowed(widths: Sequence[int], room: int) -> list[int]:
    narrowed = list(widths)
    while sum(narrowed) > room and max(narrowed) > NARROWEST:
        narrowed[narrowed.index(max(narrowed))] -= 1
    return narrowed


def _cell(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[: size - 1]}…"


def paragraph(text: str, *, width: int | None = None, indent: str = "  ") -> str:
    """The text in lines of this width, each indented; the second and further ones by two more."""
    plain = one_line(text)
    if width is None:
        return f"{indent}{plain}"
    return textwrap.fill(
        plain,
        max(width, 20),
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(passed: timedelta | None) -> str:
    """As kubectl writes an age: 45s, 12m, 3h, 2d; empty for None."""
    if passed is None:
        return ""
    seconds = max(0, int(passed.total_seconds()))
    unit = next((unit for unit in UNITS if seconds >= 2 * UNITS[unit]), "s")
    return f"{seconds // UNITS[unit]}{unit}"


def parsed_duration(text: str) -> timedelta:
    """30s, 15m, 2h, 1d or a sum such as 1h30m. Raises ValueError."""
    if not re.fullmatch(r"(\d+[dhms])+", text):
        raise ValueError(f"{text!r} is no duration: write 30s, 15m, 2h, 1d or 1h30m")
    return timedelta(seconds=sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)([dhms])", text)))


def objects(kind: str, bodies: Sequence[Mapping[str, Any]], output: Format) -> str:
    """Custom resources as `kubectl get -o` prints them: one list, without the managed fields."""
    items = [{"apiVersion": f"{GROUP}/{VERSION}", "kind": kind} | without_managed_fields(body) for body in bodies]
    return document({"apiVersion": "v1", "kind": "List", "items": items}, output)


def document(content: Any, output: Format) -> str:
    if output is Format.JSON:
        return json.dumps(content, indent=2, ensure_ascii=False)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip()


def without_managed_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return dict(body) | {"metadata": metadata}
