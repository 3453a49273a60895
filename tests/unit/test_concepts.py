"""docs/concepts.md defines each term of the project's own, and the other pages link a term where they first use it."""

import re
from pathlib import Path

import pytest

from hack.repository import ROOT

CONCEPTS = ROOT / "docs" / "concepts.md"
TERMS = {
    "source": r"sources?",
    "change-mark": r"change marks?",
    "due": r"due(?! to\b)",
    "up-to-date": r"up to date",
    "fresh": r"fresh",
    "freshness-target": r"freshness targets?",
    "fingerprint": r"fingerprints?",
    "adopt": r"adopt(?:s|ed)?",
    "sweep": r"sweeps?",
    "audit": r"audits?",
    "window": r"windows?",
    "backfill": r"backfills?",
    "linger": r"linger",
    "throttle": r"throttled?",
    "canary": r"canar(?:y|ies)",
    "circuit": r"circuits?",
    "in-flight": r"in flight",
    "drained": r"drain(?:ed|s)",
    "bisect": r"bisect(?:ed|s)?",
    "failure-attribution": r"failure attribution",
    "dead-letter": r"dead letters?",
    "replay": r"replay(?:s|ed)?",
    "superseded": r"superseded?s?",
    "orphaned-job": r"orphaned jobs?",
    "cohort": r"cohorts?",
    "leader": r"leaders?",
    "standby": r"(?<!synchronous )standbys?",
    "lease": r"leases?",
}
"""The anchor of each term, and the pattern of its uses."""
PAGES = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path != CONCEPTS)]
CODE = re.compile(r"^```.*?^```|^ {4,}.*?$|^#.*?$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)]*)\)")


def prose(text: str) -> str:
    """The text in one line, without code, headings and links to other places than the concepts."""
    without_code = CODE.sub(" ", text)
    return " ".join(LINK.sub(lambda link: link[0] if "concepts.md#" in link[2] else " ", without_code).split())


def linked_first(anchor: str, pattern: str, text: str) -> bool:
    """Whether the first use of a term is a link to its definition, or the term is not used."""
    links = [(link.span(1), link[2].partition("#")[2]) for link in LINK.finditer(text)]
    targets = [link.span(2) for link in LINK.finditer(text)]
    for use in re.finditer(rf"\b{pattern}\b", text, re.IGNORECASE):
        if any(start <= use.start() < end for start, end in targets):
            continue
        return any(start <= use.start() < end and target == anchor for (start, end), target in links)
    return True


def sections() -> dict[str, str]:
    """The definitions in docs/concepts.md by their anchors."""
    parts = re.split(r"^## (.*)$", CONCEPTS.read_text(), flags=re.MULTILINE)[1:]
    return {heading.lower().replace(" ", "-"): body for heading, body in zip(parts[::2], parts[1::2], strict=True)}


def test_every_term_is_defined() -> None:
    assert set(TERMS) - set(sections()) == set()


def test_the_list_at_the_top_has_every_term_once() -> None:
    listed = re.findall(r"\]\(#([\w-]+)\)", CONCEPTS.read_text().partition("\n## ")[0])
    assert sorted(listed) == sorted(sections())


@pytest.mark.parametrize("anchor", sections())
def test_a_definition_has_two_sentences(anchor: str) -> None:
    text = CODE.sub("Code", " ".join(sections()[anchor].split()))
    assert len(re.findall(r"[.](?= [A-Z]|$)", text.strip())) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
@pytest.mark.parametrize(("anchor", "pattern"), TERMS.items(), ids=TERMS)
def test_a_term_is_linked_where_a_page_first_uses_it(page: Path, anchor: str, pattern: str) -> None:
    assert linked_first(anchor, pattern, prose(page.read_text()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A [sweep](docs/concepts.md#sweep) and a sweep", True),
        ("A sweep and a [sweep](docs/concepts.md#sweep)", False),
        ("A [sweep](docs/concepts.md#audit)", False),
        ("No term of ours", True),
    ],
)
def test_only_a_link_at_the_first_use_counts(text: str, expected: bool) -> None:
    assert linked_first("sweep", TERMS["sweep"], text) is expected
