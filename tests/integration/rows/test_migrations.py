"""The trigger never makes a write of the application's fail, and never prevents a migration, whatever happens to the table."""

from dataclasses import replace

import psycopg
import pytest

from embedding_worker.rows.table import quoted
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import run, source_config
from tests.support.owned_table import OwnedTable, owned_table

EDIT = "UPDATE businesses SET name = 'new'"
OTHER = "UPDATE businesses SET phone = '+1-555-0100'"

# What the owner's migration does, a write after it, and the ids of the marks of that write.
MIGRATIONS = {
    "a text column gets another type": ("ALTER TABLE businesses ALTER COLUMN name TYPE varchar(99)", EDIT, ["1"]),
    "a text column becomes json": ("ALTER TABLE businesses ALTER name TYPE json USING to_json(name)", OTHER, []),
    "a text column became json and is edited": (
        "ALTER TABLE businesses ALTER COLUMN name TYPE json USING to_json(name)",
        "UPDATE businesses SET name = '{}'",
        ["1"],
    ),
    "a text column is renamed": ("ALTER TABLE businesses RENAME COLUMN name TO title", OTHER, ["1"]),
    "a text column is dropped": ("ALTER TABLE businesses DROP COLUMN name", OTHER, ["1"]),
    "a text column is dropped and made again": (
        "ALTER TABLE businesses DROP COLUMN name; ALTER TABLE businesses ADD COLUMN name int",
        "UPDATE businesses SET name = 7",
        ["1"],
    ),
    "a text column is replaced, and another field is edited": (
        "ALTER TABLE businesses DROP COLUMN name; ALTER TABLE businesses ADD COLUMN name int",
        OTHER,
        [],
    ),
    "the id gets another type": ("ALTER TABLE businesses ALTER COLUMN id TYPE int", EDIT, ["1"]),
    "the id became text, and another field is edited": ("ALTER TABLE businesses ALTER COLUMN id TYPE text", OTHER, []),
    "the id becomes a uuid": (
        "ALTER TABLE businesses ALTER COLUMN id TYPE uuid USING lpad(id::text, 32, '0')::uuid",
        EDIT,
        ["00000000-0000-0000-0000-000000000001"],
    ),
    "the id is renamed": ("ALTER TABLE businesses RENAME COLUMN id TO key", EDIT, []),
    "the id is dropped": ("ALTER TABLE businesses DROP COLUMN id", EDIT, []),
    "the id was renamed and renamed back": (
        "ALTER TABLE businesses RENAME COLUMN id TO key; ALTER TABLE businesses RENAME COLUMN key TO id",
        EDIT,
        ["1"],
    ),
    "the id may be null": (
        "ALTER TABLE businesses DROP CONSTRAINT businesses_pkey; ALTER TABLE businesses ALTER COLUMN id DROP NOT NULL",
        "INSERT INTO businesses (name) VALUES ('no id')",
        [],
    ),
    "an id is huge": (
        "ALTER TABLE businesses ALTER COLUMN id TYPE text; ALTER TABLE businesses DROP CONSTRAINT businesses_pkey",
        "INSERT INTO businesses (id) SELECT string_agg(md5(n::text), '') FROM generate_series(1, 30000) n",
        [],
    ),
    "the vector column is dropped": ("ALTER TABLE businesses DROP COLUMN embedding", EDIT, ["1"]),
    "the vector column gets another type": (
        "ALTER TABLE businesses ALTER COLUMN embedding TYPE halfvec(3)",
        EDIT,
        ["1"],
    ),
    "another column is dropped": ("ALTER TABLE businesses DROP COLUMN city", EDIT, ["1"]),
    "a column is added": ("ALTER TABLE businesses ADD COLUMN fax text DEFAULT 'none'", EDIT, ["1"]),
    "the table is renamed": ("ALTER TABLE businesses RENAME TO shops", "UPDATE shops SET name = 'new'", ["1"]),
    "the table moves to another schema": (
        "CREATE SCHEMA elsewhere; ALTER TABLE businesses SET SCHEMA elsewhere",
        "UPDATE elsewhere.businesses SET name = 'new'",
        ["1"],
    ),
    "the primary key is replaced": (
        "ALTER TABLE businesses DROP CONSTRAINT businesses_pkey; ALTER TABLE businesses ADD PRIMARY KEY (id)",
        EDIT,
        ["1"],
    ),
    "the rows are rewritten": ("VACUUM FULL businesses", EDIT, ["1"]),
    "the table is truncated and loaded": ("TRUNCATE businesses", "INSERT INTO businesses (id) VALUES (2)", ["2"]),
}


