"""Removes what may be a secret from objects and texts before they are written into an archive for a bug report. Pure.

Called by report_archive.py. The value of a variable, of an argument of a container, and of a key that says that it is a secret is
removed by its place, and then wherever it is repeated; everything else is searched for the forms that secret_forms.py knows.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kubectl_embeddings.secret_forms import REDACTED, is_telling, without_secrets

SAFE_VARIABLES = frozenset(
    {
        "EMBEDDING_API_KEYS",
        "EMBEDDING_AUDIT_ROWS_PER_SECOND",
        "EMBEDDING_FINISHED_JOB_SECONDS",
        "EMBEDDING_HTTP_PORT",
        "EMBEDDING_INTERVAL_SECONDS",
        "EMBEDDING_LOCAL_PORT",
        "EMBEDDING_LOG_FORMAT",
        "EMBEDDING_LOG_LEVEL",
        "EMBEDDING_MAX_FINISHED_JOBS",
        "EMBEDDING_MAX_OPEN_JOBS",
        "EMBEDDING_NAMESPACE",
        "EMBEDDING_POD_NAME",
        "EMBEDDING_PRICE_PER_MILLION_TOKENS",
        "EMBEDDING_SERVE_CACHED_VECTORS",
        "EMBEDDING_SERVE_TEXTS_PER_MINUTE",
        "REQUESTS_CA_BUNDLE",
        "SSL_CERT_FILE",
        "TZ",
        "LANG",
        "LC_ALL",
    }
)
"""These keep their values; and those of a name that ends with _FILE, if it is a path."""
PATH = re.compile(r"/[\w./-]*")
SAFE_ARGUMENTS = frozenset({"run", "check", "backfill-worker", "serve", "embedding-operator"})
ARGUMENTS = frozenset({"args", "command"})
DROPPED = frozenset({"managedFields", "kubectl.kubernetes.io/last-applied-configuration"})
"""The second is a copy of the object, in a text."""
REFERENCES = frozenset({"name", "namespace", "kind", "key", "path", "secretName", "apiVersion", "apiGroup", "audience"})
"""What an object below a telling key says of a Secret, such as `secretName` of a volume."""
SHORTEST_LEARNED = 6
"""A shorter value, such as a number, is in too many other places."""
WORD = re.compile(r"""[^\s=,;"']+""")
PLAIN = re.compile(r"-.*|[a-z-]+|[A-Z_-]+|/[\w./-]*")
"""Words of an argument that are options, names or paths: learning them would remove the same words everywhere."""


class Redactor:
    """Redacts the parts of one archive. What is learned from one part is removed from all."""

    def __init__(self) -> None:
        self._learned: tuple[str, ...] = ()
        self.removed = 0
        """How many values were removed."""

    def learn(self, node: Any) -> None:
        """Remember the values that are removed from this object by their place: a log or a message may repeat them."""
        found = {form for value in removed_by_place(node) for form in forms_of(value) if len(form) >= SHORTEST_LEARNED}
        self._learned = tuple(sorted({*self._learned, *found} - SAFE_ARGUMENTS, key=len, reverse=True))

    def text(self, text: str) -> str:
        for value in self._learned:
            if value in text:
                self.removed += text.count(value)
                text = text.replace(value, REDACTED)
        text, number = without_secrets(text)
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
        return self._below_telling(value) if is_telling(key) else self.tree(value)

    def _below_telling(self, value: Any) -> Any:
        match value:
            case Mapping():
                return {
                    self.text(key): self.tree(one) if key in REFERENCES else self._below_telling(one)
                    for key, one in value.items()
                    if key not in DROPPED
                }
            case list():
                return [self._below_telling(item) for item in value]
            case str() if value:
                return self._remove()
        return value

    def _remove(self) -> str:
        self.removed += 1
        return REDACTED


def is_named_value(key: str, parent: Mapping[str, Any]) -> bool:
    """Whether this is the value of a variable or of a header."""
    return key == "value" and "name" in parent


def is_safe(variable: Mapping[str, Any]) -> bool:
    name, value = str(variable["name"]), str(variable.get("value"))
    return name in SAFE_VARIABLES or (name.endswith("_FILE") and PATH.fullmatch(value) is not None)


def forms_of(value: str) -> Iterator[str]:
    """The value as a log may repeat it: as it is, line by line, in JSON, in a URL and in base64."""
    yield from (value, value.strip(), *(line.strip() for line in value.splitlines()))
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode()


def removed_by_place(node: Any, *, telling: bool = False) -> Iterator[str]:
    """The texts that `tree` removes because of where they are."""
    match node:
        case Mapping():
            for key, value in node.items():
                if key in ARGUMENTS and isinstance(value, list):
                    yield from secrets_in([str(each) for each in value])
                elif is_named_value(key, node) and not is_safe(node):
                    yield str(value)
                elif key not in DROPPED:
                    yield from removed_by_place(value, telling=is_telling(key) or (telling and key not in REFERENCES))
        case list():
            for child in node:
                yield from removed_by_place(child, telling=telling)
        case str() if telling:
            yield node


def secrets_in(arguments: Sequence[str]) -> Iterator[str]:
    """What may be a secret in these: the value of each option, and the arguments and their words that are no plain ones."""
    if arguments and arguments[0] == "backfill-worker":
        return  # ours: the name of a source and a number, which other parts of the report are about
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if argument in SAFE_ARGUMENTS:
            continue
        option, _, value = argument.partition("=")
        if option.startswith("-"):
            yield value
        elif before.startswith("-") or PLAIN.fullmatch(argument) is None:
            yield argument
        yield from (word for word in WORD.findall(argument) if PLAIN.fullmatch(word) is None)
