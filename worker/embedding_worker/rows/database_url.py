"""Reads a database URL as other tools write it, and makes the form of it that libpq accepts.

Called by database.py, and by the operator's settings. A message says what is wrong, and contains nothing of the URL except names
of parameters that cannot be a part of the password.
"""

import re
from difflib import get_close_matches

import psycopg
from psycopg import pq

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.url_parameters import SSL_MODES, named_elsewhere, tls_contradiction, translated

FORM = "write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
ENCODE = "percent-encode the special characters of its password (@ is %40, / is %2F, ? is %3F, # is %23, % is %25)"
ALONE = "give the URL alone, on one line"
# SQLAlchemy adds its driver, JDBC its own name; Rails, Django and PHP have names of their own for PostgreSQL.
SCHEME = re.compile(r"(?P<jdbc>jdbc:)?(postgres|postgresql|postgis|pgsql|psql)(\+\w+)?://", re.IGNORECASE)
# What is usually there in place of a URL, in the order in which it is looked for.
OTHER_FORMS = {
    r"[\"'`]": f"it is in quotes: {ALONE}",
    r"(export\s+)?[A-Za-z_]\w*\s*=\s*[\"']?(jdbc:|postgres)": f"a variable's name is before the URL: {ALONE}",
    r"psql\s": f"it is a command: {ALONE}",
    r"cG9zdGdyZ|amRiYzpw|aG9zdD": "it is in base64: give the URL itself (a Secret's `stringData` takes it as it is)",
    r"[^:/\s=]+:(\d+|\*):[^:]*:[^:]*:": "it is a line of a .pgpass file: use the Secret's key `uri`, if it has one, or "
    + FORM,
    r"(?i)(host|server|data source|user id|username)\s*=.*;": f"it is a connection string of .NET: {FORM}",
    r"(?i)jdbc:": f"it is a JDBC URL of another form than jdbc:postgresql://HOST:5432/DATABASE: {FORM}",
    r"[A-Za-z][\w+.-]*://": f"it does not begin with postgresql://: {FORM}",
}
# What libpq says of it, by the beginning of its message, which may go on with a part of the password.
LIBPQ = {
    "invalid percent-encoded": "a % in it begins no percent-encoding: write %25 for a % in its password",
    "forbidden value %00": "it contains %00, which PostgreSQL does not accept: correct it",
    "unexpected spaces": "it contains a space: write %20 for a space in its password",
    "missing key/value separator": f"one of the parameters behind its ? has no value: correct it, or {ENCODE}",
    "extra key/value separator": f"one of the parameters behind its ? has a second =: write %3D for it, or {ENCODE}",
    "end of string reached": f"the ] of an address in brackets is missing: correct it, or {ENCODE}",
    "unexpected character": f"something follows the ] of an address in brackets: correct it, or {ENCODE}",
    "IPv6 host address": f"its address in brackets is empty: correct it, or {ENCODE}",
    "unterminated quoted string": "a quote in it is not closed: write '…' around a value, and \\' for a quote in it",
    'missing "="': f"it is neither a URL nor a list of keyword=value, in which '…' is around values with spaces: {FORM}",
}


class UnusableUrl(SourceRefused):
    """No connection can be made with this database URL. The message ends with `problem`, a sentence."""

    def __init__(self, problem: str) -> None:
        super().__init__("DatabaseUrlInvalid", f"it is no database URL: {problem}")
        self.problem = problem


def libpq_url(given: str) -> str:
    """The URL, or list of keyword=value, that libpq accepts for this one. Raises UnusableUrl."""
    url = given.strip().removeprefix("\ufeff")
    _refuse_what_is_no_line(url)
    scheme = SCHEME.match(url)
    if scheme is None:
        for form, problem in OTHER_FORMS.items():
            if re.match(form, url):
                raise UnusableUrl(problem)
        is_list = re.match(r"(host|hostaddr|dbname|user|port|service)=\S", url)  # and not a password that ends in =
        _check_with_libpq(url, may_name=bool(is_list) and "password" not in url and "@" not in url)
        return url
    rest = url[scheme.end() :]
    may_name = _refuse_raw_characters(rest)
    before, mark, query = _split_query(rest)
    jdbc = scheme["jdbc"] is not None
    if (contradiction := tls_contradiction(query, jdbc=jdbc)) is not None:
        raise UnusableUrl(contradiction)
    read = f"postgresql://{before}{mark}{translated(query, jdbc=jdbc)}".removesuffix("?")
    _check_with_libpq(read, may_name=may_name)
    return read


