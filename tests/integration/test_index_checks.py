"""When `embedding-operator check` advises to drop or to build an index on the vectors, from PostgreSQL's estimates."""

import pytest

from embedding_operator.cli.index_checks import advise_index
from embedding_operator.cli.verdicts import advice, exit_code, passed
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.rows.database import Database as Connections
from hack.database.postgres import Database
from tests.support.kept_rows import BUSINESSES, Application, Keeper, vector_write
from tests.support.manifests import a_source

SOURCE = parse_source(a_source("businesses", text="name", model={"dimensions": 3}))
INDEX = "CREATE INDEX near ON public.businesses USING hnsw (embedding vector_cosine_ops)"
MANY = "INSERT INTO public.businesses (name) SELECT 'name ' || i FROM generate_series(1, 10001) i"


@pytest.fixture
def businesses(database: Database) -> Application:
    application = Application(database.url)
    application.run(BUSINESSES)
    return application


async def advised(businesses: Application) -> str | None:
    async with Connections(businesses.url, max_connections=1) as database:
        verdict = await advise_index(database, SOURCE)
    return None if verdict is None else str(verdict)


async def test_an_index_is_to_be_dropped_before_the_first_fill_of_many_rows(businesses: Application) -> None:
    businesses.run(MANY)
    businesses.run(INDEX)
    businesses.run("ANALYZE public.businesses")
    said = await advised(businesses)
    assert said is not None
    assert said.startswith(
        "→ index of businesses: writes of vectors are about ten times slower beside public.near (hnsw)"
    )


async def test_before_the_first_fill_no_index_is_to_be_built(businesses: Application) -> None:
    businesses.run(MANY)
    businesses.run("ANALYZE public.businesses")
    assert await advised(businesses) is None


async def test_an_index_is_to_be_built_when_the_rows_have_their_vectors(businesses: Application) -> None:
    businesses.run("INSERT INTO public.businesses (name) VALUES ('Bakery')")
    async with Connections(businesses.url, max_connections=1) as database:
        keeper = await Keeper.prepare(database, SOURCE.spec.config())
        await keeper.audit()
        await keeper.write([vector_write("1", "Bakery")])
        await keeper.store.record_filled()
    assert await advised(businesses) is None
    businesses.run("ALTER TABLE public.businesses DISABLE TRIGGER ALL")
    businesses.run(MANY)
    said = await advised(businesses)
    assert said is not None
    assert said.startswith("→ index of businesses: without an index each search reads the whole table")
    businesses.run(INDEX)
    assert await advised(businesses) is None


async def test_while_the_first_audit_reads_the_table_no_index_is_to_be_built(businesses: Application) -> None:
    businesses.run(MANY)
    async with Connections(businesses.url, max_connections=1) as database:
        await Keeper.prepare(database, SOURCE.spec.config())
    assert await advised(businesses) is None


async def test_a_small_table_gets_no_advice(businesses: Application) -> None:
    businesses.run(INDEX)
    businesses.run("ANALYZE public.businesses")
    assert await advised(businesses) is None


async def test_a_table_that_cannot_be_read_gets_no_advice_and_no_error(businesses: Application) -> None:
    businesses.run("DROP TABLE public.businesses")
    assert await advised(businesses) is None


def test_advice_is_no_failure() -> None:
    assert exit_code([passed("source businesses", "is there"), advice("index of businesses", "build one")]) == 0
