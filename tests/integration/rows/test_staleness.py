"""Each state of a row, whatever has led to it: the row is counted as due, the audit alone repairs it, and nothing else is sent.

Rows 1 to 5 are fresh with the texts one, two, three, four and the empty text. Then something happens, with the triggers in place
or without them.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest

from hack.database.postgres import Database, DatabaseServer
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, fake_vector

TEXTS = ("one", "two", "three", "four", "")
EVERY_TEXT = ["1", "2", "3", "4"]
COLUMNS = "id, name, embedding"


@dataclass(frozen=True)
class Staleness:
    """Something that happens to the table, and the ids of the rows that have to be written because of it."""

    happens: str
    """SQL. `{one}` and so on stand for the vectors of these texts, `{state}` and `{marks}` for the operator's tables."""
    due: list[str]


VECTORS = {
    "a vector is missing": Staleness("UPDATE businesses SET embedding = NULL WHERE id IN (1, 3)", ["1", "3"]),
    "all vectors are missing": Staleness("UPDATE businesses SET embedding = NULL", EVERY_TEXT),
    "a vector is overwritten": Staleness("UPDATE businesses SET embedding = '[1,2,3]' WHERE id = 2", ["2"]),
    "a vector is overwritten with another row's": Staleness(
        "UPDATE businesses SET embedding = {two} WHERE id = 1", ["1"]
    ),
    "two vectors are exchanged": Staleness(
        "UPDATE businesses SET embedding = (CASE id WHEN 2 THEN {three} ELSE {two} END)::vector WHERE id IN (2, 3)",
        ["2", "3"],
    ),
    "a vector differs in the last bit": Staleness(
        "UPDATE businesses SET embedding = (embedding::real[])[1:2] || ((embedding::real[])[3] * (1 + 1.2e-7))::real "
        "WHERE id = 1",
        ["1"],
    ),
    "a vector is overwritten with itself": Staleness("UPDATE businesses SET embedding = embedding", []),
    "a row without text gets a vector": Staleness("UPDATE businesses SET embedding = {one} WHERE id = 5", ["5"]),
}
TEXT_CHANGES = {
    "a text is edited": Staleness("UPDATE businesses SET name = 'new' WHERE id = 1", ["1"]),
    "a text is edited and gets a vector from elsewhere": Staleness(
        "UPDATE businesses SET name = 'two', embedding = {two} WHERE id = 1", ["1"]
    ),
    "an edit is undone": Staleness(
        "UPDATE businesses SET name = 'new' WHERE id = 1; UPDATE businesses SET name = 'one' WHERE id = 1", []
    ),
    "another column is edited": Staleness("UPDATE businesses SET phone = '1'", []),
    "a text becomes empty": Staleness("UPDATE businesses SET name = ' ' WHERE id = 1", ["1"]),
    "a text becomes empty together with its vector": Staleness(
        "UPDATE businesses SET name = NULL, embedding = NULL WHERE id = 1", ["1"]
    ),
    "an empty text is filled": Staleness("UPDATE businesses SET name = 'five' WHERE id = 5", ["5"]),
    "an empty text is filled, and a vector with it": Staleness(
        "UPDATE businesses SET name = 'one', embedding = {one} WHERE id = 5", ["5"]
    ),
    "an empty text becomes another one": Staleness("UPDATE businesses SET name = '  ' WHERE id = 5", ["5"]),
    "an empty text becomes null": Staleness("UPDATE businesses SET name = NULL WHERE id = 5", []),
    "an empty text is filled and emptied": Staleness(
        "UPDATE businesses SET name = 'five' WHERE id = 5; UPDATE businesses SET name = '' WHERE id = 5", []
    ),
    "two texts are exchanged": Staleness(
        "UPDATE businesses SET name = CASE id WHEN 1 THEN 'two' ELSE 'one' END WHERE id < 3", ["1", "2"]
    ),
    "two texts are exchanged and back": Staleness(
        "UPDATE businesses SET name = CASE name WHEN 'one' THEN 'two' ELSE 'one' END WHERE id < 3;"
        "UPDATE businesses SET name = CASE name WHEN 'one' THEN 'two' ELSE 'one' END WHERE id < 3",
        [],
    ),
    "two texts are exchanged, and their vectors too": Staleness(
        "UPDATE businesses b SET name = o.name, embedding = o.embedding FROM businesses o "
        "WHERE b.id < 3 AND o.id = 3 - b.id",
        ["1", "2"],
    ),
}
IDS = {
    "an id is changed": Staleness("UPDATE businesses SET id = 9 WHERE id = 1", ["9"]),
    "an id is changed and taken by another row": Staleness(
        "UPDATE businesses SET id = 9 WHERE id = 1; UPDATE businesses SET id = 1 WHERE id = 2", ["1", "9"]
    ),
    "two ids are exchanged": Staleness(
        "UPDATE businesses SET id = 9 WHERE id = 1; UPDATE businesses SET id = 1 WHERE id = 2;"
        "UPDATE businesses SET id = 2 WHERE id = 9",
        ["1", "2"],
    ),
    "two ids are exchanged and back": Staleness(
        "UPDATE businesses SET id = -id WHERE id < 3; UPDATE businesses SET id = 3 + id WHERE id < 0;"
        "UPDATE businesses SET id = -id WHERE id < 3; UPDATE businesses SET id = 3 + id WHERE id < 0",
        [],
    ),
    "the id of a row without text is changed": Staleness("UPDATE businesses SET id = -9 WHERE id = 5", ["-9"]),
}
ROWS = {
    "a row is deleted": Staleness("DELETE FROM businesses WHERE id = 2", []),
    "a row is edited and deleted": Staleness(
        "UPDATE businesses SET name = 'new' WHERE id = 2; DELETE FROM businesses WHERE id = 2", []
    ),
    "a row is deleted and inserted again": Staleness(
        "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses (id, name) VALUES (2, 'two')", ["2"]
    ),
    "a row is deleted and inserted again with its vector": Staleness(
        "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses (id, name, embedding) VALUES (2, 'two', {two})", []
    ),
    "a row is deleted and inserted again with another vector": Staleness(
        "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses (id, name, embedding) VALUES (2, 'two', {one})",
        ["2"],
    ),
    "a row is deleted and inserted again with another text and the old vector": Staleness(
        "DELETE FROM businesses WHERE id = 2; INSERT INTO businesses (id, name, embedding) VALUES (2, 'new', {two})",
        ["2"],
    ),
    "a row without text is deleted and inserted again": Staleness(
        "DELETE FROM businesses WHERE id = 5; INSERT INTO businesses (id, name) VALUES (5, '')", []
    ),
    "a row is new": Staleness("INSERT INTO businesses (id, name) VALUES (6, 'six')", ["6"]),
    "a row is new and has a vector from elsewhere": Staleness(
        "INSERT INTO businesses (id, name, embedding) VALUES (6, 'one', {one})", ["6"]
    ),
    "a row without text is new": Staleness("INSERT INTO businesses (id) VALUES (6)", ["6"]),
    "the table is emptied": Staleness("TRUNCATE businesses", []),
    "the table is emptied and loaded with its vectors": Staleness(
        f"CREATE TABLE saved AS TABLE businesses; TRUNCATE businesses; "
        f"INSERT INTO businesses ({COLUMNS}) SELECT {COLUMNS} FROM saved",
        [],
    ),
    "the table is emptied and loaded without its vectors": Staleness(
        "CREATE TABLE saved AS TABLE businesses; TRUNCATE businesses; "
        "INSERT INTO businesses (id, name) SELECT id, name FROM saved",
        EVERY_TEXT,
    ),
    "the table is emptied and loaded with other vectors": Staleness(
        "CREATE TABLE saved AS TABLE businesses; TRUNCATE businesses; "
        "INSERT INTO businesses (id, name, embedding) SELECT id, name, '[1,2,3]' FROM saved",
        [*EVERY_TEXT, "5"],
    ),
    "the table is emptied and loaded with the vectors of the neighbours": Staleness(
        "CREATE TABLE saved AS TABLE businesses; TRUNCATE businesses; INSERT INTO businesses (id, name, embedding) "
        "SELECT s.id, s.name, o.embedding FROM saved s LEFT JOIN saved o ON o.id = s.id + 1",
        EVERY_TEXT,
    ),
    "rows are loaded with triggers off": Staleness(
        "SET session_replication_role = replica; INSERT INTO businesses (id, name) VALUES (6, 'six'), (7, '');"
        "UPDATE businesses SET name = 'new' WHERE id = 1; DELETE FROM businesses WHERE id = 2",
        ["1", "6", "7"],
    ),
    "the vector column is dropped and added again": Staleness(
        "ALTER TABLE businesses DROP COLUMN embedding; ALTER TABLE businesses ADD COLUMN embedding vector(3)",
        EVERY_TEXT,
    ),
}
BOOKKEEPING = {
    "it names another text": Staleness(
        "UPDATE {state} SET content_hash = repeat('0', 64) WHERE id IN (1, 5)", ["1", "5"]
    ),
    "it names no text": Staleness("UPDATE {state} SET content_hash = '' WHERE id IN (1, 5)", ["1", "5"]),
    "it names another model": Staleness("UPDATE {state} SET fingerprint = 'fake@2' WHERE id IN (2, 5)", ["2", "5"]),
    "it names another vector": Staleness("UPDATE {state} SET vector_hash = '\\x00' WHERE id = 1", ["1"]),
    "it is missing": Staleness("DELETE FROM {state} WHERE id IN (1, 5)", ["1", "5"]),
    "all of it is missing": Staleness("TRUNCATE {state}", [*EVERY_TEXT, "5"]),
    "it is the one of another row": Staleness(
        "DELETE FROM {state} WHERE id = 2; UPDATE {state} SET id = 2 WHERE id = 1", ["1", "2"]
    ),
    "it is left over from a row that comes back with another text": Staleness(
        "DELETE FROM businesses WHERE id = 1; INSERT INTO businesses (id, name) VALUES (1, 'new')", ["1"]
    ),
    "it is left over from a row whose id a new row gets": Staleness(
        "UPDATE businesses SET id = 9 WHERE id = 1; INSERT INTO businesses (id, name) VALUES (1, 'one')", ["1", "9"]
    ),
    "an earlier version wrote it": Staleness("UPDATE {state} SET vector_hash = NULL", []),
    "an earlier version wrote it, and the vector is missing": Staleness(
        "UPDATE {state} SET vector_hash = NULL; UPDATE businesses SET embedding = NULL WHERE id = 1", ["1"]
    ),
    "an earlier version wrote it, and the text is edited": Staleness(
        "UPDATE {state} SET vector_hash = NULL; UPDATE businesses SET name = 'new' WHERE id = 1", ["1"]
    ),
    "it calls a row empty that is not": Staleness("UPDATE {state} SET blank = true WHERE id = 1", []),
}
MARKS = {
    "a mark is missing": Staleness("UPDATE businesses SET name = 'new' WHERE id = 1; TRUNCATE {marks}", ["1"]),
    "a mark is there twice": Staleness(
        "UPDATE businesses SET name = 'new' WHERE id = 1; INSERT INTO {marks} (id) VALUES ('1'), ('1')", ["1"]
    ),
    "a mark is there without a reason": Staleness("INSERT INTO {marks} (id) VALUES ('1'), ('1'), ('5')", []),
    "a mark is left over from a row that is gone": Staleness("INSERT INTO {marks} (id) VALUES ('77')", []),
    "marks are of ids that the column can't hold": Staleness(
        "INSERT INTO {marks} (id) VALUES (''), ('no-number'), ('007'), ('9223372036854775808')", []
    ),
    "marks have the same number": Staleness(
        "INSERT INTO {marks} (seq, id) VALUES (7, '1'), (7, '2'), (7, '77'); "
        "UPDATE businesses SET name = 'new' WHERE id = 2",
        ["2"],
    ),
}
TRIGGERS = {
    "they are disabled for an edit": Staleness(
        "ALTER TABLE businesses DISABLE TRIGGER USER; UPDATE businesses SET name = 'new' WHERE id = 4;"
        "ALTER TABLE businesses ENABLE TRIGGER USER",
        ["4"],
    ),
    "they are disabled for an insert": Staleness(
        "ALTER TABLE businesses DISABLE TRIGGER USER; INSERT INTO businesses (id, name) VALUES (6, 'six')", ["6"]
    ),
    "they are disabled for a change of ids": Staleness(
        "ALTER TABLE businesses DISABLE TRIGGER USER; UPDATE businesses SET id = id + 1 WHERE id = 5;"
        "UPDATE businesses SET id = id + 1 WHERE id = 4",
        ["5", "6"],
    ),
}
MATRIX = {
    f"{of}: {name}": staleness
    for of, kinds in {
        "vectors": VECTORS,
        "texts": TEXT_CHANGES,
        "ids": IDS,
        "rows": ROWS,
        "book-keeping": BOOKKEEPING,
        "marks": MARKS,
        "triggers": TRIGGERS,
    }.items()
    for name, staleness in kinds.items()
}

