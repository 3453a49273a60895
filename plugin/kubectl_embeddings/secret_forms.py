"""Finds what may be a secret in a text, by the name in front of it or by its own form. Pure; called by redaction.py.

Every search takes time in proportion to the text, whatever the text is: the logs that it reads may contain anything. Where the
end of a secret is not certain, more is removed rather than less.
"""

import re
from collections.abc import Callable

REDACTED = "[redacted]"
WORDS = (
    r"(?:passw(?:or)?d|passphrase|pwd|secret|token|apikey|credential|authorization|cookie|connection[_-]?string"
    r"|(?:api|access|account|auth|client|encryption|license|master|private|secret|shared|signing|subscription)[_.-]?key"
    r"|(?:(?<![a-z])(?:pass|auth|dsn)|(?-i:(?<=[a-z])(?:Pass|Auth|Dsn|DSN))))s?"
)
"""What the name of a secret contains."""
TELLING = re.compile(WORDS, re.IGNORECASE)
REFERENCE = re.compile(r"(?:name|namespace|ref|file|path|dir|type|version|mode|seconds|policy)$", re.IGNORECASE)
"""How a name ends that is of a place, and of no value."""
ENDING = r"(?:[_.-]?(?:\d+|old|new|primary|secondary|value|base64|b64))?"
NAMED = re.compile(rf"""({WORDS}){ENDING}\\*["']?\s*[=:>]+\s*""", re.IGNORECASE)
WITHOUT_SIGN = re.compile(
    rf"""(?:\bpassw(?:or)?d\s+(?=\\*["'])|(?<![\w-])--?[\w-]{{0,60}}{WORDS}{ENDING}\s+)""", re.IGNORECASE
)
"""As in `PASSWORD 'x'` of SQL and `--password x` of a command."""
WHOLE_LINE = re.compile(r"authorization|cookie", re.IGNORECASE)
OPENED = re.compile(r"""(\\*)(["'])""")
UNQUOTED = re.compile(r"""(?:[^\s"'&\\]|\\(?!["'])|["'](?=\w)|&(?!\w+=))+""")
REST_OF_LINE = re.compile(r"""(?:[^\r\n"'\\]|\\(?!["'])|["'](?=\w|,\s*\w+=))+""")
LISTED = re.compile(r"[\[{][^\]}]{0,4000}[\]}]?")
QUOTES = {quote: re.compile(rf"(\\*)({quote}+)") for quote in ("'", '"')}
LONGEST_QUOTED = 4096
URL = re.compile(r"""(?<![\w+.-])([\w+.-]*)://((?:[^\s"'<>]|["'<>](?=\w))*)""")
FORMS = (
    re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z ]*PRIVATE KEY( BLOCK)?-----|\Z)", re.DOTALL
    ),
    re.compile(r"(?<![\w.-])(AIza|AQ\.|ya29\.|GOCSPX-)[0-9A-Za-z_.-]{10,}"),
    re.compile(r"(?<![\w-])(sk-|gsk_|xai-|hf_|[sr]k_(?:live|test)_)[0-9A-Za-z_-]{10,}"),
    re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{12,}"),
    re.compile(r"\b(gh[pousr]_|github_pat_|glpat-|xox[abprs]-)[0-9A-Za-z_-]{10,}"),
    re.compile(r"(?<![0-9A-Za-z_-])eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}(\.[0-9A-Za-z_-]*)?"),
    re.compile(r"""(?<=\bbearer )[^\s"',;]+""", re.IGNORECASE),
    re.compile(r"(?<=\bbasic )[0-9A-Za-z+/=_-]{8,}", re.IGNORECASE),
    re.compile(r"""(?<=[?&]key=)[^\s"'&#]+""", re.IGNORECASE),
    re.compile(r"""(?<=[?&]sig=)[^\s"'&#]+""", re.IGNORECASE),
)


def is_telling(name: str) -> bool:
    """Whether the value of this name, such as the key of a mapping, may be a secret."""
    return TELLING.search(name) is not None and REFERENCE.search(name) is None


def without_secrets(text: str) -> tuple[str, int]:
    """The text, and how many secrets were removed."""
    text, named = _without_values(text, NAMED)
    text, unsigned = _without_values(text, WITHOUT_SIGN)
    text, users = _replaced(URL, _without_user, text)
    number = named + unsigned + users
    for form in FORMS:
        text, found = form.subn(REDACTED, text)
        number += found
    return text, number


def _replaced(pattern: re.Pattern[str], change: Callable[[re.Match[str]], str], text: str) -> tuple[str, int]:
    number = 0

    def changed(found: re.Match[str]) -> str:
        nonlocal number
        replacement = change(found)
        number += replacement != found[0]
        return replacement

    return pattern.sub(changed, text), number


def _without_user(url: re.Match[str]) -> str:
    """A password may contain a slash and an @. A URL of a database is removed as a whole: it may have one in its query too."""
    if url[1].lower().startswith("postgres"):
        return REDACTED
    user, at, host = url[2].rpartition("@")
    return f"{url[1]}://{REDACTED}@{host}" if at and user != REDACTED else url[0]


def _without_values(text: str, names: re.Pattern[str]) -> tuple[str, int]:
    parts, done, number = [], 0, 0
    while found := names.search(text, done):
        start, end = _value(text, found)
        value = text[start:end]
        parts += [text[done:start], REDACTED if value else ""]
        number += value not in ("", REDACTED)
        done = end
    return "".join([*parts, text[done:]]), number


def _value(text: str, name: re.Match[str]) -> tuple[int, int]:
    """Where the value behind this name begins and ends, without its quotes."""
    at = name.end()
    if opened := OPENED.match(text, at):
        return opened.end(), _closing(text, opened)
    form = REST_OF_LINE if WHOLE_LINE.search(name[0]) else UNQUOTED
    listed = None if text.startswith(REDACTED, at) else LISTED.match(text, at)
    found = listed or form.match(text, at)
    return at, found.end() if found else at


def _closing(text: str, opened: re.Match[str]) -> int:
    """The quote that ends it. Without one, it ends with the line."""
    depth = (len(opened[1]) + 1).bit_length() - 1
    for found in QUOTES[opened[2]].finditer(text, opened.end(), opened.end() + LONGEST_QUOTED):
        if opened[2] == '"' and _ends_json(len(found[1]), depth):
            return found.start() + len(found[1]) - min(len(found[1]), len(opened[1]))
        if opened[2] == "'" and len(found[1]) <= len(opened[1]) and len(found[2]) % 2:
            return found.end() - 1 - (len(found[1]) if len(found[2]) == 1 else 0)
    line_end = text.find("\n", opened.end())
    return line_end if line_end >= 0 else len(text)


def _ends_json(backslashes: int, depth: int) -> bool:
    """Whether a quote behind so many backslashes ends a text that is a JSON string in so many others."""
    for _ in range(depth):
        if backslashes % 2 == 0:
            return True  # it ends the outer one
        backslashes //= 2
    return backslashes % 2 == 0
