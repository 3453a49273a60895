"""An id of every type is compared as what it is, so that each statement finds its rows by the index of the id column."""

import pytest

from embedding_worker.rows.adoption import AdoptingStatements
from tests.integration.rows.conftest import Keep
from tests.integration.rows.test_plans import explained, rows_met
from tests.support.kept_rows import Application, vector_write

ROWS = 20_000
WINDOW = 64
MOST = 10 * WINDOW
TYPES = {
    "bigint": "bigint",
    "smallint": "smallint",
    "uuid": "uuid",
    "text": "text",
    "varchar": "text",
    "varchar(40)": "text",
    "char(40)": "bpchar",
    'text COLLATE "C"': "text",
    'char(40) COLLATE "POSIX"': "bpchar",
    "number": "bigint",
    "slug": "text",
}
DOMAINS = """
CREATE DOMAIN inner_number AS bigint CHECK (VALUE > 0); CREATE DOMAIN number AS inner_number;
CREATE DOMAIN slug AS varchar(40) COLLATE "C"
"""


@pytest.mark.parametrize("declared", TYPES)
async def test_statements_find_their_rows_by_the_index(application: Application, keep: Keep, declared: str) -> None:
    declared_type = declared.partition(" COLLATE")[0]
    value = "lpad(i::text, 32, '0')::uuid" if declared == "uuid" else f"i::{declared_type}"
    application.run(DOMAINS)
    application.run(f"CREATE TABLE businesses (id {declared} PRIMARY KEY, name text, embedding real[])")
    keeper, _ = await keep()
    application.run(f"INSERT INTO businesses SELECT {value}, 'name ' || i FROM generate_series(1, {ROWS}) i")
    statements = keeper.statements
    application.run(f"INSERT INTO {statements.state} SELECT id, 'hash', 'fake@3', now() FROM businesses")
    for table in ("businesses", statements.state, statements.marks):
        application.run(f"VACUUM ANALYZE {table}")
    assert statements.layout.id_type == TYPES[declared]

    ids = [row[0] for row in application.run(f"SELECT id::text FROM businesses WHERE name LIKE '%%77' LIMIT {WINDOW}")]
    rows = [vector_write(row_id, "another text") for row_id in ids]
    written = (ids, [row.content_hash for row in rows], ["{1,2,3}"] * len(rows), "fake@3")
    pages = [row[0] for row in application.run(f"SELECT id::text FROM businesses b ORDER BY b.id LIMIT {WINDOW}")]
    adopting = AdoptingStatements(statements.config, statements.layout)
    plans = {
        "look": await explained(keeper, statements.look, ids, "fake@3"),
        "write": await explained(keeper, statements.write, *written),
        "clear": await explained(keeper, statements.clear, ids, "fake@3"),
        "audit": await explained(keeper, statements.audit, pages[-1], WINDOW, "fake@3"),
        "adopting audit": await explained(keeper, adopting.adopting_audit, pages[-1], WINDOW, "fake@3"),
        "adopt": await explained(keeper, adopting.adopt, ids, WINDOW, "fake@3"),
        "orphans": await explained(keeper, statements.orphans, pages[0], pages[-1], 5_000),
    }
    for name, plan in plans.items():
        met = [(node["Node Type"], node.get("Relation Name"), rows_met(node)) for node in plan]
        assert max(rows for *_, rows in met) <= MOST, (name, met)
