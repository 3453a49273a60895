"""Words that no text of the repository may contain, because they are unusual or ambiguous, and the words to use instead."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.repository import ROOT

WORDS = {
    r"mend(?:s|ed|ing)?": "fix, remedy or correct",
    r"anew": "again, or from scratch",
    r"for ever": "continuously, or without limit",
    r"whoever": "anyone who, or the person who",
    r"of (?:no )?use": "usable or unusable",
    r"nobody's": "not attributable",
    r"put(?:s|ting)? (?:down|away)": "release or close",
    r"at last": "finally",
    r"(?:tak(?:e|es|ing|en)|took) (?:no )?part": "counts towards, or participates",
    r"forsaken": "orphaned",
    r"halv(?:e|es|ed|ing)": "bisect or bisected",
    r"(?:(?:for|in|in the) )?company": "linger, or more items",
    r"in hand": "in flight",
    r"landed": "drained",
    r"due marks?": "change mark",
    r"charg(?:ed|ing)": "counts as an attempt, or failure attribution",
    r"twins?": "counterpart",
    r"providerbusy|provider busy": "ProviderThrottled",
}
"""Patterns of words, in lower case, and what to write instead. A space stands for any white space, also between comment lines."""
DATA = re.compile(r"(^|/)(LICENSE|go\.mod)$|\.(lock|sum|csv|png|svg|ico)$")
ALLOWED = {r"(?:(?:for|in|in the) )?company": re.compile(r"['\"][^'\"\n]*\bcompany\b[^'\"\n]*['\"]", re.IGNORECASE)}
"""A company may be the name of a business in a test's data, which is a quoted string."""
GAP = r"(?:[ \t_-]|\s*\n[ \t]*(?:#|//|--|\*)*[ \t]*)"


def compiled(words: str) -> re.Pattern[str]:
    """The whole words only; an underscore or a dash separates words too, as in a name of a test or a file."""
    return re.compile(rf"(?<![a-zA-Z])(?:{words.replace(' ', GAP)})(?![a-zA-Z])", re.IGNORECASE)


PATTERNS = {words: compiled(words) for words in WORDS}


def found_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Line (the first is 1), word, and what to write instead, for each word of the list in this text."""
    for words, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if words not in ALLOWED or not allowed(ALLOWED[words], text, match):
                yield line, " ".join(match[0].split()), WORDS[words]


def allowed(exception: re.Pattern[str], text: str, match: re.Match[str]) -> bool:
    begin, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
    line = text[begin : end if end >= 0 else len(text)]
    return any(begin + span.start() <= match.start() < begin + span.end() for span in exception.finditer(line))


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    this = str(Path(__file__).relative_to(ROOT))
    return [name for name in done.stdout.splitlines() if name != this and not DATA.search(name)]


def test_no_tracked_text_contains_a_word_of_the_list() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout, so no file is tracked")
    found = []
    for name in tracked():
        path = ROOT / name
        if not path.is_file():
            continue
        found += [f"{name}: {word} -> {plain}" for _, word, plain in found_in(name)]
        found += [
            f"{name}:{line}: {word} -> {plain}" for line, word, plain in found_in(path.read_text(errors="replace"))
        ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the value and the mend", "mend"),
        ("test_it_is_mended_later", "mended"),
        ("one\nat\n  # last two", "at # last"),
        ("due_marks", "due_marks"),
        ("a PROVIDER busy", "PROVIDER busy"),
        ("ProviderBusy", "ProviderBusy"),
        ("it waits for company", "for company"),
    ],
)
def test_a_word_of_the_list_is_found(text: str, word: str) -> None:
    assert [found for _, found, _ in found_in(text)] == [word]


@pytest.mark.parametrize(
    "text",
    ["recommended", "amendment", "a residue marks it", 'INSERT INTO t VALUES ("One company")', "hand in handler"],
)
def test_other_words_are_not_found(text: str) -> None:
    assert list(found_in(text)) == []
