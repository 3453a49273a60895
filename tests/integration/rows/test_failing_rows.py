"""Rows whose text fails: each is known by its id in every statement, the others become fresh, and so does it once corrected."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from embedding_worker.errors import RowsRefused, TableRefused
from embedding_worker.rows import table_access
from embedding_worker.rows.database import Database, Row, Transaction
from embedding_worker.rows.records import DuePreview
from hack.database.postgres import Database as GivenDatabase
from hack.database.postgres import DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, source_config

ROWS = 60
BAD = "37"
TIMEOUT_S = 0.2
TABLE = """
CREATE TABLE businesses (id bigint PRIMARY KEY, name text, n integer, doc json, embedding real[]);
CREATE FUNCTION checked(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN IF $1 LIKE 'secret %' THEN RAISE EXCEPTION 'the value is %', $1; END IF; RETURN $1; END$$;
CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN WHILE $1 LIKE 'secret %' LOOP PERFORM 1; END LOOP; RETURN $1; END$$;
"""


@dataclass(frozen=True)
class Failure:
    text: str
    bad: str
    """What makes a row's text fail."""
    sqlstate: str


GOOD = "name = 'name ' || id, n = id, doc = json_build_object('title', 'title ' || id)"
FAILURES = {
    "a division by zero": Failure("(10.0 / n)::text", "n = 0", "22012"),
    "an overflow": Failure("(n * 1000000)::text", "n = 1000000", "22003"),
    "a null character in json": Failure("doc->>'title'", 'doc = \'{"title": "secret \\u0000"}\'', "22P05"),
    "a date": Failure("(substr(name, 6)::int + date '2026-01-01')::text", "name = 'secret 1'", "22P02"),
    "a function that raises": Failure("checked(name)", "name = 'secret 1'", "P0001"),
    "a regular expression": Failure(
        "regexp_replace('any', doc->>'title', '')", 'doc = \'{"title": "secret ("}\'', "2201B"
    ),
    "a text that takes too long": Failure("slow(name)", "name = 'secret 1'", "57014"),
}
WITHOUT_A_WAIT = [name for name, failure in FAILURES.items() if failure.sqlstate != "57014"]


@pytest.fixture
def failure(application: Application, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failure:
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", TIMEOUT_S)
    application.run(TABLE)
    application.run(f"INSERT INTO businesses (id) SELECT generate_series(1, {ROWS})")
    application.run(f"UPDATE businesses SET {GOOD}")
    return FAILURES[request.param]


@pytest.fixture
async def kept(keep: Keep, failure: Failure) -> tuple[Keeper, Oracle]:
    return await keep(text=failure.text)


@pytest.mark.parametrize("failure", FAILURES, indirect=True)
async def test_one_row_of_a_hundred_fails_alone_in_the_first_audit_and_in_the_sweep(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, oracle = kept
    application.run(f"UPDATE businesses SET {failure.bad} WHERE id = {BAD}")
    await keeper.audit(page=40)
    assert sorted(oracle.marks(), key=int) == [str(n) for n in range(1, ROWS + 1)]
    due = {row.id: row for row in await keeper.sweep(limit=ROWS)}
    assert [row.id for row in due.values() if row.text_fails] == [BAD]
    assert [row.id for row in due.values() if row.content_hash is None] == [BAD]
    assert not due[BAD].gone
    assert len(due) == ROWS
    present = await keeper.read(list(due))
    assert [row.id for row in present.values() if row.failure] == [BAD]
    refusal = present[BAD].failure
    assert refusal is not None
    assert (refusal.sqlstate, "secret" in refusal.message) == (failure.sqlstate, False)


@pytest.mark.parametrize("failure", FAILURES, indirect=True)
async def test_the_others_become_fresh_and_the_failing_row_stays_due_until_it_is_corrected(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, oracle = kept
    await keeper.audit()
    application.run(f"UPDATE businesses SET {failure.bad} WHERE id = {BAD}")
    assert await keeper.round(limit=ROWS) == (ROWS, ROWS - 1)
    assert set(oracle.marks()) == {BAD}
    counts = await keeper.store.counts()
    assert (counts.total, counts.due, counts.due_without_dead_letter) == (ROWS, 1, True)
    assert not (await keeper.store.counts(dead_letters=[BAD])).due_without_dead_letter
    application.run(f"UPDATE businesses SET {GOOD} WHERE id = {BAD}")
    assert await keeper.keep() == 1
    assert (oracle.wrong(), oracle.marks(), await keeper.audit()) == ([], [], 0)


@pytest.mark.parametrize("failure", FAILURES, indirect=True)
async def test_a_fresh_row_whose_text_begins_to_fail_is_found_by_the_audit_alone(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, oracle = kept
    await keeper.audit()
    await keeper.keep()
    application.run(
        f"ALTER TABLE businesses DISABLE TRIGGER USER; UPDATE businesses SET {failure.bad} WHERE id = {BAD}"
    )
    assert await keeper.audit(page=7) == 1
    assert oracle.marks() == [BAD]
    assert await keeper.audit(page=7) == 0
    await keeper.store.clear([BAD])
    assert oracle.marks() == [BAD]
    application.run(f"UPDATE businesses SET {GOOD} WHERE id = {BAD}")
    assert await keeper.keep() == 0
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize("failure", FAILURES, indirect=True)
async def test_a_newer_mark_says_whether_the_row_fails_or_is_gone(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, _ = kept
    application.run(f"UPDATE businesses SET {failure.bad} WHERE id = {BAD}; DELETE FROM businesses WHERE id = 38")
    application.run(f"INSERT INTO {keeper.statements.marks} (id) VALUES ('38'), ('39')")
    marks = {mark.id: mark for mark in await keeper.store.newer_marks({BAD: 0, "38": 0, "39": 0})}
    assert {mark.id: (mark.content_hash is None, mark.gone) for mark in marks.values()} == {
        BAD: (True, False),
        "38": (True, True),
        "39": (False, False),
    }


@pytest.mark.parametrize("failure", FAILURES, indirect=True)
async def test_a_preview_has_the_failing_row_and_would_embed_the_others(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, _ = kept
    application.run(f"UPDATE businesses SET {failure.bad} WHERE id = {BAD}")
    due: list[DuePreview] = []
    after = None
    while not due or after is not None:
        page = await keeper.store.preview_due(after_id=after, limit=40)
        due, after = due + page.due, page.last_id
    assert sorted(int(row.id) for row in due) == list(range(1, ROWS + 1))
    assert [row.id for row in due if row.content_hash is None] == [BAD]
    assert (await keeper.store.would_embed())[0] == ROWS - 1


@pytest.mark.parametrize("failure", WITHOUT_A_WAIT, indirect=True)
async def test_where_every_row_fails_each_is_due_and_none_hides_the_others(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure
) -> None:
    keeper, oracle = kept
    application.run(f"UPDATE businesses SET {failure.bad}")
    assert await keeper.audit(page=40) == 0  # all have a mark of their edit
    due = await keeper.sweep(limit=ROWS)
    assert {row.id for row in due if row.text_fails} == {str(n) for n in range(1, ROWS + 1)}
    assert await keeper.store.would_embed() == (0, 0)
    assert len((await keeper.store.preview_due(after_id=None, limit=ROWS)).due) == ROWS
    application.run(f"TRUNCATE {keeper.statements.marks}")
    assert await keeper.audit(page=40) == ROWS
    application.run(f"UPDATE businesses SET {GOOD}")
    assert await keeper.keep() == ROWS
    assert oracle.wrong() == []


FORBIDDEN = """
CREATE TABLE prices (price text); CREATE FUNCTION priced(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN IF $1 LIKE 'secret %' THEN RETURN (SELECT price FROM prices LIMIT 1); END IF; RETURN $1; END$$
"""


@pytest.fixture
async def without_a_right(
    application: Application, database: GivenDatabase, database_server: DatabaseServer
) -> AsyncIterator[Keeper]:
    """The source of a role that may not read the table that the function reads for some rows."""
    application.run(TABLE + FORBIDDEN)
    application.run(f"INSERT INTO businesses (id) SELECT generate_series(1, {ROWS}); UPDATE businesses SET {GOOD}")
    role, password = database_server.create_role("least")
    application.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    application.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON businesses TO "{role}"')
    async with Database(database.url_for(role, password), max_connections=2) as rows:
        yield await Keeper.prepare(rows, source_config(text="priced(name)"))


async def test_a_right_that_only_one_rows_text_needs_is_that_rows_failure(
    application: Application, without_a_right: Keeper
) -> None:
    keeper = without_a_right
    application.run(f"UPDATE businesses SET name = 'secret 1' WHERE id = {BAD}")
    await keeper.audit()
    assert await keeper.round(limit=ROWS) == (ROWS, ROWS - 1)
    (row,) = await keeper.sweep()
    assert (row.id, row.text_fails) == (BAD, True)
    failure = (await keeper.read([BAD]))[BAD].failure
    assert failure is not None
    assert failure.sqlstate == "42501"
    assert (await keeper.audit(page=1), await keeper.audit()) == (0, 0)


async def test_a_right_that_every_rows_text_needs_is_the_sources_failure(
    application: Application, without_a_right: Keeper
) -> None:
    application.run("UPDATE businesses SET name = 'secret 1'")
    for reading in (
        without_a_right.sweep(),
        without_a_right.sweep(limit=1),
        without_a_right.read([BAD]),
        without_a_right.audit(),
        without_a_right.audit(page=1),
        without_a_right.store.would_embed(),
    ):
        with pytest.raises(TableRefused, match="permission denied for table prices"):
            await reading


MANY = 300
FEW_STATEMENTS = 10


@pytest.mark.parametrize("failure", WITHOUT_A_WAIT, indirect=True)
async def test_hundreds_of_rows_that_fail_are_separated_with_few_statements(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = kept
    application.run(f"INSERT INTO businesses (id) SELECT generate_series({ROWS + 1}, {ROWS + MANY})")
    application.run(
        f"UPDATE businesses SET {GOOD} WHERE id > {ROWS}; UPDATE businesses SET {failure.bad} WHERE id > {ROWS}"
    )
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", 10.0)
    statements = count_statements(monkeypatch)
    due = await keeper.sweep(limit=MANY + ROWS)
    assert len([row for row in due if row.text_fails]) == MANY
    assert statements.number() <= FEW_STATEMENTS
    present = await keeper.read([row.id for row in due])
    assert {row.failure.sqlstate for row in present.values() if row.failure} == {failure.sqlstate}
    assert len([row for row in present.values() if row.failure]) == MANY
    assert statements.number() <= FEW_STATEMENTS
    application.run(f"TRUNCATE {keeper.statements.marks}")
    assert await keeper.audit(page=MANY + ROWS) == MANY + ROWS
    assert statements.number() <= 2 * FEW_STATEMENTS


@pytest.mark.parametrize("failure", WITHOUT_A_WAIT, indirect=True)
async def test_an_audit_reads_no_text_of_a_row_that_is_known_to_be_due(
    application: Application, kept: tuple[Keeper, Oracle], failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = kept
    await keeper.audit()
    await keeper.keep()
    application.run(f"UPDATE businesses SET {failure.bad} WHERE id > 10")
    monkeypatch.setattr(table_access, "READ_TIMEOUT_S", 10.0)
    statements = count_statements(monkeypatch)
    assert await keeper.audit(page=ROWS) == 0
    assert statements.failed == 1
    assert statements.number() <= FEW_STATEMENTS


async def test_rows_that_fail_for_different_reasons_each_have_their_own(application: Application, keep: Keep) -> None:
    application.run(TABLE + "CREATE DOMAIN short AS text CONSTRAINT is_short CHECK (length(VALUE) < 20)")
    application.run(f"INSERT INTO businesses (id) SELECT generate_series(1, {ROWS}); UPDATE businesses SET {GOOD}")
    keeper, _ = await keep(text="concat((10.0 / n)::text, checked(name)::short)")
    application.run("UPDATE businesses SET n = 0 WHERE id BETWEEN 11 AND 20")
    application.run("UPDATE businesses SET name = 'secret 1' WHERE id BETWEEN 21 AND 30")
    application.run("UPDATE businesses SET name = repeat('long', 9) WHERE id BETWEEN 31 AND 40")
    present = await keeper.read([str(n) for n in range(1, ROWS + 1)])
    failing = {int(row.id): (row.failure.sqlstate, row.failure.constraint) for row in present.values() if row.failure}
    assert len(present) == ROWS
    assert failing == {
        **dict.fromkeys(range(11, 21), ("22012", "")),
        **dict.fromkeys(range(21, 31), ("P0001", "")),
        **dict.fromkeys(range(31, 41), ("23514", "is_short")),
    }


class Counted:
    """The statements that were sent, without the settings of transactions."""

    def __init__(self) -> None:
        self._sent = 0
        self.failed = 0

    def record(self) -> None:
        self._sent += 1

    def number(self) -> int:
        """Since the last call."""
        sent, self._sent = self._sent, 0
        return sent


def count_statements(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Those that a transaction contains, and those that have one of their own."""
    counted = Counted()

    def counting(send: Callable[..., Awaitable[list[Row]]]) -> Callable[..., Awaitable[list[Row]]]:
        async def fetch(self: object, sql: str, *params: object, **settings: object) -> list[Row]:
            counted.record()
            try:
                return await send(self, sql, *params, **settings)
            except RowsRefused:
                counted.failed += 1
                raise

        return fetch

    for owner in (Transaction, Database):
        monkeypatch.setattr(owner, "fetch", counting(owner.fetch))
    return counted
