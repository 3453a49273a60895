"""Why no connection can be made: each cause by its name, from real servers, and nothing of the URL."""

import asyncio
import os
import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from embedding_worker.rows.connections import Diagnosis
from embedding_worker.rows.database_url import libpq_url
from hack.control_plane.certificates import Authority
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import url_with
from tests.support.database_doubles import TlsProxy, answering, error_response
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import TcpProxy

PASSWORD = "S3cr3tMARKER"
ROLES_AND_DATABASES = (
    f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
    f"CREATE ROLE group_only NOLOGIN PASSWORD '{PASSWORD}'",
    f"CREATE ROLE expired LOGIN PASSWORD '{PASSWORD}' VALID UNTIL '2020-01-01'",
    f"CREATE ROLE full_role LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0",
    f"CREATE ROLE by_peer LOGIN PASSWORD '{PASSWORD}'",
    f"CREATE ROLE rejected LOGIN PASSWORD '{PASSWORD}'",
    f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
    "ALTER ROLE reader SET default_transaction_read_only = on",
    "CREATE DATABASE private",
    "REVOKE CONNECT ON DATABASE private FROM PUBLIC",
    "CREATE DATABASE full_database CONNECTION LIMIT 0",
    "CREATE DATABASE closed ALLOW_CONNECTIONS false",
)
ACCESS = """
local all postgres trust
local all by_peer peer
local all rejected reject
local hidden all reject
local all app,group_only,expired,full_role,reader,nobody scram-sha-256
"""


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server of its own, because its access rules are changed."""
    with EmbeddedPostgres() as started:
        assert started.folder is not None
        (started.folder / "data" / "pg_hba.conf").write_text(ACCESS)
        run(started.url, *ROLES_AND_DATABASES, "SELECT pg_reload_conf()")
        url = url_with(started.url, role="rejected", password=PASSWORD)
        wait_until(lambda: is_refused(url), within_s=30, because="the rules are read")
        yield started


def is_refused(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return True
    return False


async def problem_of(url: str, *, within_s: float = 30) -> str:
    problem = await Diagnosis().problem(libpq_url(url), within_s=within_s)
    assert problem is not None, "a connection was made"
    assert PASSWORD not in problem
    assert re.search(r"127\.0\.0\.1|/tmp|app\b", problem) is None, "it names a part of the URL"
    return problem


@pytest.mark.parametrize(
    ("role", "password", "database", "cause"),
    [
        ("app", "wrong", "postgres", "the password is refused (28P01): correct it in DATABASE_URL"),
        ("expired", PASSWORD, "postgres", "the password is refused (28P01): correct it in DATABASE_URL"),
        ("nobody", PASSWORD, "postgres", "the password is refused (28P01): correct it in DATABASE_URL"),
        ("app", None, "postgres", "it asks for a password, and DATABASE_URL has none: add it"),
        ("group_only", PASSWORD, "postgres", "the role does not exist, or may not log in (28000): ALTER ROLE … LOGIN"),
        ("rejected", PASSWORD, "postgres", "its pg_hba.conf does not let this connection in, which has no TLS (28000): add"),
        ("app", PASSWORD, "hidden", "its pg_hba.conf does not let this connection in, which has no TLS (28000): add"),
        ("stranger", PASSWORD, "postgres", "its pg_hba.conf does not let this connection in, which has no TLS (28000): add"),
        ("by_peer", PASSWORD, "postgres", "the role may not log in this way (28000): let pg_hba.conf ask for a password"),
        ("app", PASSWORD, "nowhere", "the database does not exist (3D000): correct its name in DATABASE_URL"),
        ("app", PASSWORD, "private", "the role may not connect to the database (42501): GRANT CONNECT ON DATABASE"),
        ("app", PASSWORD, "closed", "the database accepts no connections (55000): ALTER DATABASE … ALLOW_CONNECTIONS"),
        ("full_role", PASSWORD, "postgres", "the role has reached its connection limit (53300): ALTER ROLE"),
        ("app", PASSWORD, "full_database", "the database has reached its connection limit (53300): ALTER DATABASE"),
        ("reader", PASSWORD, "postgres", "it accepts no writes: name the primary in DATABASE_URL, or all hosts"),
        ("app", PASSWORD, "postgres?options=-cnosuch%3D1", "it does not know a setting in the URL (42704): correct `options`"),
        ("app", PASSWORD, "postgres?options=-cwork_mem%3Dx", "it does not accept a setting in the URL (22023): correct"),
        ("app", PASSWORD, "postgres?options=-clog_statement%3Dall", "needs a right that the role does not have (42501): correct"),
    ],
)  # fmt: skip
async def test_a_refusal_of_a_server_is_named_by_its_cause(
    server: EmbeddedPostgres, role: str, password: str | None, database: str, cause: str
) -> None:
    secret = f":{password}" if password else ""
    name, _, parameters = database.partition("?")
    url = f"postgresql://{role}{secret}@/{name}?host={server.folder}&port=5432&{parameters}".removesuffix("&")
    assert cause in await problem_of(url)


async def test_where_a_connection_can_be_made_there_is_no_problem(server: EmbeddedPostgres) -> None:
    assert await Diagnosis().problem(url_with(server.url, role="app", password=PASSWORD)) is None


async def test_of_several_hosts_the_one_that_answers_says_why(server: EmbeddedPostgres) -> None:
    url = f"postgresql://reader:{PASSWORD}@/postgres?host=/nonexistent,{server.folder}&port=5432,5432"
    assert "it accepts no writes: " in await problem_of(url)


async def test_a_server_that_is_shutting_down_says_so() -> None:
    with EmbeddedPostgres() as server, psycopg.connect(server.url):
        assert server.folder is not None
        postmaster = int((server.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGTERM)  # which waits for the open session
        wait_until(lambda: is_refused(server.url), within_s=30, because="new sessions are refused from now on")
        assert "it does not accept connections at this moment, as when it starts up (57P03): " in await problem_of(
            server.url
        )


@pytest.mark.parametrize(
    ("host", "cause"),
    [
        ("nosuch.invalid", "its host name is not known: correct the host in DATABASE_URL"),
        (f"{PASSWORD}.invalid", "its host name is not known: correct the host in DATABASE_URL"),
        ("127.0.0.1:1", "nothing listens at its address: correct host and port in DATABASE_URL"),
        ("127.0.0.1:99999", "libpq does not accept the value of a parameter in DATABASE_URL (such as port or sslmode): "),
        ("%2Fnonexistent", "nothing listens at its socket: correct the host in DATABASE_URL"),
    ],
)  # fmt: skip
async def test_an_address_where_no_server_is_is_named_by_what_is_wrong_with_it(host: str, cause: str) -> None:
    assert cause in await problem_of(f"postgresql://app:{PASSWORD}@{host}/postgres")


FRENCH = error_response(S="FATAL", V="FATAL", C="28P01", M="authentification par mot de passe refusée", R="auth_failed")
POOLER = error_response(S="FATAL", C="08P01", M="unsupported startup parameter: options")
OTHER = error_response(S="FATAL", V="FATAL", C="XX000", M=f"Tenant {PASSWORD} not found")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (FRENCH, "the password is refused (28P01): correct it in DATABASE_URL"),
        (POOLER, "PgBouncer refuses a setting in the URL, such as `options` (08P01): remove it"),
        (OTHER, "the server refuses the connection (XX000): see its log, which says why"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is not PostgreSQL: correct host and port"),
        (b"", "the connection is closed at once: check that PostgreSQL listens at host and port"),
        (None, "its address does not answer: correct the host in DATABASE_URL"),
    ],
    ids=["in French", "PgBouncer", "another pooler", "HTTP", "closed", "silent"],
)
async def test_what_another_server_answers_is_named(answer: bytes | None, cause: str) -> None:
    async with answering(answer) as port:
        url = f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=disable"
        assert cause in await problem_of(url, within_s=1 if answer is None else 30)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    """The TLS of a server at 127.0.0.1 whose certificate the authority has issued."""
    issued = authority.issue("server", address="127.0.0.1")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(issued.certificate, issued.key)
    return made


@pytest.mark.parametrize(
    ("role", "parameters", "cause"),
    [
        ("app", "sslmode=require", None),
        ("app", "sslmode=verify-full&sslrootcert={ca}", None),
        ("app", "sslmode=verify-full&sslrootcert={other}", "its certificate is not trusted: mount the certificate"),
        ("app", "sslmode=verify-full&sslrootcert=system", "its certificate is not trusted: mount the certificate"),
        ("app", "sslmode=verify-full&sslrootcert=/nonexistent", "the file that sslrootcert names is missing or unusable"),
        ("app", "sslmode=verify-full", "the file that sslrootcert names is missing or unusable"),
        ("app", "sslmode=verify-full&sslrootcert={ca}&host=other.example&hostaddr=127.0.0.1", "is for another host name"),
        ("app", "sslmode=require&sslcert={ca}&sslkey=/nonexistent", "the file that sslkey names is missing or unusable"),
        ("app", "sslmode=require&sslcert={key}&sslkey={key}", "the file that sslcert names is missing or unusable"),
        ("rejected", "sslmode=require", "its pg_hba.conf does not let this connection in (28000): add a line"),
    ],
)  # fmt: skip
async def test_a_problem_with_tls_is_named(
    server: EmbeddedPostgres, context: ssl.SSLContext, authority: Authority, tmp_path: Path,
    role: str, parameters: str, cause: str | None,
) -> None:  # fmt: skip
    parameters = parameters.format(
        ca=authority.certificate, other=Authority(tmp_path / "other").certificate, key=authority.issue("a").key
    )
    async with TlsProxy(url_with(server.url, role=role, password=PASSWORD), context) as proxy:
        url = f"{proxy.url}?{parameters}"
        if cause is None:
            assert await Diagnosis().problem(url) is None
        else:
            assert cause in await problem_of(url)


async def test_a_server_without_tls_is_named_if_the_url_demands_tls() -> None:
    async with answering(b"N") as port:
        problem = await problem_of(f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/postgres?sslmode=require")
    assert problem.startswith("it offers no TLS, which sslmode in DATABASE_URL demands: switch ssl on in the server")


async def test_the_event_loop_goes_on_while_a_cause_is_looked_for() -> None:
    async with TcpProxy(Path()) as silent:
        silent.frozen = True
        url = f"postgresql://app@127.0.0.1:{silent.port}/postgres?sslmode=disable"
        looking = asyncio.create_task(problem_of(url, within_s=30))
        ticks = 0
        while not looking.done() and ticks <= 10:
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 10
    await looking  # which ends with the connection


async def test_callers_at_the_same_time_share_one_attempt() -> None:
    attempts = 0

    def count() -> bytes:
        nonlocal attempts
        attempts += 1
        return FRENCH

    diagnosis = Diagnosis()
    async with answering(count) as port:
        url = f"postgresql://app@127.0.0.1:{port}/postgres?sslmode=disable"
        problems = await asyncio.gather(*(diagnosis.problem(url) for _ in range(20)))
        assert len(set(problems)) == 1
        assert attempts == 2, "one, and one more for the server's code"
        assert await diagnosis.problem(url) == problems[0]
        assert attempts == 3, "the code for the same message is remembered"
