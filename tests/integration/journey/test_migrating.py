"""docs/migrating.md: each step as it is printed, on tables as other systems leave them, and no text is sent without need."""

import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
import yaml

from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from hack.repository import ROOT
from tests.integration.journey.conftest import System
from tests.support import other_systems
from tests.support.deadline import wait_until
from tests.support.documented_sql import ROLE
from tests.support.documented_steps import DocumentedStep, Kind, steps
from tests.support.other_systems import BUSINESS_TEXT

PAGE = (ROOT / "docs" / "migrating.md").read_text()


@dataclass
class Move:
    """One section of the page, whose steps are run in their order."""

    system: System
    gemini: FakeGemini
    connection: psycopg.Connection
    heading: str
    left: list[DocumentedStep] = field(init=False)
    sent_before: "Counter[str]" = field(init=False)

    def __post_init__(self) -> None:
        self.left = steps(PAGE, self.heading)
        self.sent_before = self.sent()

    def sent(self) -> "Counter[str]":
        return Counter(self.gemini.stats().texts_by_hash)

    def run_until(self, kind: Kind | None = None, containing: str = "") -> Any:
        """Run the next steps, up to and including the first one of this kind with these words. Returns its result."""
        while self.left:
            step = self.left.pop(0)
            result = self._run(step)
            if step.kind is kind and containing in step.text:
                return result
        assert kind is None, f"{self.heading} has no such step: {kind} {containing}"
        return None

    def _run(self, step: DocumentedStep) -> Any:
        match step.kind:
            case Kind.SQL:
                return self.sql(step.text)
            case Kind.MANIFEST:
                return self.system.kubectl.run("apply", "-f", "-", stdin=step.text)
            case Kind.COMMAND:
                return self.system.kubectl.run(*shlex.split(step.text)[1:], within_s=90)

    def sql(self, text: str) -> list[Any]:
        """As the administrator of the database, for the operator's role of this test."""
        role = unquote(urlsplit(self.system.database_url).username or "")
        cursor = self.connection.execute(text.replace(f"TO {ROLE};", f'TO "{role}";').encode())
        while cursor.nextset():
            pass
        return cursor.fetchall() if cursor.description else []

    def create_source(self) -> int:
        """Run the steps up to the source. Returns how many rows were adopted; nothing was sent meanwhile."""
        self.run_until(Kind.MANIFEST)
        note: str = wait_until(self._event, within_s=60, every_s=0.5, because="the first audit is complete")
        assert self.sent() == self.sent_before
        return int(note.split()[0])

    @property
    def source(self) -> str:
        manifests = [step for step in steps(PAGE, self.heading) if step.kind is Kind.MANIFEST]
        return str(yaml.safe_load(manifests[0].text)["metadata"]["name"])

    def _event(self) -> Any:
        events = self.system.kubectl.get("events", "--field-selector", "reason=VectorsAdopted")["items"]
        return next((str(event["message"]) for event in events if event["involvedObject"]["name"] == self.source), None)

    def wait_for_vectors(self, read: str) -> None:
        """Wait until each row that `read` gives (text, vector) has the vector of its text."""

        def outdated() -> list[str]:
            compare = f"SELECT text, embedding::text FROM ({read}) t"
            rows = self.connection.execute(compare.encode()).fetchall()
            return [text for text, found in rows if found is None or not self._is_of(text, found)]

        wait_until(lambda: not outdated(), within_s=60, every_s=0.5, because=f"{self.heading}: each row is embedded")

    def _is_of(self, text: str, found: str) -> bool:
        distance = self.connection.execute(
            "SELECT %s::vector <=> %s::vector", (found, other_systems.vector(text))
        ).fetchone()
        return distance is not None and distance[0] < 1e-6

    def expect_sent(self, *texts: str) -> None:
        """Exactly these texts were sent since the section began."""
        assert self.sent() - self.sent_before == Counter(map(hash_of, texts)), self.heading

    def edit(self, sql: str, text: str, read: str) -> None:
        """An edit sends one text, this one."""
        self.sent_before = self.sent()
        self.connection.execute(sql.encode())
        self.wait_for_vectors(read)
        self.expect_sent(text)


@pytest.fixture
def connection(system: System) -> Iterator[psycopg.Connection]:
    with psycopg.connect(system.book.url, autocommit=True) as opened:
        yield opened


