"""Databases for tests and demo, on the given PostgreSQL or on an embedded one.

Called by tests/conftest.py and by the demo. What they create on a given server is dropped; nothing else there is changed.
"""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import psycopg
from psycopg import sql

from hack.database.embedded_postgres import EmbeddedPostgres
from hack.errors import ToolError, WrongSetting
from hack.processes import environment

CONNECT_WITHIN_S = 10

WHAT_THE_ROLE_CAN_DO = """
SELECT (rolsuper OR rolcreatedb) AND (rolsuper OR rolcreaterole) AS may_create,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'vector') AS has_vector
FROM pg_roles WHERE rolname = current_user
"""


@dataclass(frozen=True)
class Database:
    """A database with pgvector. `url` is the one of its owner, the role that created it."""

    name: str
    url: str = field(repr=False)  # may hold a password

    def url_for(self, role: str, password: str) -> str:
        return url_with(self.url, role=role, password=password)


class DatabaseServer:
    """A PostgreSQL server, by the URL of a role that may create databases and roles.

    `origin` says in one line which server it is and why.
    """

    def __init__(self, url: str, origin: str) -> None:
        self._url = url
        self.origin = origin
        self._databases: list[str] = []
        self._roles: list[str] = []
        self._made_one = False
        self._template_name = ""
        """The database of which others are copies, which takes a third of the time of creating the extension in each of them."""

    def create_database(self, prefix: str = "test", *, encoding: str | None = None) -> Database:
        """A new database, in the encoding of the server or in another one."""
        if encoding is not None:
            return self._with_extension(prefix, sql.SQL("ENCODING {} LOCALE 'C' TEMPLATE template0").format(encoding))
        if not self._made_one:  # for a caller that needs only one, a template would be a second one
            self._made_one = True
            return self._with_extension(prefix, sql.SQL(""))
        if not self._template_name:
            self._template_name = self._with_extension("template", sql.SQL("")).name
            # A database cannot be copied while anybody is connected to it.
            self._run(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(self._template_name)))
        return self._create(prefix, sql.SQL("TEMPLATE {}").format(sql.Identifier(self._template_name)))

    def _create(self, prefix: str, options: sql.Composable) -> Database:
        name = unique_name(prefix)
        self._databases.append(name)
        self._run(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), options))
        return Database(name, url_with(self._url, database=name))

    def _with_extension(self, prefix: str, options: sql.Composable) -> Database:
        database = self._create(prefix, options)
        with _connected(database.url) as connection:
            try:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except psycopg.errors.InsufficientPrivilege as exc:
                raise WrongSetting(
                    f"TEST_DATABASE_URL: role {connection.info.user} may not create the extension vector: "
                    "name a superuser, or create it in the server's template1"
                ) from exc
        return database

    def drop_database(self, name: str) -> None:
        """Drop a database that was created here, even if there are connections to it."""
        if name not in self._databases:
            raise ToolError(f"database {name} was not created here, so it is not dropped")
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._databases.remove(name)

    def create_role(self, prefix: str = "test") -> tuple[str, str]:
        """Create a role that may log in and nothing else. Returns its name and its password."""
        name, password = unique_name(prefix), secrets.token_urlsafe(24)
        self._roles.append(name)
        with _connected(self._url) as connection:
            # Hashed by the client, so that the password is in no log of statements.
            hashed = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
            create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(hashed))
            connection.execute(create)
        return name, password

    def drop_everything(self) -> None:
        """Drop everything that was created here: databases first, because roles may own objects in them."""
        with ExitStack() as drops:  # last in, first out; a failure does not prevent the others
            for role in self._roles:
                drops.callback(self._drop_role, role)
            for name in self._databases:
                drops.callback(self.drop_database, name)

    def _drop_role(self, name: str) -> None:
        self._run(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
        self._roles.remove(name)

    def _run(self, statement: sql.Composed) -> None:
        with _connected(self._url) as connection:
            connection.execute(statement)


@contextmanager
def database_server() -> Iterator[DatabaseServer]:
    """TEST_DATABASE_URL's server, left as it was found, or an embedded one that ends with this context."""
    given = environment.test_database_url()
    if given is None:
        with EmbeddedPostgres() as embedded:
            yield DatabaseServer(embedded.url, "an embedded PostgreSQL, because TEST_DATABASE_URL is not set")
        return
    where = address_of_usable(given)
    with ExitStack() as at_the_end:
        server = DatabaseServer(given, f"the given PostgreSQL at {where}, because TEST_DATABASE_URL is set")
        at_the_end.callback(server.drop_everything)
        yield server


def address_of_usable(url: str) -> str:
    """The address of `url`. Raises WrongSetting if it is unusable, without the URL, which may hold a password."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise WrongSetting("TEST_DATABASE_URL does not begin with postgresql://: set a URL, or unset it")
    try:
        with _connected(url) as connection:
            row = connection.execute(WHAT_THE_ROLE_CAN_DO).fetchone()
            role, address = connection.info.user, f"{connection.info.host}:{connection.info.port}"
    except psycopg.Error as exc:
        raise WrongSetting(f"TEST_DATABASE_URL: no connection ({str(exc).strip()}): correct it, or unset it") from exc
    may_create, has_vector = row or (False, False)
    if not may_create:
        raise WrongSetting(f"TEST_DATABASE_URL: role {role} may not create databases and roles: name one that may")
    if not has_vector:
        raise WrongSetting(f"TEST_DATABASE_URL: the server at {address} has no pgvector: install it there, or unset it")
    return address


def unique_name(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(5)}"


def url_with(url: str, *, database: str | None = None, role: str | None = None, password: str | None = None) -> str:
    """The same server's URL with another database, or another role and its password."""
    parts = urlsplit(url)
    _, _, host = parts.netloc.rpartition("@")
    replaced = set()
    path, netloc = parts.path, parts.netloc
    if database is not None:
        path, replaced = f"/{quote(database, safe='')}", {"dbname"}
    if role is not None:
        netloc, replaced = (
            f"{quote(role, safe='')}:{quote(password or '', safe='')}@{host}",
            replaced | {"user", "password"},
        )
    # In libpq the query takes precedence, so what was replaced must not stay there.
    query = "&".join(pair for pair in parts.query.split("&") if pair.partition("=")[0] not in replaced)
    return f"{parts.scheme}://{netloc}{path}" + (f"?{query}" if query else "")


@contextmanager
def _connected(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_WITHIN_S) as connection:
        yield connection
