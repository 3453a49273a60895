"""docs/model-change.md: each step as it is printed, while a reader searches all the while and the application edits rows."""

import itertools
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from hack.provider_server.process import FakeGemini
from hack.provider_server.vectors import fake_vector
from hack.repository import ROOT
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.documented_sql import ROLE
from tests.support.documented_steps import Kind, steps
from tests.support.yellow_book import TEXT

PAGE = (ROOT / "docs" / "model-change.md").read_text()
ROWS, EDITED = 400, 20
OLD, NEW = ("embedding", 512), ("embedding_v2", 768)


@dataclass
class Reader:
    """Searches for one row after the other by the vector of its text; the nearest row must be this one."""

    url: str
    texts: dict[int, str]
    pair: tuple[str, int] = OLD
    """The column, and the model that embeds the queries, by its dimensions."""
    searches: dict[tuple[str, int], int] = field(default_factory=lambda: {OLD: 0, NEW: 0})
    wrong: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def searching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(timeout=60)
            assert not thread.is_alive(), "the reader has not ended"

    def _run(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET hnsw.ef_search = 400")
            rows = itertools.cycle(self.texts)
            while not self._ended.wait(timeout=0.005):
                try:
                    self._search(connection, next(rows))
                except psycopg.Error as exc:
                    self.wrong.append(str(exc))

    def _search(self, connection: psycopg.Connection, row: int) -> None:
        column, dimensions = self.pair
        query = f"SELECT id FROM public.businesses ORDER BY {column} <=> %s::vector LIMIT 1"
        found = connection.execute(query.encode(), (str(fake_vector(self.texts[row], dimensions)),)).fetchone()
        if found != (row,):
            self.wrong.append(f"{column}: {found} instead of {row}")
        self.searches[column, dimensions] += 1

    def wait_for_searches(self, number: int) -> None:
        before = self.searches[self.pair]
        wait_until(
            lambda: self.searches[self.pair] >= before + number, within_s=60, because="the reader goes on searching"
        )


@pytest.fixture
def started(system: System, gemini: FakeGemini) -> System:
    """The source `businesses` with its first model, all of whose rows are embedded."""
    system.book.add(ROWS)
    system.start_with_gemini(gemini, backfill={"mode": "Auto", "threshold": 50})
    system.wait_until_fresh(within_s=120)
    return system


@pytest.mark.timeout(600)
def test_every_search_finds_the_right_row_while_the_model_is_changed(started: System) -> None:
    texts = dict(started.book.run(f"SELECT id, {TEXT} FROM public.businesses WHERE id > {EDITED}"))
    reader = Reader(started.book.url, texts)
    add_column, source, *watch, index, delete, drop = steps(PAGE, "The steps")
    with reader.searching():
        run_sql(started, add_column.text)
        started.kubectl.run("apply", "-f", "-", stdin=source.text.replace("Auto", "Auto\n    threshold: 50"))
        started.book.run(f"UPDATE public.businesses SET name = 'edited ' || id WHERE id <= {EDITED}")
        for command in watch:
            assert command.kind is Kind.COMMAND
            started.kubectl.run(*shlex.split(command.text)[1:], within_s=120)
        wait_until(lambda: outdated(started, *NEW) == 0, within_s=60, because="each row has a vector of the new model")
        run_sql(started, index.text)
        reader.wait_for_searches(100)
        reader.pair = NEW
        reader.wait_for_searches(100)
        started.kubectl.run(*shlex.split(delete.text)[1:])
        run_sql(started, drop.text)
        started.book.run("UPDATE public.businesses SET name = 'edited again ' || id WHERE id <= 3")
        wait_until(lambda: outdated(started, *NEW) == 0, within_s=60, because="edits are embedded as before")
        reader.wait_for_searches(100)
    assert reader.wrong == []


def run_sql(system: System, text: str) -> None:
    """One statement after the other, because an index is not built concurrently within a transaction."""
    role = unquote(urlsplit(system.database_url).username or "")
    with psycopg.connect(system.book.url, autocommit=True) as connection:
        for statement in text.replace(f"TO {ROLE};", f'TO "{role}";').split(";"):
            if statement.strip():
                connection.execute(statement.encode())


def outdated(system: System, column: str, dimensions: int) -> int:
    """How many rows do not have the vector that this model makes of their text."""
    rows = system.book.run(
        f"SELECT {TEXT}, {column}::text FROM public.businesses WHERE id <= {EDITED} OR {column} IS NULL"
    )
    return sum(vector is None or not same_direction(vector, fake_vector(text, dimensions)) for text, vector in rows)


def same_direction(stored: str, made: list[float]) -> bool:
    numbers = [float(number) for number in stored.strip("[]").split(",")]
    length = sum(number * number for number in made) ** 0.5
    return all(abs(one - other / length) < 1e-4 for one, other in zip(numbers, made, strict=True))
