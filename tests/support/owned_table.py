"""A table whose owner is not the operator's role, and the sessions of an application on it. Called by tests of the triggers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import psycopg

from embedding_worker.rows.database import Database
from embedding_worker.source import SourceConfig
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import Application, Keeper, Oracle, run, source_config

COLUMNS = "id bigint NOT NULL, name text, description text, phone text, city text, embedding vector(3)"
TABLE = f"CREATE TABLE businesses ({COLUMNS}, PRIMARY KEY (id))"
TEXT = "concat_ws(' ', name, description)"
GRANTS = "SELECT, TRIGGER, UPDATE (embedding)"


@dataclass(frozen=True)
class OwnedTable:
    """`owner` is the application's role, which owns schema public and the table. `operator` is the operator's role."""

    admin: Application
    owner: str
    owner_url: str = field(repr=False)
    operator: str
    operator_url: str = field(repr=False)
    config: SourceConfig

    @property
    def oracle(self) -> Oracle:
        return Oracle(self.admin, self.config)

    @property
    def stem(self) -> str:
        return self.config.at.bookkeeping_name

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection]:
        """A session of the application, which commits each statement."""
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            yield connection

    @asynccontextmanager
    async def rows(self) -> AsyncIterator[Database]:
        """The operator's way into the database."""
        async with Database(self.operator_url, max_connections=2) as opened:
            yield opened

    async def set_up(self) -> None:
        """The operator sets the source up, and ends."""
        async with self.rows() as rows:
            await Keeper.prepare(rows, self.config)

    def triggers(self) -> list[str]:
        found = self.admin.run("SELECT tgname::text FROM pg_trigger WHERE tgname LIKE %s ORDER BY 1", f"{self.stem}%")
        return [row[0] for row in found]


def owned_table(database: GivenDatabase, server: DatabaseServer, create: str = TABLE) -> OwnedTable:
    """The table with one row, and the rights of the operator's role as README says."""
    admin = Application(database.url)
    (owner, owner_password), (operator, operator_password) = server.create_role("owner"), server.create_role("operator")
    admin.run(f'ALTER SCHEMA public OWNER TO "{owner}"')
    admin.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{operator}"')
    made = OwnedTable(
        admin,
        owner,
        database.url_for(owner, owner_password),
        operator,
        database.url_for(operator, operator_password),
        source_config(text=TEXT),
    )
    with made.session() as session:
        run(session, create)
        run(session, "INSERT INTO businesses (id, name) VALUES (1, 'one')")
        run(session, f'GRANT {GRANTS} ON businesses TO "{operator}"')
    return made
