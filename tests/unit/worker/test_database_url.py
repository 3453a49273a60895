"""Database URLs as other tools write them: understood, or refused with the form that is right, and never shown."""

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from embedding_worker.rows.database_url import UnusableUrl, libpq_url, unusable_url

FORM = "write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
ENCODE = "percent-encode the special characters of its password"
NEITHER = f"it is neither a URL nor a list of keyword=value, in which '…' is around values with spaces: {FORM}"
MARKER = "S3cr3tMARKER"
PARTS = {"user": "app", "password": "p@ss", "host": "db.example", "port": "5433", "dbname": "book"}


@pytest.mark.parametrize(
    ("given_url", "parameters"),
    [
        ("postgresql://app:p%40ss@db.example:5433/book", {}),
        ("postgres://app:p%40ss@db.example:5433/book?sslmode=require", {"sslmode": "require"}),
        ("postgresql+psycopg://app:p%40ss@db.example:5433/book", {}),
        ("postgresql+asyncpg://app:p%40ss@db.example:5433/book?ssl=verify-full", {"sslmode": "verify-full"}),
        ("postgres+psycopg2://app:p%40ss@db.example:5433/book", {}),
        ("POSTGRESQL://app:p%40ss@db.example:5433/book", {}),
        ("postgis://app:p%40ss@db.example:5433/book?pool=5&prepared_statements=false&encoding=unicode", {}),
        ("jdbc:postgresql://db.example:5433/book?password=p%40ss&user=app", {}),
        (
            "jdbc:postgresql://db.example:5433/book?user=app&password=p%40ss&ssl=true&currentSchema=a&ApplicationName=b",
            {"sslmode": "verify-full"},
        ),
        (
            "postgresql://app:p%40ss@db.example:5433/book?schema=public&connection_limit=5&pgbouncer=true&sslaccept=strict",
            {"sslmode": "verify-full"},
        ),
        ("postgresql://app:p%40ss@db.example:5433/book?sslaccept=accept_invalid_certs", {"sslmode": "require"}),
        ("postgresql://app:p%40ss@db.example:5433/book?conn_max_age=600&ssl=true", {"sslmode": "require"}),
        ("postgresql://app:p%40ss@db.example:5433/book?ssl=false&pool_max_conns=10", {"sslmode": "disable"}),
        ("postgresql://app:p%40ss@db.example:5433/book?application_name=x", {"application_name": "x"}),
        ("host=db.example port=5433 dbname=book user=app password=p@ss", {}),
        ("host='db.example' port=5433 dbname=book user=app password='p@ss' sslmode=prefer", {"sslmode": "prefer"}),
        ("\ufeffpostgresql://app:p%40ss@db.example:5433/book\r\n", {}),
        ("  postgresql://app:p%40ss@db.example:5433/book\n", {}),
    ],
)
def test_a_url_of_another_tool_is_understood(given_url: str, parameters: dict[str, str]) -> None:
    assert conninfo_to_dict(libpq_url(given_url)) == PARTS | parameters


