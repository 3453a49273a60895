"""Row-level security never hides a row without a word: the table is refused, unless its policies let the role see every row."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.readiness import ready_for
from embedding_worker.source import ChangeDetection
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import Application, Keeper, Oracle, source_config

SECURED = "ALTER TABLE businesses ENABLE ROW LEVEL SECURITY"


@dataclass(frozen=True)
class Operator:
    name: str
    """In SQL."""
    rows: Database


@pytest.fixture
async def operator(
    businesses: Application, database: GivenDatabase, database_server: DatabaseServer
) -> AsyncIterator[Operator]:
    role, password = database_server.create_role("se cured")
    businesses.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    businesses.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"')
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two')")
    async with Database(database.url_for(role, password), max_connections=2) as rows:
        yield Operator(f'"{role}"', rows)


async def refusal(operator: Operator) -> SourceRefused:
    with pytest.raises(SourceRefused) as refused:
        await Keeper.prepare(operator.rows, source_config())
    with pytest.raises(SourceRefused) as checked:
        await ready_for(operator.rows, source_config())
    assert (checked.value.reason, checked.value.message) == (refused.value.reason, refused.value.message)
    assert refused.value.reason == "RowSecurityActive"
    return refused.value


async def works(businesses: Application, operator: Operator) -> Keeper:
    keeper = await Keeper.prepare(operator.rows, source_config())
    oracle = Oracle(businesses, source_config())
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (2, [])
    businesses.run("UPDATE businesses SET name = name || ' new'")
    assert (await keeper.keep(), oracle.wrong(), oracle.marks()) == (2, [], [])
    assert (await keeper.store.counts()).total == 2
    return keeper


def remedies(refused: SourceRefused) -> tuple[str, str]:
    bypass, _, policy = refused.message.partition(": as a superuser ")[2].partition(", or as the table's owner ")
    return bypass, policy


async def test_a_table_with_row_level_security_and_no_policy_is_refused(
    businesses: Application, operator: Operator
) -> None:
    businesses.run(SECURED)
    refused = await refusal(operator)
    assert refused.message == (
        f"row-level security of public.businesses may hide rows from role {operator.name}: "
        f"as a superuser ALTER ROLE {operator.name} BYPASSRLS, or as the table's owner "
        f'CREATE POLICY embedding_operator ON "public"."businesses" TO {operator.name} USING (true)'
    )


@pytest.mark.parametrize("remedy", [0, 1], ids=["bypass", "policy"])
async def test_each_of_the_two_remedies_is_enough(businesses: Application, operator: Operator, remedy: int) -> None:
    businesses.run(SECURED)
    businesses.run(remedies(await refusal(operator))[remedy])
    keeper = await works(businesses, operator)
    assert keeper.statements.layout.row_security == (remedy == 1)


ENOUGH = {
    "for all commands and everyone": "CREATE POLICY a ON businesses USING (true)",
    "for each command": "CREATE POLICY a ON businesses FOR SELECT USING (true); "
    "CREATE POLICY b ON businesses FOR UPDATE USING (true) WITH CHECK (true)",
    "through a role that the operator's is in": "CREATE POLICY a ON businesses TO pg_monitor USING (true); "
    "GRANT pg_monitor TO {role}",
    "with a restriction of deletions": "CREATE POLICY a ON businesses USING (true); "
    "CREATE POLICY b ON businesses AS RESTRICTIVE FOR DELETE USING (false)",
    "with a restriction of others": "CREATE POLICY a ON businesses USING (true); "
    "CREATE POLICY b ON businesses AS RESTRICTIVE TO pg_monitor USING (false)",
    "with a restriction that restricts nothing": "CREATE POLICY a ON businesses USING (true); "
    "CREATE POLICY b ON businesses AS RESTRICTIVE USING (true)",
}


@pytest.mark.parametrize("name", ENOUGH)
async def test_policies_that_let_the_role_see_and_write_every_row_are_enough(
    businesses: Application, operator: Operator, name: str
) -> None:
    businesses.run(SECURED)
    businesses.run(ENOUGH[name].format(role=operator.name))
    await works(businesses, operator)


NOT_ENOUGH = {
    "for some rows": "CREATE POLICY a ON businesses USING (name <> 'hidden')",
    "to read only": "CREATE POLICY a ON businesses FOR SELECT USING (true)",
    "to write only": "CREATE POLICY a ON businesses FOR UPDATE USING (true)",
    "with a check of what is written": "CREATE POLICY a ON businesses USING (true) WITH CHECK (name <> 'hidden')",
    "for another role": "CREATE POLICY a ON businesses TO pg_monitor USING (true)",
}


@pytest.mark.parametrize("name", NOT_ENOUGH)
async def test_other_policies_are_not_enough(businesses: Application, operator: Operator, name: str) -> None:
    businesses.run(SECURED)
    businesses.run(NOT_ENOUGH[name])
    businesses.run(remedies(await refusal(operator))[1])
    await works(businesses, operator)


async def test_a_restrictive_policy_is_named_because_no_other_policy_helps(
    businesses: Application, operator: Operator
) -> None:
    businesses.run(SECURED)
    businesses.run("CREATE POLICY all_rows ON businesses USING (true)")
    businesses.run("""CREATE POLICY "One tenant" ON businesses AS RESTRICTIVE USING (name <> 'hidden')""")
    refused = await refusal(operator)
    assert refused.message == (
        f'restrictive policies of public.businesses ("One tenant") may hide rows from role {operator.name}: '
        f"as a superuser ALTER ROLE {operator.name} BYPASSRLS"
    )


async def test_the_owner_sees_all_rows_unless_security_is_forced(businesses: Application, operator: Operator) -> None:
    businesses.run(f"ALTER TABLE businesses OWNER TO {operator.name}")
    businesses.run(SECURED)
    await works(businesses, operator)
    businesses.run("ALTER TABLE businesses FORCE ROW LEVEL SECURITY")
    assert (await refusal(operator)).message.startswith("row-level security of public.businesses may hide rows")


async def test_security_that_is_enabled_later_stops_the_source_and_loses_no_mark(
    businesses: Application, operator: Operator
) -> None:
    keeper, oracle = await works(businesses, operator), Oracle(businesses, source_config())
    businesses.run(SECURED)
    businesses.run("UPDATE businesses SET name = 'edited'")
    marks = oracle.marks()
    assert len(marks) == 2
    for use in (keeper.store.clear(marks), keeper.store.audit(after_id=None, limit=10), keeper.store.counts()):
        with pytest.raises(SourceRefused, match="would be affected by row-level security policy"):
            await use
    assert oracle.marks() == marks


async def test_another_table_that_the_text_reads_must_not_hide_its_rows_either(
    businesses: Application, operator: Operator
) -> None:
    businesses.run("CREATE TABLE reviews (business bigint, body text)")
    businesses.run("ALTER TABLE reviews ENABLE ROW LEVEL SECURITY")
    businesses.run(f"GRANT SELECT ON reviews TO {operator.name}")
    text = "name || (SELECT count(*) FROM reviews WHERE business = id)"
    config = source_config(text=text, detection=ChangeDetection.AUDIT)
    with pytest.raises(SourceRefused, match=r"^spec\.text reads public\.reviews, whose row-level security") as refused:
        await Keeper.prepare(operator.rows, config)
    assert refused.value.reason == "RowSecurityActive"
    businesses.run(f"ALTER ROLE {operator.name} BYPASSRLS")
    keeper = await Keeper.prepare(operator.rows, config)
    assert await keeper.audit() == 2
