"""Makes a page of docs/, which is written for GitHub, one that mkdocs understands. Called by mkdocs for each page (mkdocs.yml).

Two things differ: a link to a file outside of docs/ leads to GitHub, because the site has no such page; and what belongs to an
item of a list is indented by four columns, where GitHub wants as many as the item's marker has.
"""

import os
import re
from pathlib import Path
from typing import Any

from hack.repository import ROOT

REPOSITORY = "https://github.com/yellowbook-dev/embedding-operator"
OUTSIDE = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")
ITEM = re.compile(r"(?:[-*]|\d+\.) +")
FENCE = "```"
WANTED_INDENT = 4


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """mkdocs calls this with the text of a page, and goes on with what it returns."""
    return indented_lists(with_links_to_the_repository(markdown, Path(page.file.abs_src_path).parent))


def with_links_to_the_repository(markdown: str, folder: Path) -> str:
    """A link that leads nowhere stays as it is, so that the strict build refuses it."""

    def link(found: re.Match[str]) -> str:
        path = Path(os.path.normpath(folder / found[1]))
        if not path.exists() or not path.is_relative_to(ROOT):
            return found[1]
        return f"{REPOSITORY}/{'tree' if path.is_dir() else 'blob'}/main/{path.relative_to(ROOT)}"

    return OUTSIDE.sub(link, markdown)


def indented_lists(markdown: str) -> str:
    lines: list[str] = []
    item, fenced = 0, False
    for line in markdown.splitlines():
        if line.startswith(FENCE):
            item, fenced = 0, not fenced
        if fenced:
            lines.append(line)
            continue
        item = _item_around(line, item)
        lines.append(_moved(line, item))
    return "\n".join(lines) + "\n"


def _item_around(line: str, item: int) -> int:
    """The indent of what belongs to the item of this line; 0 outside of a list. A fence in an item is indented itself."""
    if marker := ITEM.match(line):
        return len(marker[0])
    return 0 if line and not line.startswith(" ") else item


def _moved(line: str, item: int) -> str:
    indented = item and line.startswith(" " * item)
    return " " * (WANTED_INDENT - item) + line if indented else line