@pytest.mark.parametrize(
    ("query", "sslmode"),
    [
        ("sslmode=verify-full&ssl=true", "verify-full"),
        ("ssl=true&sslmode=verify-full", "verify-full"),
        ("sslmode=require&ssl=1", "require"),
        ("sslmode=prefer&ssl=false", "prefer"),
        ("sslmode=disable&ssl=false", "disable"),
        ("ssl=verify-ca&sslmode=verify-ca", "verify-ca"),
        ("sslmode=verify-full&sslaccept=strict", "verify-full"),
        ("sslmode=disable&sslaccept=accept_invalid_certs", "disable"),
        ("sslaccept=strict&ssl=true", "verify-full"),
        ("ssl=true&sslaccept=strict", "verify-full"),
        ("ssl=true&sslaccept=accept_invalid_certs", "require"),
        ("ssl=true&%73slmode=verify-ca", "verify-ca"),
        ("sslmode=require&sslmode=require", "require"),
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg"])
def test_sslmode_decides_where_other_parameters_agree_with_it(scheme: str, query: str, sslmode: str) -> None:
    assert conninfo_to_dict(libpq_url(f"{scheme}://app@h/b?{query}"))["sslmode"] == sslmode


def test_jdbc_verifies_with_ssl_unless_sslmode_says_what_is_enough() -> None:
    assert conninfo_to_dict(libpq_url("jdbc:postgresql://h/b?ssl=true"))["sslmode"] == "verify-full"
    assert conninfo_to_dict(libpq_url("jdbc:postgresql://h/b?sslmode=require&ssl=true"))["sslmode"] == "require"


@pytest.mark.parametrize("scheme", ["postgresql", "jdbc:postgresql"])
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sslmode=verify-full&ssl=false", ("sslmode", "ssl")),
        ("ssl=false&sslmode=require", ("sslmode", "ssl")),
        ("sslmode=disable&ssl=true", ("sslmode", "ssl")),
        ("sslmode=prefer&ssl=true", ("sslmode", "ssl")),
        ("sslmode=verify-full&ssl=require", ("sslmode", "ssl")),
        ("sslmode=verify-full&sslaccept=accept_invalid_certs", ("sslmode", "sslaccept")),
        ("sslaccept=strict&sslmode=require", ("sslmode", "sslaccept")),
        ("ssl=false&sslaccept=strict", ("sslaccept", "ssl")),
    ],
)
def test_parameters_that_contradict_each_other_about_tls_are_refused(
    scheme: str, query: str, names: tuple[str, str]
) -> None:
    decisive, other = names
    assert unusable_url(f"{scheme}://h/b?{query}") == (
        f"its parameters {decisive} and {other} contradict each other about TLS: "
        f"write sslmode with the protection that you want, and remove {'both' if decisive != 'sslmode' else other}"
    )


@pytest.mark.parametrize("query", ["sslmode=verify-full&sslmode=disable", "ssl=false&ssl=true"])
def test_a_parameter_about_tls_that_is_there_twice_with_different_values_is_refused(query: str) -> None:
    name = query.partition("=")[0]
    assert unusable_url(f"postgresql://h/b?{query}") == (
        f"its parameter {name} is there twice with different meanings: write sslmode once, with the protection that you want"
    )


def test_an_unknown_sslmode_is_refused_whatever_ssl_says() -> None:
    assert (unusable_url("postgresql://h/b?sslmode=full&ssl=true") or "").startswith("its sslmode is unknown: ")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql://a@[::1]:5432/b", "::1"),
        ("postgresql://a@one:5432,two:5433/b", "one,two"),
        ("postgresql://%2Frun%2Fsockets/b", "/run/sockets"),
        ("postgresql:///b?host=/run&user=me%40here", "/run"),
        ("postgresql://a:p?q#r@h/b", "h"),
    ],
)
def test_a_url_that_libpq_reads_as_it_is_means_the_same(url: str, host: str) -> None:
    assert conninfo_to_dict(libpq_url(url))["host"] == host


