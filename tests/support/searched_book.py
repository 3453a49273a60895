"""The demo's businesses in databases as docs/search.md searches them, with vectors of the local model.

Called by the tests of that page. In the first database the operator's own store has written the vectors. The second has more
rows, so that PostgreSQL chooses the index.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psycopg

from embedding_worker.rows.database import Database
from embedding_worker.rows.records import VectorWrite
from embedding_worker.source import Model
from embedding_worker.text import content_hash
from hack.database.postgres import DatabaseServer
from hack.demo.data import Business, businesses
from tests.support.kept_rows import Keeper, source_config
from tests.support.yellow_book import TABLE, TEXT, local_model

MODEL = Model("local", "universal-sentence-encoder-multilingual-3", 512)
COPY = (
    """COPY public.businesses (name, description, phone, city, country, categories, lat, lng, embedding) FROM STDIN"""
)
INSERT = COPY.replace("COPY", "INSERT INTO").replace("FROM STDIN", f"VALUES ({', '.join(['%s'] * 8)}, NULL)")


@dataclass(frozen=True)
class Book:
    """public.businesses in one database, as an application asks it."""

    url: str = field(repr=False)

    def run(self, sql: str, *parameters: object, before: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """A statement with parameters as the page prints it ($1). After other statements, all of it is rolled back."""
        with psycopg.connect(self.url, cursor_factory=psycopg.RawCursor) as connection:
            for statement in before:
                connection.execute(statement.encode())
            cursor = connection.execute(sql.encode(), parameters or None)
            found = cursor.fetchall() if cursor.description else []
            if before:
                connection.rollback()
            return found

    def execute(self, *statements: str) -> None:
        """Each in a transaction of its own, as CREATE INDEX CONCURRENTLY needs it."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def plan(self, sql: str, *parameters: object, before: Sequence[str] = ()) -> str:
        lines = [str(row[0]) for row in self.run(f"EXPLAIN (COSTS OFF) {sql}", *parameters, before=before)]
        return "\n".join(lines)


def vector(text: str) -> str:
    """The vector of a search text, as PostgreSQL reads it."""
    return str(local_model([text])[0].tolist())


def embedded_book(server: DatabaseServer) -> Book:
    """The demo's businesses, each with the vector that the operator has written for its text."""
    book = Book(server.create_database("search").url)
    book.execute(TABLE)
    with psycopg.connect(book.url) as connection:
        connection.cursor().executemany(INSERT.encode(), [_columns(business) for business in businesses()])
    embed_due_rows(book)
    return book


def large_book(server: DatabaseServer, *, copies: int) -> Book:
    """The demo's businesses several times; the vectors of the copies differ a little."""
    book = Book(server.create_database("search").url)
    book.execute(TABLE)
    found, random = businesses(), np.random.default_rng(1)
    vectors = local_model([business.text for business in found])
    with psycopg.connect(book.url) as connection, connection.cursor().copy(COPY) as rows:
        for copy in range(copies):
            for business, embedding in zip(found, vectors, strict=True):
                other = embedding + (random.normal(0, 0.01, len(embedding)) if copy else 0)
                rows.write_row((*_columns(business), str((other / np.linalg.norm(other)).tolist())))
    book.execute("VACUUM (ANALYZE) public.businesses")
    return book


def embed_due_rows(book: Book) -> None:
    """What the operator does with a backlog: each row that is due gets the vector of its present text."""
    asyncio.run(_embed_due_rows(book.url))


async def _embed_due_rows(url: str) -> None:
    async with Database(url, max_connections=2) as database:
        keeper = await Keeper.prepare(database, source_config(text=TEXT, model=MODEL))
        await keeper.audit(page=500)
        due = await keeper.sweep(limit=500)
        present = await keeper.read([row.id for row in due])
        vectors = local_model([row.text for row in present.values()]).tolist()
        await keeper.write(
            [VectorWrite(row.id, content_hash(row.text), v) for row, v in zip(present.values(), vectors, strict=True)]
        )
        await keeper.store.clear([row.id for row in due])


def _columns(business: Business) -> tuple[Any, ...]:
    place = (business.city, business.country, list(business.categories), business.lat, business.lng)
    return (business.name, business.description, business.phone, *place)