@pytest.fixture
def owned(database: GivenDatabase, database_server: DatabaseServer) -> OwnedTable:
    """Its owner may also create schemas."""
    made = owned_table(database, database_server)
    made.admin.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{made.owner}"')
    return made


@pytest.mark.parametrize("session", ["a session that wrote before", "a new session"])
@pytest.mark.parametrize("what", MIGRATIONS)
async def test_a_migration_passes_and_the_application_writes(owned: OwnedTable, what: str, session: str) -> None:
    """PostgreSQL keeps the plans of a function for the session, and does not notice that a field of a row has another type."""
    migration, write, marks = MIGRATIONS[what]
    await owned.set_up()
    with owned.session() as migrating, owned.session() as other:
        writing = migrating if session == "a session that wrote before" else other
        run(migrating, "UPDATE businesses SET name = 'before'")
        run(migrating, "UPDATE businesses SET phone = 'before'")
        owned.admin.run(f'TRUNCATE embedding_operator."{owned.stem}_marks"')
        for statement in migration.split("; "):
            run(migrating, statement)
        run(writing, write)
    assert owned.oracle.marks() == marks


# What an administrator does to the operator's objects. The application's write must pass, and is not recorded.
DAMAGES = {
    "the marks are dropped": 'DROP TABLE embedding_operator."{stem}_marks"',
    "the marks are renamed": 'ALTER TABLE embedding_operator."{stem}_marks" RENAME TO old_marks',
    "the marks are moved": 'ALTER TABLE embedding_operator."{stem}_marks" SET SCHEMA public',
    "the marks are a view": (
        'ALTER TABLE embedding_operator."{stem}_marks" RENAME TO old_marks; '
        'CREATE VIEW embedding_operator."{stem}_marks" AS SELECT 1 AS one'
    ),
    "a mark's id gets another type": (
        'ALTER TABLE embedding_operator."{stem}_marks" ALTER COLUMN id TYPE bigint USING id::bigint'
    ),
    "a mark's id is renamed": 'ALTER TABLE embedding_operator."{stem}_marks" RENAME COLUMN id TO key',
    "a mark's id is dropped": 'ALTER TABLE embedding_operator."{stem}_marks" DROP COLUMN id',
    "the operator's role loses its rights": 'REVOKE ALL ON embedding_operator."{stem}_marks" FROM "{operator}"',
    "the operator's role may only read": 'REVOKE INSERT ON embedding_operator."{stem}_marks" FROM "{operator}"',
    "the operator's role may not enter its schema": (
        'ALTER SCHEMA embedding_operator OWNER TO "{owner}"; REVOKE ALL ON SCHEMA embedding_operator FROM "{operator}"'
    ),
    "the schema is renamed": "ALTER SCHEMA embedding_operator RENAME TO elsewhere",
    "the schema is dropped": "DROP SCHEMA embedding_operator CASCADE",
    "what the operator's role owns is dropped": 'DROP OWNED BY "{operator}" CASCADE',
}
# What an administrator does with the role. The application's write passes, and is recorded.
ROLES = {
    "the operator's role is renamed": 'ALTER ROLE "{operator}" RENAME TO "{operator}_2"',
    "the operator's role may not log in": 'ALTER ROLE "{operator}" NOLOGIN',
    "the operator's role loses its rights on the table": 'REVOKE ALL ON businesses FROM "{operator}"',
    "another role gets what it owns": 'REASSIGN OWNED BY "{operator}" TO "{owner}"',
    "another role gets what it owns, and it is dropped": (
        'REASSIGN OWNED BY "{operator}" TO "{owner}"; DROP OWNED BY "{operator}"; DROP ROLE "{operator}"'
    ),
}


def damage(owned: OwnedTable, statements: str) -> None:
    for statement in statements.split("; "):
        owned.admin.run(statement.format(stem=owned.stem, operator=owned.operator, owner=owned.owner))


@pytest.mark.parametrize("session", ["a session that wrote before", "a new session"])
@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_to_the_book_keeping_never_reaches_the_application(
    owned: OwnedTable, what: str, session: str
) -> None:
    await owned.set_up()
    with owned.session() as before:
        for n in range(7):  # PostgreSQL keeps a plan for all parameters after five executions
            run(before, f"UPDATE businesses SET name = '{n}'")
        damage(owned, DAMAGES[what])
        with owned.session() as new:
            writing = before if session == "a session that wrote before" else new
            run(writing, "UPDATE businesses SET name = 'after'")
            run(writing, "INSERT INTO businesses (id, name) VALUES (2, 'two')")
    assert owned.admin.run("SELECT id FROM businesses ORDER BY id") == [(1,), (2,)]