Happen = Callable[[Staleness], None]


@pytest.fixture(scope="module")
def database(database_server: DatabaseServer) -> Iterator[Database]:
    """One for all of them, because creating it takes longer than the rest of a test."""
    created = database_server.create_database()
    yield created
    database_server.drop_database(created.name)


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> AsyncIterator[tuple[Keeper, Oracle]]:
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) SELECT unnest(%s::text[])", list(TEXTS))
    await keeper.keep()
    yield keeper, oracle
    businesses.run("DROP TABLE IF EXISTS businesses, saved; DROP SCHEMA embedding_operator CASCADE")


@pytest.fixture(params=["with triggers", "without triggers"])
def happen(businesses: Application, kept: tuple[Keeper, Oracle], request: pytest.FixtureRequest) -> Happen:
    if request.param == "without triggers":
        for (name,) in businesses.run(
            "SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'businesses'::regclass AND NOT tgisinternal"
        ):
            businesses.run(f'DROP TRIGGER "{name}" ON businesses')
    vectors = {text: f"'{fake_vector(text)}'" for text in ("one", "two", "three")}
    tables = {"state": kept[0].statements.state, "marks": kept[0].statements.marks}

    def run(staleness: Staleness) -> None:
        businesses.run(staleness.happens.format(**vectors, **tables))

    return run


