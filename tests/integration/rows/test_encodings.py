"""Databases in other encodings than UTF-8: their rows become fresh and right, and what they cannot represent fails nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import psycopg
import pytest

from embedding_worker.errors import RowsRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.readiness import database_facts, ready_for
from hack.database.postgres import DatabaseServer
from tests.support.kept_rows import Application, Keeper, Oracle, source_config, vector_write

TEXTS = {
    "UTF8": ("plain", "ümläut", "日本語", "price: 5 €", "𝔘nicode", ""),
    "SQL_ASCII": ("plain", "ümläut", "日本語", "price: 5 €", "𝔘nicode", ""),
    "LATIN1": ("plain", "ümläut", "façade", ""),
    "LATIN9": ("plain", "ümläut", "price: 5 €"),
    "WIN1252": ("plain", "ümläut", "price: 5 €", "“quoted”"),
    "EUC_JP": ("plain", "日本語", "カタカナ", "①"),
    "EUC_KR": ("plain", "한국어"),
    "KOI8R": ("plain", "русский"),
    "WIN1251": ("plain", "русский", "„цитата“"),
}
NOT_IN = {"LATIN1": "日本語", "WIN1252": "русский", "EUC_JP": "한", "KOI8R": "𝔘"}
CREATE = "CREATE TABLE public.businesses (id text PRIMARY KEY, name text, embedding vector(3))"
CONFIG = source_config()


@dataclass(frozen=True)
class Encoded:
    """A database in an encoding, its application, and the operator's connections."""

    url: str
    application: Application
    rows: Database

    def insert_bytes(self, row_id: bytes, name: bytes) -> None:
        """Insert a row as an application does that does not care about encodings: the server takes these very bytes."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT set_config('client_encoding', getdatabaseencoding(), false)")
            values = b"'" + row_id + b"', '" + name + b"'"
            connection.pgconn.exec_(b"INSERT INTO businesses (id, name) VALUES (" + values + b")")


@pytest.fixture
def encoding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def encoded(database_server: DatabaseServer, encoding: str) -> AsyncIterator[Encoded]:
    created = database_server.create_database(encoding=encoding)
    url = created.url + ("&" if "?" in created.url else "?") + "client_encoding=UTF8"
    application = Application(url)
    application.run(CREATE)
    async with Database(created.url, max_connections=3) as rows:
        yield Encoded(url, application, rows)
    database_server.drop_database(created.name)


@pytest.mark.parametrize("encoding", TEXTS, indirect=True)
async def test_rows_are_kept_fresh_and_right_in_each_encoding(encoded: Encoded, encoding: str) -> None:
    application = encoded.application
    keeper = await Keeper.prepare(encoded.rows, CONFIG)
    for number, text in enumerate(TEXTS[encoding]):
        application.run("INSERT INTO businesses (id, name) VALUES (%s, %s)", f"{number} {text}".strip(), text)
    assert await keeper.keep() == len(TEXTS[encoding])
    application.run("UPDATE businesses SET name = name || '!'")
    application.run("UPDATE businesses SET id = 'new ' || id")
    assert await keeper.keep() == len(TEXTS[encoding])
    assert await keeper.audit() == 0
    oracle = Oracle(application, CONFIG)
    assert (oracle.wrong(), oracle.marks()) == ([], [])
    assert len(oracle.vectors()) == len(TEXTS[encoding])


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"], indirect=True)
async def test_the_checks_pass_in_each_encoding(encoded: Encoded) -> None:
    assert (await database_facts(encoded.rows)).version
    assert "businesses" in await ready_for(encoded.rows, CONFIG)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("LATIN1", "größe"), ("EUC_JP", "名前"), ("SQL_ASCII", "größe")],
    indirect=["encoding"],
)
async def test_names_and_expressions_may_have_the_characters_of_the_encoding(encoded: Encoded, name: str) -> None:
    encoded.application.run(f'ALTER TABLE businesses ADD COLUMN "{name}" text')
    encoded.application.run(f'ALTER TABLE businesses RENAME TO "{name}s"')
    config = source_config(f"{name}s", text=f"concat_ws(' ', '{name}: ', \"{name}\")")
    keeper = await Keeper.prepare(encoded.rows, config)
    encoded.application.run(f"INSERT INTO \"{name}s\" (id, \"{name}\") VALUES ('a', '{name}')")
    assert await keeper.keep() == 1
    assert Oracle(encoded.application, config).wrong() == []


@pytest.mark.parametrize("encoding", NOT_IN, indirect=True)
async def test_an_id_that_the_encoding_cannot_represent_is_no_rows_id_and_fails_nothing(
    encoded: Encoded, encoding: str
) -> None:
    keeper, oracle = await Keeper.prepare(encoded.rows, CONFIG), Oracle(encoded.application, CONFIG)
    (kept, *_) = (text for text in TEXTS[encoding] if not text.isascii())
    encoded.application.run("INSERT INTO businesses (id, name) VALUES (%s, 'one')", kept)
    store, impossible, ids = keeper.store, [NOT_IN[encoding]], [NOT_IN[encoding], kept]
    assert [due.id for due in await store.sweep(leave_out=impossible, limit=10)] == [kept]
    assert await store.sweep(leave_out=ids, limit=10) == []
    assert [mark.id for mark in await store.newer_marks(dict.fromkeys(ids, 0))] == [kept]
    assert set(await keeper.read(ids)) == {kept}
    assert await keeper.write([vector_write(row_id, "one") for row_id in ids]) == {kept}
    assert (await store.counts(dead_letters=ids)).total == 1
    assert (await store.try_write(ids)).written == {kept}
    await store.clear(ids)
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize(
    ("encoding", "broken"),
    [
        ("SQL_ASCII", b"caf\xe9"),
        ("WIN1252", b"undefined: \x81"),
        ("KOI8R", b"fine everywhere"),
        ("EUC_JP", b"\xa9\xa1"),
    ],
    indirect=["encoding"],
)
async def test_a_text_that_is_not_unicode_concerns_its_own_row_only(encoded: Encoded, broken: bytes) -> None:
    keeper, oracle = await Keeper.prepare(encoded.rows, CONFIG), Oracle(encoded.application, CONFIG)
    encoded.insert_bytes(b"broken", broken)
    encoded.application.run("INSERT INTO businesses (id, name) VALUES ('good', 'one')")
    due = {row.id: row.text_fails for row in await keeper.sweep()}
    assert due == {"broken": broken != b"fine everywhere", "good": False}
    await keeper.round()
    assert [row.id for row in await keeper.sweep() if not row.text_fails] == []
    assert dict(encoded.application.run("SELECT id, embedding IS NOT NULL FROM businesses"))["good"]
    encoded.application.run("DELETE FROM businesses WHERE id = 'broken'")
    await keeper.keep()
    assert (oracle.wrong(), oracle.marks()) == ([], [])


@pytest.mark.parametrize(
    ("encoding", "row_id"), [("SQL_ASCII", b"caf\xe9"), ("WIN1252", b"\x81")], indirect=["encoding"]
)
async def test_an_id_that_is_not_unicode_is_refused_with_the_remedy(encoded: Encoded, row_id: bytes) -> None:
    keeper, oracle = await Keeper.prepare(encoded.rows, CONFIG), Oracle(encoded.application, CONFIG)
    encoded.insert_bytes(row_id, b"one")
    with pytest.raises(RowsRefused, match=r"an id or a text in the table is not text in UTF-8 \(.*\): correct it"):
        await keeper.keep()
    encoded.application.run("UPDATE businesses SET id = 'corrected'")
    marks = keeper.statements.marks
    encoded.application.run(f"DELETE FROM {marks} WHERE seq < (SELECT max(seq) FROM {marks})")
    assert await keeper.keep() == 1
    assert oracle.wrong() == []