@pytest.mark.parametrize("what", ROLES)
async def test_a_changed_role_leaves_edits_recorded(owned: OwnedTable, what: str) -> None:
    await owned.set_up()
    with owned.session() as session:
        run(session, EDIT)
        damage(owned, ROLES[what])
        run(session, "UPDATE businesses SET name = 'after'")
    assert owned.oracle.marks() == ["1", "1"]


async def test_a_restriction_of_the_schema_names_what_depends_on_it(owned: OwnedTable) -> None:
    await owned.set_up()
    with pytest.raises(psycopg.errors.DependentObjectsStillExist):
        owned.admin.run("DROP SCHEMA embedding_operator")
    with owned.session() as session:
        run(session, EDIT)
    assert owned.oracle.marks() == ["1"]


SETTINGS = [
    "SET search_path = ''",
    "SET row_security = off",
    "SET statement_timeout = '30s'",
    "SET lock_timeout = '1ms'",
    "SET idle_in_transaction_session_timeout = '1s'",
    "SET default_transaction_isolation = 'serializable'",
    "SET default_transaction_isolation = 'repeatable read'",
    "SET default_transaction_deferrable = on",
    "SET plan_cache_mode = force_generic_plan",
    "SET plan_cache_mode = force_custom_plan",
    "SET standard_conforming_strings = off",
    "SET check_function_bodies = off",
    "SET plpgsql.extra_errors = 'all'",
    "SET plpgsql.variable_conflict = use_column",
    "SET jit = on; SET jit_above_cost = 0",
    "SET client_min_messages = debug5",
    "SET constraint_exclusion = on",
]


@pytest.mark.parametrize("settings", SETTINGS)
async def test_no_setting_of_the_application_matters(owned: OwnedTable, settings: str) -> None:
    await owned.set_up()
    with owned.session() as session:
        for statement in settings.split("; "):
            run(session, statement)
        run(session, "UPDATE public.businesses SET name = 'new'")
        run(session, "INSERT INTO public.businesses (id) VALUES (2)")
    assert owned.oracle.marks() == ["1", "2"]


async def test_an_update_of_20_000_rows_is_marked_row_by_row(owned: OwnedTable) -> None:
    await owned.set_up()
    with owned.session() as session:
        run(session, "INSERT INTO businesses (id) SELECT generate_series(2, 20000)")
        owned.admin.run(f'TRUNCATE embedding_operator."{owned.stem}_marks"')
        run(session, "UPDATE businesses SET name = 'name of ' || id")
    marks = (
        f'SELECT count(*), count(DISTINCT id), count(DISTINCT xmin::text) FROM embedding_operator."{owned.stem}_marks"'
    )
    # One transaction id: none of the rows got a subtransaction of its own, which would make other sessions slow.
    assert owned.admin.run(marks) == [(20_000, 20_000, 1)]


async def test_prepared_statements_survive_a_migration(owned: OwnedTable) -> None:
    await owned.set_up()
    with owned.session() as session:
        run(session, "PREPARE edit(text) AS UPDATE businesses SET name = $1 WHERE id = 1")
        for n in range(7):
            run(session, f"EXECUTE edit('{n}')")
        run(session, "ALTER TABLE businesses ALTER COLUMN id TYPE int")
        run(session, "ALTER TABLE businesses DROP COLUMN description")
        run(session, "EXECUTE edit('after')")
    assert owned.oracle.marks() == ["1"] * 8


@pytest.mark.parametrize("name", ["o'clock", "back\\slash", 'say "hello"', "$mark$", "{curly} %s $1", "名前"])
async def test_columns_with_odd_names_are_compared_after_a_migration_too(
    database: GivenDatabase, database_server: DatabaseServer, name: str
) -> None:
    owned = owned_table(database, database_server)
    column, key = quoted(name), quoted(f"id of {name}")
    owned.admin.run(f"ALTER TABLE businesses RENAME COLUMN description TO {column}")
    owned.admin.run(f"ALTER TABLE businesses RENAME COLUMN id TO {key}")
    owned = replace(owned, config=source_config(id_column=f"id of {name}", text=column))
    await owned.set_up()
    with owned.session() as session:
        run(session, f"UPDATE businesses SET {column} = 'before'")
        run(session, f"ALTER TABLE businesses ALTER COLUMN {key} TYPE int, ALTER COLUMN {column} TYPE varchar(99)")
        run(session, OTHER)
        run(session, f"UPDATE businesses SET {column} = 'after'")
    assert owned.oracle.marks() == ["1", "1"]