@pytest.mark.parametrize("staleness", MATRIX.values(), ids=MATRIX.keys())
async def test_exactly_the_stale_rows_are_due_and_are_written_once(
    kept: tuple[Keeper, Oracle], happen: Happen, staleness: Staleness
) -> None:
    keeper, oracle = kept
    happen(staleness)
    await keeper.audit(page=2)
    assert set(staleness.due) <= set(oracle.marks())
    due = {row.id for row in await keeper.sweep() if not row.up_to_date and not row.gone}
    assert due == set(staleness.due)
    assert (await keeper.store.counts()).due >= len(due)
    assert await keeper.keep() == len(due)
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    counts = await keeper.store.counts()
    assert (counts.due, counts.due_without_dead_letter, counts.oldest_due_since) == (0, False, None)
    assert (await keeper.audit(page=2), await keeper.keep()) == (0, 0)


async def test_a_mark_without_an_id_is_the_mark_of_no_row(businesses: Application, kept: tuple[Keeper, Oracle]) -> None:
    keeper, _ = kept
    businesses.run(f"INSERT INTO {keeper.statements.marks} (id) VALUES (NULL)")
    assert await keeper.sweep() == []
    counts = await keeper.store.counts()
    assert (counts.due, counts.due_without_dead_letter, counts.oldest_due_since) == (0, False, None)
