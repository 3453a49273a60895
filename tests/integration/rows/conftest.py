"""A database for each test, the application that owns its table, and the operator's side of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from embedding_worker.rows.database import Database
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import BUSINESSES, Application, Keeper, Oracle, source_config
from tests.support.owned_table import OwnedTable, owned_table

Keep = Callable[..., Awaitable[tuple[Keeper, Oracle]]]


@pytest.fixture
def application(database: GivenDatabase) -> Application:
    return Application(database.url)


@pytest.fixture
def businesses(application: Application) -> Application:
    """The application, with an empty table public.businesses."""
    application.run(BUSINESSES)
    return application


@pytest.fixture
async def rows(database: GivenDatabase) -> AsyncIterator[Database]:
    """The operator's way into the database, as the role that owns the tables."""
    async with Database(database.url, max_connections=4) as opened:
        yield opened


@pytest.fixture
def keep(application: Application, rows: Database) -> Keep:
    """Prepare a source that differs from the default as source_config allows. Returns the operator's side and the oracle."""

    async def prepare(*arguments: Any, **differences: Any) -> tuple[Keeper, Oracle]:
        config = source_config(*arguments, **differences)
        return await Keeper.prepare(rows, config), Oracle(application, config)

    return prepare


@pytest.fixture
def owned(database: GivenDatabase, database_server: DatabaseServer) -> OwnedTable:
    """A table whose owner is not the operator's role, which has the documented rights."""
    return owned_table(database, database_server)