def unusable_url(given: str) -> str | None:
    """Why no connection can be made with this database URL, in a sentence without the URL's secrets; None if one can."""
    try:
        libpq_url(given)
    except UnusableUrl as exc:
        return exc.problem
    return None


def _refuse_what_is_no_line(url: str) -> None:
    if len(url.splitlines()) > 1:
        raise UnusableUrl(f"it has several lines: {ALONE}")
    if any(character < " " or character == "\x7f" for character in url):
        raise UnusableUrl("it contains a control character, such as NUL or a tab: remove it")
    if any("\ud800" <= character <= "\udfff" for character in url):
        raise UnusableUrl("it is not UTF-8 text: correct its encoding")


def _split_query(rest: str) -> tuple[str, str, str]:
    """As libpq does: what is before an @ that no / precedes is user and password, whatever characters they contain."""
    user, at, others = rest.partition("@")
    if not at or "/" in user:
        return rest.partition("?")
    before, mark, query = others.partition("?")
    return f"{user}@{before}", mark, query


def _refuse_raw_characters(rest: str) -> bool:
    """Refuse a URL whose password is not percent-encoded. Returns whether no parameter can be a part of the password."""
    before, _, query = _split_query(rest)
    user, at, server = before.partition("@")
    if not at or "/" in user:
        user, server = "", before
    address, _, database = server.partition("/")
    if "@" in address:
        raise UnusableUrl(f"its password contains a raw @: {ENCODE}")
    if "@" in database:
        raise UnusableUrl(f"its password contains a raw / or @: {ENCODE}")
    ports = re.sub(r"\[.*?\]", "", address).split(",")
    if any(":" in port and not re.fullmatch(r"\d{0,5}", port.rpartition(":")[2]) for port in ports if "[" not in port):
        raise UnusableUrl(f"its port is no number: correct it, or {ENCODE}")
    return bool(user) and "@" not in query and "password" not in query


def _check_with_libpq(url: str, *, may_name: bool) -> None:
    try:
        options = pq.Conninfo.parse(url.encode())
    except psycopg.Error as exc:
        message = str(exc).strip()
    else:
        return _check_values({option.keyword.decode(): (option.val or b"").decode() for option in options})
    if unknown := re.match(r'invalid (?:URI query parameter:|connection option) "(.*)"', message, re.DOTALL):
        raise UnusableUrl(_unknown(unknown[1], may_name=may_name))
    raise UnusableUrl(next((said for begin, said in LIBPQ.items() if message.startswith(begin)), FORM))


def _unknown(parameter: str, *, may_name: bool) -> str:
    if (remedy := named_elsewhere(parameter)) is not None:
        return f"libpq does not know its parameter {parameter}: {remedy}"
    keywords = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
    if meant := get_close_matches(parameter, keywords, n=1, cutoff=0.85):
        return f"libpq does not know its parameter {parameter}: write {meant[0]}"
    if may_name and re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", parameter, re.ASCII):
        return f"libpq does not know its parameter {parameter}: remove it"
    return f"libpq does not know one of its parameters: remove it, or {ENCODE}"


def _check_values(values: dict[str, str]) -> None:
    if not all(re.fullmatch(r"\d{0,5}", port) for port in values["port"].split(",")):
        raise UnusableUrl("its port is no number: correct it")
    if values["sslmode"] and values["sslmode"] not in SSL_MODES:
        raise UnusableUrl(f"its sslmode is unknown: write one of {', '.join(SSL_MODES)}")
