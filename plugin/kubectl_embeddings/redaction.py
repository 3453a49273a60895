"""Removes what may be a secret from objects and texts before they are written into an archive for a bug report. Pure.

Called by report_archive.py. The value of a variable or an argument of a container is removed by its place, unless it is known to
be harmless; everything else is searched for the forms that URLs, keys and tokens have.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

REDACTED = "[redacted]"
SAFE_VARIABLES = re.compile(
    r"EMBEDDING_(?!.*(KEY|TOKEN|SECRET|PASSWORD|ENDPOINT|URL)(?!.*_FILE$)).*|[A-Z0-9_]+_FILE|REQUESTS_CA_BUNDLE|TZ|LANG|LC_ALL"
)
"""Settings of ours, and the places of files."""
SAFE_ARGUMENTS = frozenset({"run", "check", "backfill-worker", "embedding-operator"})
ARGUMENTS = frozenset({"args", "command"})
DROPPED = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""The second is a copy of the object, in a text."""
SHORTEST_LEARNED = 6
"""A shorter value of a variable, such as a number, is in too many other places."""
VALUE = r"""("[^"]*"|'[^']*'|[^\s"',;&)}\]]+)"""
FORMS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\bpostgres(ql)?://[^\s\"'<>]*", re.IGNORECASE),
    re.compile(r"(?<=://)[^\s\"'<>/@]+(?=@)"),
    re.compile(r"\bAIza[0-9A-Za-z_-]{10,}"),
    re.compile(r"\bsk-[0-9A-Za-z_-]{10,}"),
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{12,}"),
    re.compile(r"\b(gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[0-9A-Za-z_-]{10,}"),
    re.compile(r"\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}(\.[0-9A-Za-z_-]*)?"),
    re.compile(rf"(?<=\bbearer ){VALUE}", re.IGNORECASE),
    re.compile(r"(?<=\bbasic )[0-9A-Za-z+/=]{8,}", re.IGNORECASE),
)
NAMED = re.compile(
    rf"""(\b[\w.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|apikey|credential)s?["']?\s*[=:]\s*){VALUE}""",
    re.IGNORECASE,
)
"""A value behind a name that says what it is."""


class Redactor:
    """Redacts the parts of one archive. What is learned from one part is removed from all."""

    def __init__(self) -> None:
        self._learned: set[str] = set()
        self.removed = 0
        """How many values were removed."""

    def learn(self, node: Any) -> None:
        """Remember the values of variables in this object: a log or a message may repeat them."""
        self._learned |= {value for value in _variables(node) if len(value) >= SHORTEST_LEARNED}

    def text(self, text: str) -> str:
        for value in sorted(self._learned, key=len, reverse=True):
            if value in text:
                self.removed += text.count(value)
                text = text.replace(value, REDACTED)
        for form in FORMS:
            text, number = form.subn(REDACTED, text)
            self.removed += number
        text, number = NAMED.subn(lambda found: f"{found[1]}{REDACTED}", text)
        self.removed += number
        return text

    def tree(self, node: Any) -> Any:
        """The object without secrets, managed fields, and copies of itself."""
        match node:
            case Mapping():
                return {
                    self.text(key): self._value(key, value, node) for key, value in node.items() if key not in DROPPED
                }
            case list():
                return [self.tree(item) for item in node]
            case str():
                return self.text(node)
        return node

    def _value(self, key: str, value: Any, parent: Mapping[str, Any]) -> Any:
        if key in ARGUMENTS and isinstance(value, list):
            return [each if each in SAFE_ARGUMENTS else self._remove() for each in value]
        if is_named_value(key, parent) and not is_safe(parent):
            return self._remove()
        return self.tree(value)

    def _remove(self) -> str:
        self.removed += 1
        return REDACTED


def is_named_value(key: str, parent: Mapping[str, Any]) -> bool:
    """Whether this is the value of a variable or of a header."""
    return key == "value" and "name" in parent


def is_safe(variable: Mapping[str, Any]) -> bool:
    return SAFE_VARIABLES.fullmatch(str(variable["name"])) is not None


def _variables(node: Any) -> Iterator[str]:
    match node:
        case Mapping():
            if is_named_value("value", node) and isinstance(node.get("value"), str) and not is_safe(node):
                yield node["value"]
            for child in node.values():
                yield from _variables(child)
        case list():
            for child in node:
                yield from _variables(child)
