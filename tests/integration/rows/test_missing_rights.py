"""All rights that the operator's role lacks are named at once, as SQL that can be pasted; once granted, set-up succeeds."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.change_marks import SHARED_TABLES
from embedding_worker.rows.database import Database
from embedding_worker.rows.readiness import ready_for
from embedding_worker.rows.table import quoted
from embedding_worker.source import ChangeDetection, SourceConfig
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import Application, Keeper, Oracle, source_config

TABLE, SCHEMA, COLUMN = '"Yellow Book"."Vip"', '"Yellow Book"', '"The Vector"'
MADE = f"""
DROP EXTENSION vector; CREATE SCHEMA "Ex tensions"; CREATE EXTENSION vector SCHEMA "Ex tensions";
CREATE SCHEMA {SCHEMA}; CREATE SCHEMA helpers;
CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text, about text, {COLUMN} "Ex tensions"."vector"(3));
CREATE TABLE {SCHEMA}."Kinds" (name text);
CREATE FUNCTION helpers."Greet"(text, number int DEFAULT 1) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'Hello ' || $1$$;
INSERT INTO {TABLE} VALUES (1, 'one', 'about it')
"""
RIGHTS = f"""
REVOKE ALL ON DATABASE {{database}} FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION helpers."Greet" FROM PUBLIC;
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {{database}} TO {{role}};
GRANT USAGE ON SCHEMA {SCHEMA}, "Ex tensions", helpers TO {{role}};
GRANT SELECT, TRIGGER, UPDATE ({COLUMN}) ON {TABLE} TO {{role}};
GRANT EXECUTE ON FUNCTION helpers."Greet" TO {{role}}; GRANT SELECT ON {SCHEMA}."Kinds" TO {{role}}
"""
KINDS = f'name || (SELECT count(*) FROM {SCHEMA}."Kinds" k WHERE k.name = "Vip".name)'


@dataclass(frozen=True)
class Operator:
    """The operator's role, with all rights that it needs, and an administrator who takes some of them away."""

    administrator: Application
    rows: Database
    name: str
    """In SQL."""
    database: str
    """In SQL."""

    def config(self, **differences: Any) -> SourceConfig:
        return source_config("Vip", schema="Yellow Book", embedding_column="The Vector", **differences)

    async def refusal(self, config: SourceConfig) -> SourceRefused:
        """The refusal of the set-up, which is the one of the checks too."""
        with pytest.raises(SourceRefused) as checked:
            await ready_for(self.rows, config)
        with pytest.raises(SourceRefused) as refused:
            await Keeper.prepare(self.rows, config)
        assert (checked.value.reason, checked.value.message) == (refused.value.reason, refused.value.message)
        return refused.value

    def paste(self, refused: SourceRefused) -> None:
        self.administrator.run(refused.message.partition(": ")[2])

    async def works(self, config: SourceConfig) -> None:
        await ready_for(self.rows, config)
        keeper = await Keeper.prepare(self.rows, config)
        await keeper.audit()
        assert await keeper.keep() == 1
        assert Oracle(self.administrator, config).wrong() == []


@pytest.fixture
async def operator(
    application: Application, database: GivenDatabase, database_server: DatabaseServer
) -> AsyncIterator[Operator]:
    application.run(MADE)
    role, password = database_server.create_role('the "operator"; of\'s')
    application.run(RIGHTS.format(role=quoted(role), database=quoted(database.name)))
    async with Database(database.url_for(role, password), max_connections=2) as rows:
        yield Operator(application, rows, quoted(role), quoted(database.name))


@dataclass(frozen=True)
class Case:
    revoked: str
    remedy: str
    trigger: bool = False
    source: dict[str, Any] = field(default_factory=dict)


