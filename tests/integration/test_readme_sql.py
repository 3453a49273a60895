"""A superuser who pastes the SQL of the README in order creates a role with all rights that the README's source needs."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
import yaml

from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.rows.database import Database
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import unique_name
from hack.repository import ROOT
from tests.support.documented_sql import sql_blocks, statements
from tests.support.manifests import merged
from tests.support.yellow_book import TABLE

INSTALL, REMOVE = (ROOT / "README.md", "Install it"), (ROOT / "docs" / "install.md", "Remove it")
SOURCE = yaml.safe_load((ROOT / "docs" / "examples" / "businesses.yaml").read_text())
METADATA = {"metadata": {"namespace": "any", "uid": "any", "generation": 1}}
NO_DEFAULT_RIGHTS = "REVOKE ALL ON SCHEMA public FROM PUBLIC"


def run(url: str, *sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in sql:
            connection.execute(statement.encode())


def config() -> SourceConfig:
    return parse_source(merged(SOURCE, METADATA)).spec.config()


@pytest.fixture
def role_url(database: GivenDatabase) -> Iterator[str]:
    """The URL of the README's role, in a database where no role has any right by default."""
    role, password = unique_name("pasted"), secrets.token_hex(12)
    names = {"role": role, "database": database.name, "password": password}
    run(database.url, TABLE.replace(", embedding vector(512)", ""), NO_DEFAULT_RIGHTS)
    run(database.url, f'REVOKE ALL ON DATABASE "{database.name}" FROM PUBLIC')
    (block,) = sql_blocks(INSTALL[0].read_text(), INSTALL[1])
    run(database.url, *statements(block, **names))
    yield database.url_for(role, password)
    for removal in sql_blocks(REMOVE[0].read_text(), REMOVE[1]):
        run(database.url, *statements(removal, **names))


async def test_the_role_of_the_readme_has_all_rights_that_its_source_needs(role_url: str) -> None:
    async with Database(role_url, max_connections=2) as database:
        store = await RowStore.prepare(database, config())
        assert (await store.audit(after_id=None, limit=10)).rows == 0
        assert (await store.counts()).due == 0
