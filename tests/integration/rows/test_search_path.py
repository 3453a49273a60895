"""Everything that runs on the user's rows runs under the search_path that the application has in this database."""

from collections.abc import Iterator

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.source import ChangeDetection
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import BUSINESSES, Application, Keeper, Oracle, source_config

HELPERS = """
CREATE SCHEMA helpers; CREATE SCHEMA "Yellow Book"; CREATE TABLE helpers.notes (note text);
CREATE FUNCTION helpers.greet(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'Hello ' || $1$$;
CREATE FUNCTION helpers.note(text) RETURNS void LANGUAGE sql AS 'INSERT INTO helpers.notes VALUES ($1)';
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM note('update'); RETURN NEW; END$$;
CREATE TRIGGER noted BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION noted();
INSERT INTO businesses (name) VALUES ('one')
"""
PATHS = {
    '"$user", public': '"$user", public, "Yellow Book"',
    "helpers": 'helpers, "Yellow Book"',
    '"Yellow Book"': '"Yellow Book"',
    'public, "Yellow Book", helpers': 'public, "Yellow Book", helpers',
    "''": '"", "Yellow Book"',
    "nosuch, pg_catalog": 'nosuch, pg_catalog, "Yellow Book"',
    '"Quo""ted", "a,b"': '"Quo""ted", "a,b", "Yellow Book"',
}


@pytest.fixture
def helped(businesses: Application, database: GivenDatabase) -> Application:
    """The application, whose functions are in a schema of their own."""
    businesses.run(HELPERS)
    businesses.run(f'ALTER DATABASE "{database.name}" SET search_path = public, helpers')
    return businesses


async def test_a_helper_and_a_trigger_find_what_the_application_finds(helped: Application, keep: Keep) -> None:
    keeper, oracle = await keep(text="greet(name)")
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (1, [])
    helped.run("UPDATE businesses SET name = 'two'")
    assert (await keeper.keep(), oracle.wrong()) == (1, [])
    assert helped.run("SELECT count(*) FROM helpers.notes") == [(3,)]


async def test_a_path_of_the_role_counts_too(
    helped: Application, database: GivenDatabase, database_server: DatabaseServer
) -> None:
    role, password = database_server.create_role("pathed")
    helped.run(f'ALTER DATABASE "{database.name}" RESET search_path')
    helped.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"; GRANT USAGE ON SCHEMA helpers TO "{role}"')
    helped.run(f'GRANT INSERT ON helpers.notes TO "{role}"')
    helped.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"')
    config = source_config(text="greet(name)")
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        with pytest.raises(SourceRefused, match=r"greet\(text\) does not exist .*search_path is \"\$user\", public\)$"):
            await Keeper.prepare(rows, config)
    helped.run(f'ALTER ROLE "{role}" IN DATABASE "{database.name}" SET search_path = helpers')
    async with Database(database.url_for(role, password), max_connections=1) as rows:
        keeper = await Keeper.prepare(rows, config)
        assert keeper.statements.layout.search_path == 'helpers, "public"'
        await keeper.audit()
        assert await keeper.keep() == 1
    helped.run(f'ALTER DATABASE "{database.name}" SET search_path = public, helpers')
    assert Oracle(helped, config).wrong() == []


@pytest.mark.parametrize("path", PATHS)
async def test_the_schema_of_the_table_is_added_where_the_path_does_not_have_it(
    helped: Application, database: GivenDatabase, keep: Keep, path: str
) -> None:
    helped.run('CREATE TABLE "Yellow Book".shops (id bigint PRIMARY KEY, name text, embedding public.vector(3))')
    helped.run("""CREATE FUNCTION "Yellow Book".loud(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)'""")
    helped.run("""INSERT INTO "Yellow Book".shops VALUES (1, 'one')""")
    helped.run(f'ALTER DATABASE "{database.name}" SET search_path = {path}')
    keeper, oracle = await keep("shops", schema="Yellow Book", text="loud(name)")
    assert keeper.statements.layout.search_path == PATHS[path]
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (1, [])


async def test_a_missing_helper_is_named_with_the_path_in_which_it_was_looked_for(
    helped: Application, keep: Keep
) -> None:
    with pytest.raises(
        SourceRefused, match=r"function greets\(text\) does not exist .*search_path is public, helpers\)$"
    ):
        await keep(text="greets(name)")


async def test_a_helper_that_is_dropped_later_is_named_when_the_source_is_set_up_again(
    helped: Application, keep: Keep
) -> None:
    keeper, _ = await keep(text="greet(name)")
    helped.run("DROP FUNCTION helpers.greet")
    with pytest.raises(SourceRefused, match=r"PostgreSQL says: function greet\(text\) does not exist"):
        await keeper.audit()
    with pytest.raises(SourceRefused, match=r"function greet\(text\) does not exist \(42883\): create it, "):
        await keep(text="greet(name)")


async def test_a_function_of_the_application_that_hides_one_of_postgresql_does_not_mislead(
    helped: Application, database: GivenDatabase, keep: Keep
) -> None:
    helped.run(
        "CREATE FUNCTION helpers.sha256(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$SELECT '\\x00'::bytea$$"
    )
    helped.run("CREATE FUNCTION helpers.btrim(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT ''$$")
    helped.run(f'ALTER DATABASE "{database.name}" SET search_path = helpers, pg_catalog, public')
    keeper, oracle = await keep(text="greet(name)")
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (1, [])
    assert await keeper.audit() == 0


USAGE = """
CREATE TABLE usage (note text); CREATE TABLE sources (note text); INSERT INTO sources VALUES ('ours');
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO usage (note) VALUES ('update'); RETURN NEW; END$$;
CREATE TRIGGER noted BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION noted();
INSERT INTO businesses (name) VALUES ('one');
GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO embedding_operator;
GRANT INSERT ON usage TO embedding_operator; GRANT SELECT ON sources TO embedding_operator;
"""


@pytest.fixture(scope="module")
def own_server() -> Iterator[DatabaseServer]:
    """A server of its own, because the role has the same name as the operator's schema."""
    with EmbeddedPostgres() as started:
        Application(started.url).run("CREATE ROLE embedding_operator LOGIN PASSWORD 'chosen'")
        yield DatabaseServer(started.url, "its own")


@pytest.mark.parametrize(
    ("path", "used"),
    [
        ('"$user", public', "public"),
        ('"$user"', '"public"'),
        ("embedding_operator, public", "public"),
        ('public, "embedding_operator", nosuch', "public, nosuch"),
    ],
)
async def test_the_application_never_reaches_the_tables_of_the_operator(
    own_server: DatabaseServer, path: str, used: str
) -> None:
    """ "$user" is the operator's own schema where its role has the name that the README gives it."""
    database = own_server.create_database()
    application = Application(database.url)
    application.run(BUSINESSES)
    application.run(f'{USAGE}; GRANT CREATE, TEMPORARY ON DATABASE "{database.name}" TO embedding_operator')
    application.run(f'ALTER DATABASE "{database.name}" SET search_path = {path}')
    config = source_config(text="name || (SELECT note FROM sources)", detection=ChangeDetection.AUDIT)
    async with Database(database.url_for("embedding_operator", "chosen"), max_connections=1) as rows:
        await Keeper.prepare(rows, config)
        keeper = await Keeper.prepare(rows, config)  # the operator's tables are there from the first time on
        await keeper.audit()
        (row,) = (await keeper.read(["1"])).values()
        assert (row.text, await keeper.keep()) == ("oneours", 1)
    assert keeper.statements.layout.search_path == used
    assert application.run("SELECT note FROM public.usage") == [("update",)]