ON_AUDIT = {"detection": ChangeDetection.AUDIT}
CASES = {
    "to enter the table's schema": Case(f"USAGE ON SCHEMA {SCHEMA}", f"GRANT USAGE ON SCHEMA {SCHEMA} TO {{role}}"),
    "to enter the schema of the vector type": Case(
        'USAGE ON SCHEMA "Ex tensions"', 'GRANT USAGE ON SCHEMA "Ex tensions" TO {role}'
    ),
    "to create a temporary view": Case(
        "TEMPORARY ON DATABASE {database}", "GRANT TEMPORARY ON DATABASE {database} TO {role}"
    ),
    "to create the own schema": Case("CREATE ON DATABASE {database}", "GRANT CREATE ON DATABASE {database} TO {role}"),
    "to read": Case(f"SELECT ON {TABLE}", f"GRANT SELECT ON {TABLE} TO {{role}}"),
    "to write": Case(f"UPDATE ({COLUMN}) ON {TABLE}", f"GRANT UPDATE ({COLUMN}) ON {TABLE} TO {{role}}"),
    "to create triggers": Case(f"TRIGGER ON {TABLE}", f"GRANT TRIGGER ON {TABLE} TO {{role}}", trigger=True),
    "to call a helper": Case(
        'EXECUTE ON FUNCTION helpers."Greet"',
        'GRANT EXECUTE ON FUNCTION helpers."Greet"(text,integer) TO {role}',
        source={"text": 'helpers."Greet"(name)'},
    ),
    "to enter the schema of a helper": Case(
        "USAGE ON SCHEMA helpers",
        'GRANT USAGE ON SCHEMA "helpers" TO {role}',
        source={"text": 'helpers."Greet"(name)'},
    ),
    "to read another table": Case(
        f'SELECT ON {SCHEMA}."Kinds"',
        f'GRANT SELECT ON {SCHEMA}."Kinds" TO {{role}}',
        source={"text": KINDS} | ON_AUDIT,
    ),
    "any": Case(
        f"SELECT, UPDATE ({COLUMN}), TRIGGER ON {TABLE} FROM {{role}}; "
        f'REVOKE USAGE ON SCHEMA {SCHEMA}, "Ex tensions" FROM {{role}}; '
        "REVOKE CREATE, TEMPORARY ON DATABASE {database}",
        f'GRANT USAGE ON SCHEMA {SCHEMA}, "Ex tensions" TO {{role}}; '
        "GRANT TEMPORARY, CREATE ON DATABASE {database} TO {role}; "
        f"GRANT SELECT, UPDATE ({COLUMN}), TRIGGER ON {TABLE} TO {{role}}",
        trigger=True,
    ),
    "any but to create triggers, which an audit does without": Case(
        f"SELECT, UPDATE ({COLUMN}), TRIGGER ON {TABLE}",
        f"GRANT SELECT, UPDATE ({COLUMN}) ON {TABLE} TO {{role}}",
        source=ON_AUDIT,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_the_statements_of_a_refusal_grant_all_that_was_missing(operator: Operator, name: str) -> None:
    case = CASES[name]
    names = {"role": operator.name, "database": operator.database}
    operator.administrator.run(f"REVOKE {case.revoked} FROM {operator.name}".format(**names))
    config = operator.config(**case.source)
    refused = await operator.refusal(config)
    partly = " (TRIGGER is not needed if spec.changeDetection is Audit)" if case.trigger else ""
    remedy = case.remedy.format(**names)
    assert refused.message == f"role {operator.name} lacks rights for Yellow Book.Vip{partly}: {remedy}"
    assert refused.reason == "Forbidden"
    assert operator.administrator.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]
    operator.paste(refused)
    await operator.works(config)


async def test_with_all_rights_nothing_is_refused(operator: Operator) -> None:
    await operator.works(operator.config(text='helpers."Greet"(name)'))


async def test_a_privilege_on_some_columns_is_not_enough_to_read(operator: Operator) -> None:
    operator.administrator.run(f"REVOKE SELECT ON {TABLE} FROM {operator.name}")
    operator.administrator.run(f"GRANT SELECT (id, name, {COLUMN}) ON {TABLE} TO {operator.name}")
    refused = await operator.refusal(operator.config())
    operator.paste(refused)
    await operator.works(operator.config())


async def test_a_missing_column_is_named_with_the_rights_that_it_needs(operator: Operator) -> None:
    operator.administrator.run(f"ALTER TABLE {TABLE} DROP COLUMN {COLUMN}")
    operator.administrator.run(f"REVOKE TRIGGER ON {TABLE} FROM {operator.name}")
    refused = await operator.refusal(operator.config())
    assert (refused.reason, refused.message) == (
        "ColumnMissing",
        f"Yellow Book.Vip has no column 'The Vector', and role {operator.name} may not add it: "
        f'ALTER TABLE {TABLE} ADD COLUMN {COLUMN} "Ex tensions"."vector"(3); '
        f"GRANT TRIGGER, UPDATE ({COLUMN}) ON {TABLE} TO {operator.name}",
    )
    operator.paste(refused)
    await operator.works(operator.config())


PARTITIONED = f"""
DROP TABLE {TABLE};
CREATE TABLE {TABLE} (id bigint PRIMARY KEY, name text, {COLUMN} "Ex tensions"."vector"(3)) PARTITION BY RANGE (id);
CREATE TABLE {SCHEMA}."Low" PARTITION OF {TABLE} FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE {SCHEMA}."Lowest" PARTITION OF {SCHEMA}."Low" FOR VALUES FROM (0) TO (5);
CREATE TABLE public.high PARTITION OF {TABLE} FOR VALUES FROM (10) TO (20);
INSERT INTO {TABLE} VALUES (1, 'one')
"""


async def test_every_partition_is_named_where_the_trigger_needs_its_right_too(operator: Operator) -> None:
    operator.administrator.run(PARTITIONED)
    operator.administrator.run(f"GRANT SELECT, TRIGGER, UPDATE ({COLUMN}) ON {TABLE} TO {operator.name}")
    refused = await operator.refusal(operator.config())
    assert refused.message.endswith(
        f': GRANT TRIGGER ON {SCHEMA}."Low", {SCHEMA}."Lowest", public.high TO {operator.name}'
    )
    operator.paste(refused)
    await operator.works(operator.config())


async def test_an_audit_needs_no_right_on_a_partition(operator: Operator) -> None:
    operator.administrator.run(PARTITIONED)
    operator.administrator.run(f"GRANT SELECT, UPDATE ({COLUMN}) ON {TABLE} TO {operator.name}")
    await operator.works(operator.config(**ON_AUDIT))


async def test_of_many_partitions_twenty_are_named(operator: Operator) -> None:
    operator.administrator.run(PARTITIONED)
    for n in range(23):
        operator.administrator.run(
            f"CREATE TABLE public.p{n} PARTITION OF {TABLE} FOR VALUES FROM ({100 + n}) TO ({101 + n})"
        )
    operator.administrator.run(f"GRANT SELECT, TRIGGER, UPDATE ({COLUMN}) ON {TABLE} TO {operator.name}")
    refused = await operator.refusal(operator.config())
    named, _, rest = refused.message.partition(": GRANT TRIGGER ON ")[2].partition(" TO ")
    assert len(named.split(", ")) == 20
    assert rest == f"{operator.name} (and the same on 6 more)"


async def another_role_has_set_up(operator: Operator) -> str:
    """Set up by the administrator. Returns the stem of the book-keeping's names."""
    async with Database(operator.administrator.url, max_connections=1) as rows:
        await Keeper.prepare(rows, operator.config())
    return operator.config().at.bookkeeping_name


async def test_book_keeping_of_another_role_needs_rights_on_each_of_its_tables(operator: Operator) -> None:
    stem = await another_role_has_set_up(operator)
    refused = await operator.refusal(operator.config())
    shared = ", ".join(f'embedding_operator."{table}"' for table in SHARED_TABLES)
    own = f'embedding_operator."{stem}'
    assert refused.message == (
        f"role {operator.name} lacks rights for Yellow Book.Vip: GRANT USAGE ON SCHEMA embedding_operator TO {operator.name}; "
        f"GRANT SELECT, INSERT, UPDATE ON {shared} TO {operator.name}; "
        f'GRANT SELECT, INSERT, UPDATE, DELETE ON {own}_state", {own}_marks" TO {operator.name}'
    )
    operator.paste(refused)
    await operator.works(operator.config())


async def test_a_trigger_function_of_another_role_must_change_its_owner_before_it_is_replaced(
    operator: Operator,
) -> None:
    stem = await another_role_has_set_up(operator)
    operator.paste(await operator.refusal(operator.config()))
    operator.administrator.run(f'DROP TRIGGER "{stem}_ins" ON {TABLE}')
    refused = await operator.refusal(operator.config())
    function = f'embedding_operator."{stem}_mark"()'
    assert refused.message == (
        f"role {operator.name} lacks rights for Yellow Book.Vip: GRANT CREATE ON SCHEMA embedding_operator TO {operator.name}; "
        f"ALTER FUNCTION {function} OWNER TO {operator.name}"
    )
    operator.paste(refused)
    await operator.works(operator.config())


async def test_a_trigger_that_reads_other_columns_than_the_text_is_replaced_with_the_same_rights(
    operator: Operator,
) -> None:
    await operator.works(operator.config())
    operator.administrator.run(f"REVOKE TRIGGER ON {TABLE} FROM {operator.name}")
    await ready_for(operator.rows, operator.config())
    config = operator.config(text="concat(name, about)")
    refused = await operator.refusal(config)
    assert refused.message.endswith(f"GRANT TRIGGER ON {TABLE} TO {operator.name}")
    operator.paste(refused)
    await operator.works(config)


async def test_an_empty_schema_of_another_role_is_entered_and_filled_with_a_grant_on_it(operator: Operator) -> None:
    operator.administrator.run("CREATE SCHEMA embedding_operator")
    operator.administrator.run(f"REVOKE CREATE ON DATABASE {operator.database} FROM {operator.name}")
    refused = await operator.refusal(operator.config())
    assert refused.message.endswith(f": GRANT CREATE, USAGE ON SCHEMA embedding_operator TO {operator.name}")
    operator.paste(refused)
    await operator.works(operator.config())
