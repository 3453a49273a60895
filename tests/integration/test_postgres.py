"""The database server of tests and demo, embedded or given: what it offers, and that nothing of it stays."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from hack.database import embedded_postgres, postgres
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import Database, DatabaseServer, url_with
from hack.errors import ToolError, WrongSetting
from hack.processes.environment import program_environment
from hack.repository import ROOT
from tests.support.deadline import wait_until

STARTED_BY_A_CHILD = """
import sys
from hack.database.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(keep=sys.argv[1] == "keep")
server.start()
print(server.folder, server.url, flush=True)
if not server.keep:
    sys.stdin.read()
"""


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedPostgres]:
    """An embedded server of this module, even if the run's own database server is a given one."""
    with EmbeddedPostgres() as server:
        yield server


@contextmanager
def start_in_a_child(mode: str) -> Iterator[tuple[subprocess.Popen[str], Path, str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", STARTED_BY_A_CHILD, mode],
        cwd=ROOT,
        env=program_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    folder, url = child.stdout.readline().split()
    try:
        yield child, Path(folder), url
    finally:
        child.kill()
        child.communicate()
        embedded_postgres.stop(Path(folder))


def test_a_database_has_pgvector(database: Database) -> None:
    assert query(database.url, "SELECT '[3,4]'::vector <-> '[0,0]'::vector") == [(5.0,)]


def test_each_database_is_new(database_server: DatabaseServer, database: Database) -> None:
    other = database_server.create_database()
    query(database.url, "CREATE TABLE seen_in_one (id int)")
    assert query(other.url, "SELECT to_regclass('seen_in_one')") == [(None,)]
    database_server.drop_database(other.name)


def test_a_database_is_dropped_in_spite_of_connections(database_server: DatabaseServer) -> None:
    created = database_server.create_database()
    with psycopg.connect(created.url) as connection:
        database_server.drop_database(created.name)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_database_that_was_not_created_here_is_not_dropped(database_server: DatabaseServer) -> None:
    with pytest.raises(ToolError, match="postgres was not created here"):
        database_server.drop_database("postgres")


def test_a_role_needs_its_password_and_may_do_nothing_yet(database_server: DatabaseServer, database: Database) -> None:
    role, password = database_server.create_role("reader")
    query(database.url, "CREATE TABLE secret (id int)")
    assert query(database.url_for(role, password), "SELECT current_user") == [(role,)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        query(database.url_for(role, password), "SELECT * FROM secret")
    if "embedded" in database_server.origin:  # a given server may check passwords in another way
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            query(database.url_for(role, "wrong"), "SELECT 1")


def test_a_given_server_is_left_unchanged(embedded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
    before = query(embedded.url, everything)
    monkeypatch.setenv("TEST_DATABASE_URL", embedded.url)
    with postgres.database_server() as server:
        assert "because TEST_DATABASE_URL is set" in server.origin
        created = server.create_database("given")
        role, password = server.create_role("given")
        query(created.url, f"GRANT CREATE ON SCHEMA public TO {role}")
        query(created.url_for(role, password), "CREATE TABLE made (v vector(3))")
        assert len(query(embedded.url, everything)) == len(before) + 2
        for copy in (server.create_database("given"), server.create_database("given")):
            assert query(copy.url, "SELECT extname FROM pg_extension WHERE extname = 'vector'") == [("vector",)]
        assert len(query(embedded.url, everything)) == len(before) + 5  # with the one that these two are copies of
    assert query(embedded.url, everything) == before


def test_a_given_server_is_unchanged_after_a_failure_too(
    embedded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "SELECT datname FROM pg_database ORDER BY 1"
    before = query(embedded.url, names)
    monkeypatch.setenv("TEST_DATABASE_URL", embedded.url)

    def fail_with_a_database() -> None:
        with postgres.database_server() as server:
            server.create_database()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_with_a_database()
    assert query(embedded.url, names) == before


def test_a_password_is_never_in_the_servers_log(embedded: EmbeddedPostgres) -> None:
    with psycopg.connect(embedded.url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    logs_all = "SELECT current_setting('log_statement') = 'all'"
    wait_until(lambda: query(embedded.url, logs_all)[0][0], within_s=30, because="the configuration was read again")
    assert embedded.folder is not None
    log = embedded.folder / "server.log"
    server = DatabaseServer(embedded.url, "of this test")
    role, password = server.create_role("logged")
    server.drop_everything()
    assert f'CREATE ROLE "{role}"' in log.read_text()
    assert password not in log.read_text()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("host=localhost password=hidden", "does not begin with postgresql://"),
        ("postgresql://nobody:hidden@127.0.0.1:1/postgres", "no connection"),
    ],
)
def test_an_unusable_server_is_refused_without_showing_its_password(
    url: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", url)
    with pytest.raises(WrongSetting, match=sentence) as refused, postgres.database_server():
        pass
    assert "hidden" not in str(refused.value)


def test_a_given_role_that_may_create_nothing_is_refused(
    embedded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = DatabaseServer(embedded.url, "of this test")
    role, password = server.create_role("powerless")
    monkeypatch.setenv("TEST_DATABASE_URL", url_with(embedded.url, role=role, password=password))
    with pytest.raises(WrongSetting, match=f"role {role} may not create"), postgres.database_server():
        pass
    server.drop_everything()


def test_a_role_that_may_not_add_pgvector_is_refused_with_the_remedy(
    embedded: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = DatabaseServer(embedded.url, "of this test")
    role, password = server.create_role("plain")
    query(embedded.url, f"ALTER ROLE {role} CREATEDB CREATEROLE")
    monkeypatch.setenv("TEST_DATABASE_URL", url_with(embedded.url, role=role, password=password))
    how = "name a superuser, or create it in the server's template1"
    with postgres.database_server() as given, pytest.raises(WrongSetting, match=how):
        given.create_database()
    server.drop_everything()


def test_the_embedded_server_listens_on_its_socket_only(embedded: EmbeddedPostgres) -> None:
    assert query(embedded.url, "SELECT current_setting('listen_addresses')") == [("",)]


def test_the_embedded_server_leaves_no_process_and_no_file() -> None:
    with EmbeddedPostgres() as server:
        folder = server.folder
        assert folder is not None
        assert embedded_postgres.runs_in(folder)
    assert not embedded_postgres.runs_in(folder)
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only as root does the server run as another user")
def test_programs_in_a_folder_that_only_root_reads_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a checkout under /root: the server's user must read them, and the folder's mode must stay."""
    package = embedded_postgres.installed_programs().parents[1]
    hidden = tmp_path / "hidden"
    for part in (package / "pginstall18", package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, hidden / part.relative_to(package.parent), symlinks=True)
    hidden.chmod(0o700)
    programs = hidden / package.name / "pginstall18" / "bin"
    monkeypatch.setattr(embedded_postgres, "installed_programs", lambda: programs)
    with EmbeddedPostgres() as server:
        assert query(server.url, "CREATE EXTENSION vector") == []
    assert hidden.stat().st_mode & 0o777 == 0o700


def test_a_kept_server_outlives_its_process_until_it_is_stopped_by_its_folder() -> None:
    with start_in_a_child("keep") as (child, folder, url):
        assert child.wait(timeout=60) == 0
        assert query(url, "SELECT 1") == [(1,)]
        embedded_postgres.stop(folder)
        assert not folder.exists()
        with pytest.raises(psycopg.OperationalError):
            query(url, "SELECT 1")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the end of a parent")
def test_a_server_ends_with_a_parent_that_is_killed() -> None:
    with start_in_a_child("end") as (child, folder, url):
        assert query(url, "SELECT 1") == [(1,)]
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=60)
        wait_until(lambda: not embedded_postgres.runs_in(folder), within_s=60, because="its parent was killed")