async def test_serializable_writers_of_different_rows_do_not_conflict(owned: OwnedTable) -> None:
    with owned.session() as session:
        run(session, "INSERT INTO businesses (id, name) SELECT n, 'name' FROM generate_series(2, 500) n")
    await owned.set_up()
    with psycopg.connect(owned.owner_url) as one, psycopg.connect(owned.owner_url) as two:
        for connection in (one, two):
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        run(one, "UPDATE businesses SET name = 'new' WHERE id = 1")
        run(two, "UPDATE businesses SET name = 'new' WHERE id = 500")
        one.commit()
        two.commit()
    assert sorted(owned.oracle.marks()) == ["1", "500"]


async def test_a_lock_on_the_marks_delays_a_writer_only_while_it_is_held(owned: OwnedTable) -> None:
    """With a lock timeout of its own the application's write passes, and is found by the audit."""
    await owned.set_up()
    with owned.admin.transaction() as locking, owned.session() as session:
        run(locking, f'LOCK TABLE embedding_operator."{owned.stem}_marks" IN ACCESS EXCLUSIVE MODE')
        run(session, "SET lock_timeout = '50ms'")
        run(session, EDIT)
    assert owned.admin.run("SELECT name FROM businesses") == [("new",)]
    assert owned.oracle.marks() == []


PARTITIONED = """
CREATE TABLE businesses (id bigint PRIMARY KEY, name text, description text, phone text, embedding vector(3))
PARTITION BY RANGE (id)"""
PART = "CREATE TABLE part (id bigint NOT NULL, name text, description text, phone text, embedding vector(3))"


@pytest.fixture
def partitioned(database: GivenDatabase, database_server: DatabaseServer) -> OwnedTable:
    """Its owner is not the operator's role, and has no right on the operator's schema."""
    first = "CREATE TABLE first PARTITION OF businesses FOR VALUES FROM (0) TO (100)"
    made = owned_table(database, database_server, f"{PARTITIONED}; {first}")
    made.admin.run(f'GRANT TRIGGER, SELECT, UPDATE (embedding) ON first TO "{made.operator}"')
    return made


@pytest.mark.parametrize(
    "attach",
    [
        [PART, "ALTER TABLE businesses ATTACH PARTITION part FOR VALUES FROM (100) TO (200)"],
        ["CREATE TABLE part PARTITION OF businesses FOR VALUES FROM (100) TO (200)"],
        ["CREATE TABLE part PARTITION OF businesses DEFAULT"],
        [
            "CREATE TABLE part PARTITION OF businesses FOR VALUES FROM (100) TO (200)",
            "ALTER TABLE businesses DETACH PARTITION part",
            "ALTER TABLE businesses ATTACH PARTITION part FOR VALUES FROM (100) TO (200)",
        ],
        [
            "CREATE TABLE part PARTITION OF businesses FOR VALUES FROM (100) TO (200)",
            "ALTER TABLE businesses DETACH PARTITION part CONCURRENTLY",
            "ALTER TABLE businesses ATTACH PARTITION part FOR VALUES FROM (100) TO (200)",
        ],
    ],
    ids=["attached", "created", "default", "detached and attached", "detached concurrently and attached"],
)
async def test_the_owner_attaches_partitions_whose_rows_are_marked(partitioned: OwnedTable, attach: list[str]) -> None:
    await partitioned.set_up()
    with partitioned.session() as session:
        for statement in attach:
            run(session, statement)
        run(session, "INSERT INTO businesses (id, name) VALUES (150, 'new')")
        run(session, "UPDATE part SET name = 'newer'")
    assert partitioned.oracle.marks() == ["150", "150"]


async def test_a_detached_partition_is_a_table_without_our_triggers(partitioned: OwnedTable) -> None:
    await partitioned.set_up()
    with partitioned.session() as session:
        run(session, "ALTER TABLE businesses DETACH PARTITION first")
        run(session, "INSERT INTO first (id, name) VALUES (7, 'new')")
    assert partitioned.oracle.marks() == []
