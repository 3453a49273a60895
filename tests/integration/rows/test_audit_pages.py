"""A page of the audit ends at the last of its ids in the order of the column, whatever the ids are: no row is read twice."""

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application

ROWS, PAGE = 20_000, 2_000
IDS = {
    "bigint": "i - 10000",
    "bigint, negative": "-1 * i",
    "bigint, large": "9000000000000000000 - 1000000 * i::bigint",
    "integer": "i - 10000",
    "uuid": "md5(i::text)::uuid",
    "text": "'row ' || (i - 10000)",
    'text COLLATE "C"': "md5(i::text)",
}


@pytest.mark.parametrize("declared", IDS)
async def test_each_row_is_read_once(application: Application, keep: Keep, declared: str) -> None:
    kind, value = declared.partition(",")[0], IDS[declared]
    application.run(f"CREATE TABLE businesses (id {kind} PRIMARY KEY, name text, embedding real[])")
    keeper, oracle = await keep()
    application.run(
        "ALTER TABLE businesses DISABLE TRIGGER USER; INSERT INTO businesses "
        f"SELECT {value}, 'name ' || i FROM generate_series(1, {ROWS}) i; ANALYZE businesses"
    )
    pages, read, marked, after = 0, 0, 0, None
    while pages <= 2 * ROWS // PAGE:
        page = await keeper.store.audit(after_id=after, limit=PAGE)
        pages, read, marked, after = pages + 1, read + page.rows, marked + page.marked, page.last_id
        if after is None:
            break
    assert (pages, read, marked) == (ROWS // PAGE + 1, ROWS, ROWS)
    assert len(set(oracle.marks())) == ROWS
