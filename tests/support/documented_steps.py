"""Reads the steps of a section of a document in their order: SQL, manifests, and commands of kubectl. Runs nothing.

Called by the journeys of docs/migrating.md and docs/model-change.md, which run what these pages say.
"""

import re
import textwrap
from dataclasses import dataclass
from enum import StrEnum

FENCED = re.compile(r"^ *```(sql|yaml)\n(.*?)^ *```|^ {4,}(kubectl .*?)$", re.MULTILINE | re.DOTALL)


class Kind(StrEnum):
    SQL = "sql"
    MANIFEST = "yaml"
    COMMAND = "kubectl"


@dataclass(frozen=True)
class DocumentedStep:
    kind: Kind
    text: str


def section(page: str, heading: str) -> str:
    """The text under this heading, up to the next one of the same level."""
    (found,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return str(found)


def steps(page: str, heading: str) -> list[DocumentedStep]:
    """The steps of this section."""
    return [
        DocumentedStep(Kind.COMMAND, command) if command else DocumentedStep(Kind(language), textwrap.dedent(block))
        for language, block, command in FENCED.findall(section(page, heading))
    ]