@pytest.mark.parametrize("password", ["p@ss", "a/b", "a?b", "a#b", "100%", "a b", "a&b=c", "ünïcode", "'\"\\", "[x]"])
def test_a_password_with_special_characters_is_read_when_it_is_encoded(password: str) -> None:
    url = f"postgresql+psycopg://app:{quote(password, safe='')}@h/b?schema=public"
    assert conninfo_to_dict(libpq_url(url))["password"] == password


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://app:secr@et@h/b", f"its password contains a raw @: {ENCODE}"),
        ("postgresql://app:secr/et@h/b", f"its password contains a raw / or @: {ENCODE}"),
        ("postgresql://app:12/secret@h/b", f"its password contains a raw / or @: {ENCODE}"),
        ("postgresql+psycopg://app:secr@et@h/b", f"its password contains a raw @: {ENCODE}"),
        ("jdbc:postgresql://app:secr@et@h/b", f"its password contains a raw @: {ENCODE}"),
        ("postgresql://app:sec%ret@h/b", "a % in it begins no percent-encoding: write %25"),
        ("postgresql://app:my secret@h/b", "it contains a space: write %20"),
        ("postgresql://app:secret@h:port/b", "its port is no number: correct it"),
        ("postgresql://app:secret@h,i:1,j:x/b", "its port is no number: correct it"),
        ("host=h port=secret", "its port is no number: correct it"),
        ("postgresql://app:secret@[::1/b", "the ] of an address in brackets is missing: correct it"),
        ("postgresql://app:secret@[::1]x/b", "something follows the ] of an address in brackets: correct it"),
        ("postgresql://app:secret@[]/b", "its address in brackets is empty: correct it"),
        ("postgresql://app:secret@h/b?sslmode", "one of the parameters behind its ? has no value"),
        ("postgresql://app:secret@h/b?a=secret=x", "one of the parameters behind its ? has a second =: write %3D"),
        ("postgresql://app:secret@h/b%00", "it contains %00, which PostgreSQL does not accept"),
        ("postgresql://app:secret@h/b?sslmode=secret", "its sslmode is unknown: write one of disable, allow, prefer"),
        ("postgresql://app:secret@h/b?pasword=secret", "libpq does not know its parameter pasword: write password"),
        ("postgresql://app:secret@h/b?frobnicate=secret", "libpq does not know its parameter frobnicate: remove it"),
        ("postgresql://app:secret@h/b?sslidentity=secret", "libpq does not know its parameter sslidentity: mount"),
        ("postgresql://app:secret@h/b?ssl=true&ssl=secret", "libpq does not know its parameter ssl: write sslmode"),
        ("postgresql://app:secret@h/b?ssl=secret", "libpq does not know its parameter ssl: write sslmode=require"),
        ("jdbc:postgresql://h/b?user=a&password=secret&sslfactory=x", "its parameter sslfactory: write sslmode"),
        ("jdbc:postgresql://h/b?user=a&password=x&secret=y", "libpq does not know one of its parameters: remove it"),
        ("postgresql://app:x@y?secret=z@h/b", "libpq does not know one of its parameters: remove it"),
        ("host=h frobnicate=secret", "libpq does not know its parameter frobnicate: remove it"),
        ("host=h schema=secret", "libpq does not know its parameter schema: remove it"),
        ("host=h password=x secret=y", "libpq does not know one of its parameters: remove it"),
        ("host=h password=my secret", NEITHER),
        ("host=h password='secret", "a quote in it is not closed: write '…' around a value"),
        ("secret", NEITHER),
        ("h.example:5432:b:app:secret", "it is a line of a .pgpass file: use the Secret's key `uri`"),
        ("*:*:*:app:secret", "it is a line of a .pgpass file: use the Secret's key `uri`"),
        ("jdbc:postgresql:b?password=secret", "it is a JDBC URL of another form than jdbc:postgresql://HOST:5432"),
        ("jdbc:mysql://app:secret@h/b", "it is a JDBC URL of another form than jdbc:postgresql://HOST:5432"),
        ("mysql://app:secret@h/b", f"it does not begin with postgresql://: {FORM}"),
        ("https://app:secret@h/b", f"it does not begin with postgresql://: {FORM}"),
        ("Host=h;Username=app;Password=secret;Database=b", f"it is a connection string of .NET: {FORM}"),
        ("DATABASE_URL=postgresql://app:secret@h/b", "a variable's name is before the URL: give the URL alone"),
        ("export URL='postgresql://app:secret@h/b'", "a variable's name is before the URL: give the URL alone"),
        ("'postgresql://app:secret@h/b'", "it is in quotes: give the URL alone, on one line"),
        ("psql postgresql://app:secret@h/b", "it is a command: give the URL alone, on one line"),
        ("cG9zdGdyZXNxbDovL2FwcDpzZWNyZXRAaC9i", "it is in base64: give the URL itself"),
        ("postgresql://app:one@h/b\n# was: postgresql://app:secret@h/b", "it has several lines: give the URL alone"),
        ("postgresql://app:one@h/b\rpostgresql://app:secret@h/b", "it has several lines: give the URL alone"),
        ("postgresql://app:secret@h/b\0", "it contains a control character, such as NUL or a tab: remove it"),
        ("postgresql://app:secret\udcff@h/b", "it is not UTF-8 text: correct its encoding"),
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_used_is_refused_with_the_remedy_and_without_its_secret(url: str, problem: str) -> None:
    said = unusable_url(url)
    assert said is not None
    assert problem in said
    assert "secret" not in said
    assert "\n" not in said