@pytest.mark.timeout(600)
def test_the_page_moves_each_system_and_only_outdated_vectors_cost_a_call(
    system: System, gemini: FakeGemini, connection: psycopg.Connection
) -> None:
    system.start_gemini_operator(gemini)
    other_systems.businesses(connection)

    def move(heading: str) -> Move:
        return Move(system, gemini, connection, heading)

    compare_a_sample(move("A sample first"))
    from_pg_boss(move("From workers on pg-boss"))
    from_pgai(move("From pgai"))
    from_pgedge_vectorizer(move("From pgedge-vectorizer"))
    from_pg_vectorize(move("From pg_vectorize"))
    chunks(move("Texts in chunks"))
    assert move("If something is wrong").run_until() is None


def compare_a_sample(move: Move) -> None:
    ((rows, largest),) = move.run_until(Kind.SQL, "largest_distance")
    assert (rows, float(largest)) == (20, 0.0)
    assert sum((move.sent() - move.sent_before).values()) == 20
    move.run_until()


def from_pg_boss(move: Move) -> None:
    other_systems.workers_on_pg_boss(move.connection)
    assert move.create_source() == 28, "28 has no vector, and the job of 29 has failed"
    move.connection.execute("UPDATE public.businesses SET name = 'edited afterwards' WHERE id = 1")
    other_systems.finish_jobs(move.connection)
    assert move.run_until(Kind.SQL, "'active'") == [(0,)]
    move.run_until(Kind.COMMAND, "annotate")
    read = f"SELECT {BUSINESS_TEXT} AS text, embedding FROM public.businesses"
    texts: dict[int, str] = dict(
        move.connection.execute(f"SELECT id, {BUSINESS_TEXT} FROM public.businesses".encode()).fetchall()
    )
    move.wait_for_vectors(read)
    move.run_until(Kind.COMMAND, "wait")
    wait_until(
        lambda: len(move.sent() - move.sent_before) == 4, within_s=60, because="the audit finds the vector of 30"
    )
    move.expect_sent(*(texts[row] for row in (1, 28, 29, 30)))
    move.edit(
        "UPDATE public.businesses SET name = 'again', description = NULL WHERE id = 2",
        "again trade 2 Springfield",
        read,
    )
    move.run_until()


def from_pgai(move: Move) -> None:
    other_systems.vectorizer_of_pgai(move.connection)
    move.run_until(Kind.SQL, "s.chunk = a.body")
    move.connection.execute("UPDATE public.articles SET body = 'between copy and triggers' WHERE id = 1")
    assert move.create_source() == 10
    read = "SELECT body AS text, embedding FROM public.articles"
    move.run_until(Kind.COMMAND, "wait")
    move.wait_for_vectors(read)
    move.expect_sent("between copy and triggers", "article 11 edited", "article 12")
    move.edit("UPDATE public.articles SET body = 'a new article' WHERE id = 2", "a new article", read)
    move.run_until()


def from_pgedge_vectorizer(move: Move) -> None:
    other_systems.pgedge_vectorizer(move.connection)
    move.run_until(Kind.SQL, "c.content IN")
    move.connection.execute("UPDATE public.documents SET body = 'between copy and triggers' WHERE id = 1")
    assert move.create_source() == 9
    read = "SELECT btrim(body) AS text, embedding FROM public.documents"
    move.run_until(Kind.COMMAND, "wait")
    move.wait_for_vectors(read)
    move.expect_sent("between copy and triggers", "document 10 and more", "document 11 edited", "document 12")
    move.edit("UPDATE public.documents SET body = 'a new document' WHERE id = 2", "a new document", read)
    move.run_until()


def from_pg_vectorize(move: Move) -> None:
    other_systems.pg_vectorize(move.connection)
    move.run_until(Kind.SQL, "_embeddings_products")
    move.connection.execute(
        "UPDATE public.products SET product_name = 'between', last_updated_at = now() WHERE product_id = 1"
    )
    assert move.create_source() == 10
    read = "SELECT product_name || ', ' || description AS text, embedding FROM public.products"
    move.run_until(Kind.COMMAND, "wait")
    move.wait_for_vectors(read)
    move.expect_sent("between, used for 1", "product 11, edited", "product 12, used for 12")
    move.edit("UPDATE public.products SET description = 'a new use' WHERE product_id = 2", "product 2, a new use", read)
    move.run_until()


def chunks(move: Move) -> None:
    other_systems.chunks_of_pgai(move.connection)
    assert move.create_source() == 3
    move.edit(
        "INSERT INTO public.guides_embeddings_store (id, chunk_seq, chunk) VALUES (1, 3, 'chunk 3')",
        "chunk 3",
        "SELECT chunk AS text, embedding FROM public.guides_embeddings_store",
    )
