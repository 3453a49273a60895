"""A text expression means the same in every statement: no name of a statement hides a column, and no character breaks it."""

import pytest

from embedding_worker.source import ChangeDetection
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle

# The table has a column for every name that a statement uses for something else.
OUR_NAMES = [
    *(
        "ids",
        "h",
        "e",
        "d",
        "s",
        "x",
        "k",
        "l",
        "t",
        "v",
        "n",
        "o",
        "r",
        "c",
        "f",
        "w",
        "p",
        "u",
        "seq",
        "edit",
        "edited",
    ),
    *(
        "moved",
        "since",
        "newest_mark",
        "newest",
        "right",
        "gone",
        "blank",
        "content_hash",
        "fingerprint",
        "embedded_at",
    ),
    *(
        "eo_id",
        "eo_text",
        "eo_vector",
        "eo_right",
        "eo_marks",
        "eo_given",
        "vector_hash",
        "page",
        "few",
        "marked",
        "written",
        "locked",
        "fresh",
        "done",
        "excluded",
    ),
]
OUR_TABLES = [
    *("newest", "oldest", "v", "k", "locked", "written", "done", "unmarked", "recorded", "page", "marked", "few_rows"),
    *("few_due", "few_blank", "ends", "state", "marks", "sources"),
]


async def every_statement(application: Application, keeper: Keeper, oracle: Oracle) -> None:
    """Each statement of the store sees the text as the application does: audit, sweep, read, write, newer marks, clear."""
    rows = len(oracle.vectors())
    assert await keeper.audit() == rows
    due = await keeper.sweep()
    assert await keeper.keep() == rows
    assert oracle.wrong() == []
    application.run(f"UPDATE {keeper.statements.table} SET name = name || ' new'")
    newer = await keeper.store.newer_marks({row.id: row.newest_mark for row in due})
    assert {mark.id for mark in newer} == {row.id for row in due}
    assert {mark.content_hash for mark in newer}.isdisjoint(row.content_hash for row in due)
    application.run(f"UPDATE {keeper.statements.table} SET name = replace(name, ' new', '')")
    await keeper.store.clear([row.id for row in due])
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert await keeper.audit() == 0


@pytest.mark.parametrize(
    "text",
    [
        "name -- the name",
        "name --",
        "name /* a comment */",
        "name || '%s %% %(name)s %'",
        "name || '{} {0} {name}'",
        "replace(name, '$1', '$2') || '$3'",
        "name || $$dollar 'quoted'$$ || $mark$ marked $mark$",
        "name || 'it''s' || E'\\t\\'' || U&'\\00e4'",
        "name || '\"double\"'",
        "name::varchar::text",
        "name || 'Größe 鮨 🍣' || chr(1234)",
        "name || ':name :id ?'",
        "name || '; DROP TABLE businesses; --'",
        "id::text || name",
        "name COLLATE \"C\"",
        "CASE WHEN name ~ '^\\w+$' THEN name ELSE 'other: ' || name END",
        "businesses.name || public.businesses.id",
        "regexp_replace(name, '(.)', '\\1\\1', 'g')",
        "name || E'\\n'\n-- and a comment\n|| 'after it'",
        "(((name)))",
        "ROW(name, id)::text",
        "json_build_object('name', name)::text",
    ],
)  # fmt: skip
async def test_an_expression_may_be_written_in_any_way(businesses: Application, keep: Keep, text: str) -> None:
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('2 %s'), ('$1 and {}'), ('Straße')")
    keeper, oracle = await keep(text=text)
    await every_statement(businesses, keeper, oracle)


async def test_columns_may_have_all_the_names_that_our_statements_use(application: Application, keep: Keep) -> None:
    columns = ", ".join(f'"{name}" text' for name in OUR_NAMES)
    application.run(f"CREATE TABLE businesses (id bigint PRIMARY KEY, name text, {columns}, embedding vector(3))")
    values = ", ".join(f"'of {name}'" for name in OUR_NAMES)
    application.run(f"INSERT INTO businesses VALUES (1, 'one', {values}), (2, 'two', {values})")
    read = ", ".join(f'"{name}"' for name in OUR_NAMES)
    keeper, oracle = await keep(text=f"concat_ws(' ', name, {read}, id)")
    await every_statement(application, keeper, oracle)


@pytest.mark.parametrize(
    ("id_column", "embedding_column"), [("h", "e"), ("eo_text", "eo_id"), ("seq", "id"), ("x", "t")]
)
async def test_the_id_and_the_vector_may_have_such_names_too(
    application: Application, keep: Keep, id_column: str, embedding_column: str
) -> None:
    application.run(f"CREATE TABLE t (name text, {id_column} bigint PRIMARY KEY, {embedding_column} vector(3))")
    application.run("INSERT INTO t VALUES ('one', 1), ('two', 2)")
    keeper, oracle = await keep("t", id_column=id_column, embedding_column=embedding_column)
    await every_statement(application, keeper, oracle)


async def test_other_tables_that_a_text_reads_may_have_all_such_names(businesses: Application, keep: Keep) -> None:
    businesses.run("INSERT INTO businesses (name) VALUES ('one')")
    for table in OUR_TABLES:
        businesses.run(f"CREATE TABLE {table} AS SELECT 1 AS id, ' of {table}' AS body")
    read = " || ".join(f"(SELECT body FROM {table} b WHERE b.id = businesses.id)" for table in OUR_TABLES)
    keeper, oracle = await keep(text=f"name || {read}", detection=ChangeDetection.AUDIT)
    assert await keeper.audit() == 1
    assert await keeper.keep() == 1
    assert oracle.vectors()["1"][0] == "one" + "".join(f" of {table}" for table in OUR_TABLES)
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    businesses.run(f"UPDATE {OUR_TABLES[0]} SET body = 'new'")
    assert await keeper.audit() == 1
    assert [row.up_to_date for row in await keeper.sweep()] == [False]
    businesses.run(f"UPDATE {OUR_TABLES[0]} SET body = ' of {OUR_TABLES[0]}'")
    await keeper.store.clear(["1"])
    assert (oracle.wrong(), oracle.marks()) == ([], [])