def test_the_error_is_one_that_someone_must_act_on() -> None:
    with pytest.raises(UnusableUrl, match="it is no database URL: it is a command: ") as refused:
        libpq_url("psql mybase")
    assert refused.value.reason == "DatabaseUrlInvalid"


@pytest.mark.parametrize("url", ["postgresql://user:x@host/db", "postgres:///db?host=/tmp", "host=a dbname=b", ""])
def test_a_url_that_libpq_accepts_is_accepted(url: str) -> None:
    assert unusable_url(url) is None


ANYTHING = st.text(st.characters(codec=None), max_size=12)
SPECIAL = st.text("@/?#%&=:;'\"\\ \t\r\n\0[]+,.~ü\ufeff", max_size=4)
PASSWORD = st.builds(lambda a, b, c, d: f"{a}{b}{MARKER}{c}{d}", ANYTHING, SPECIAL, SPECIAL, ANYTHING)
AROUND = st.sampled_from(
    [
        "postgresql://app:{}@h/b",
        "postgresql://app:{}@[::1/b",
        "postgresql://app:{}@h:5432/b?schema=public&frobnicate=x",
        "postgresql://app:{}@h:5432/b?sslmode=bad",
        "postgresql://{}",
        "postgresql://h/b?user=a&password={}",
        "postgresql+psycopg://app:{}@h/b?pool=5",
        "jdbc:postgresql://h/b?user=a&password={}&foo=1",
        "postgresql://app:one@h/b\n# was: postgresql://app:{}@h/b",
        "DATABASE_URL=postgresql://app:{}@h/b",
        "DATABASE_URL=x\nPASSWORD={}",
        "'postgresql://app:{}@h/b'",
        "host=h password={}",
        "host=h password='{}' foo=1",
        "h:5432:b:app:{}",
        "Host=h;Password={};Database=b",
        "mysql://app:{}@h/b",
        "{}",
        "app:{}@h",
    ]
)


@given(form=AROUND, password=PASSWORD, before=ANYTHING, after=ANYTHING)
@settings(max_examples=400, deadline=None)
@example(form="postgresql://app:{}@h/b", password=f"a?b={MARKER}", before="", after="")
@example(form="postgresql://app:{}@h/b", password=f"a@b?{MARKER}=c", before="", after="")
@example(form="postgresql://app:{}@h/b", password=f"1/?{MARKER}=c", before="", after="")
@example(form="postgresql://h/b?user=a&password={}", password=f"x&{MARKER}=c", before="", after="")
@example(form="host=h password={}", password=f"x {MARKER}=c", before="", after="")
def test_no_message_contains_the_password_whatever_is_given(form: str, password: str, before: str, after: str) -> None:
    for text in (form.replace("{}", password), before + form.replace("{}", password) + after):
        said = unusable_url(text)
        assert said is None or (MARKER not in said and re.match(r"[^\n]*: [^\n]*\Z|write ", said))
