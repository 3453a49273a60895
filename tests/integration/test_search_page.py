"""docs/search.md: each example works as it is printed, and finds what the page says, on the demo's businesses.

`embedding-operator serve` embeds the search texts, with the local model. Examples that call Google's SDK call the fake server.
"""

import importlib
import json
import math
import re
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedding_worker.providers.provider import query_model, registered_providers
from embedding_worker.source import Model
from hack.database.postgres import DatabaseServer
from hack.demo.data import businesses
from hack.installation.kubectl import Kubectl
from hack.provider_server.process import API_KEY, FakeGemini
from hack.provider_server.vectors import fake_vector
from hack.repository import ROOT
from tests.support.documented_sql import sql_blocks
from tests.support.embeddings_service import TOKEN, embeddings_service
from tests.support.searched_book import MODEL, Book, embed_due_rows, embedded_book, large_book, vector
from tests.support.typescript import TypeScript, can_be_run
from tests.support.yellow_book import local_model

PAGE = (ROOT / "docs" / "search.md").read_text()
NEAREST, FILTERS, INDEX = "Find the nearest rows", "Filters", "The index"
WIDE, NAMES, STATE = "More than 2,000 dimensions", "Names and meaning together", "Rows that are not yet embedded"
NUMBER_OF_BLOCKS = {NEAREST: 1, FILTERS: 4, INDEX: 6, WIDE: 2, NAMES: 2, STATE: 2}
LEAK = "a pipe is leaking in the bathroom"
PYTHON, TYPESCRIPT = ("gemini", "local", "search"), ("gemini.ts", "search.ts", "schema.prisma", "prisma.ts")
FORCED = ("SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off")


def block(heading: str, number: int = 0) -> str:
    return sql_blocks(PAGE, heading)[number]


def statements(heading: str, number: int = 0) -> list[str]:
    return [statement for statement in block(heading, number).split(";\n") if statement.strip()]


def file(name: str) -> str:
    """An example that the page gives a file's name in its first line."""
    (found,) = re.findall(rf"^```\w+\n((?:#|//|--) {re.escape(name)}\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def names(rows: list[tuple[Any, ...]]) -> list[str]:
    return [row[1] for row in rows]


HYBRID = file("hybrid.sql")
SET_UP = [(INDEX, 0), (INDEX, 4), (FILTERS, 2), (NAMES, 0)]


def indexed(book: Book) -> Book:
    """With all that the page creates."""
    book.execute(*(statement for at in SET_UP for statement in statements(*at)), "ANALYZE public.businesses")
    return book


@pytest.fixture(scope="module")
def book(database_server: DatabaseServer) -> Book:
    """The demo's businesses, as the operator has embedded them."""
    return indexed(embedded_book(database_server))


@pytest.fixture(scope="module")
def large(database_server: DatabaseServer) -> Book:
    """Enough rows for PostgreSQL to choose the index."""
    return indexed(large_book(database_server, copies=4))


def test_each_example_is_tested_here() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert {heading: len(sql_blocks(PAGE, heading)) for heading in headings if sql_blocks(PAGE, heading)} == (
        NUMBER_OF_BLOCKS
    )
    programs = re.findall(r"^```(?:python|typescript|prisma)\n(?:#|//) (.*)$", PAGE, re.MULTILINE)
    assert sorted(programs) == sorted([*(f"{name}.py" for name in PYTHON), *TYPESCRIPT])


def printed_rows() -> list[tuple[str, ...]]:
    lines = re.findall(r"^     +(\d+) \| (.*?) +\| (\S+) +\| +([\d.]+)$", PAGE, re.MULTILINE)
    return [tuple(line) for line in lines]


def test_the_nearest_rows_are_those_that_are_printed(book: Book) -> None:
    found = book.run(block(NEAREST), vector(LEAK))
    assert [tuple(str(value) for value in row) for row in found] == printed_rows()


WITHOUT_VECTOR = "INSERT INTO public.businesses (name) SELECT 'no vector' FROM generate_series(1, 5)"


@pytest.mark.parametrize(("settings", "rows"), [(("SET LOCAL enable_indexscan = off",), 1340), (FORCED, 40)])
def test_rows_without_a_vector_are_found_neither_with_the_index_nor_without(
    large: Book, settings: tuple[str, ...], rows: int
) -> None:
    search = block(NEAREST).replace("LIMIT 3", "LIMIT 2000")
    found = names(large.run(search, vector(LEAK), before=(WITHOUT_VECTOR, *settings)))
    assert (len(found), found.count("no vector")) == (rows, 0)


@pytest.mark.parametrize(("settings", "rows"), [(("SET LOCAL enable_indexscan = off",), 5), (FORCED, 0)])
def test_without_the_condition_rows_without_a_vector_come_last_or_are_not_in_the_index(
    large: Book, settings: tuple[str, ...], rows: int
) -> None:
    search = "SELECT id, name FROM public.businesses ORDER BY embedding <=> $1::vector LIMIT 2000"
    found = names(large.run(search, vector(LEAK), before=(WITHOUT_VECTOR, *settings)))
    assert found.count("no vector") == found[-5:].count("no vector") == rows


def test_old_versions_of_rows_take_places_in_the_index(large: Book) -> None:
    before = ("UPDATE public.businesses SET embedding = NULL WHERE id > 5", *FORCED)
    search = block(NEAREST).replace("LIMIT 3", "LIMIT 10")
    assert len(large.run(search, vector(LEAK), before=before)) < 5
    assert len(large.run(search, vector(LEAK), before=(*before, block(FILTERS, 3)))) == 5


def test_a_search_is_filtered_by_city_and_category(book: Book) -> None:
    assert names(book.run(block(FILTERS), vector(LEAK), "Berlin", "Klempner")) == ["Klempnerei Brandt & Söhne"]


def kilometres(lat: float, lng: float, other_lat: float, other_lng: float) -> float:
    """By the law of cosines, where the page uses the haversine."""
    a, b = math.radians(lat), math.radians(other_lat)
    return 6371 * math.acos(
        math.sin(a) * math.sin(b) + math.cos(a) * math.cos(b) * math.cos(math.radians(lng - other_lng))
    )


@pytest.mark.parametrize("place", [(40.68, -73.97), (-37.81, 144.96), (52.5, 13.4)])
def test_a_search_is_limited_to_a_distance(book: Book, place: tuple[float, float]) -> None:
    found = book.run(block(FILTERS, 1).replace("LIMIT 10", "LIMIT 100"), vector(LEAK), *place, 25)
    near = {other.name: kilometres(*place, other.lat, other.lng) for other in businesses()}
    assert {name: float(km) for _, name, _, km in found} == {
        name: pytest.approx(km, abs=0.1) for name, km in near.items() if km <= 25
    }
    assert len(found) > 3


def test_a_selective_filter_uses_the_index_on_its_column(large: Book) -> None:
    plan = large.plan(block(FILTERS), vector(LEAK), "London", "plumber")
    assert "businesses_city" in plan or "businesses_categories" in plan
    assert "Sort Key" in plan


@pytest.mark.parametrize(("iterative", "complete"), [(False, False), (True, True)])
def test_an_iterative_scan_goes_on_until_there_are_enough_rows(large: Book, iterative: bool, complete: bool) -> None:
    search = "SELECT embedding <=> $1::vector FROM public.businesses WHERE country = 'DE' ORDER BY 1 LIMIT 10"
    before = (*FORCED, *((block(FILTERS, 3),) if iterative else ()))
    assert "businesses_embedding" in large.plan(search, vector(LEAK), before=before)
    distances = large.run(search, vector(LEAK), before=before)
    assert (len(distances) == 10) is complete
    assert distances == sorted(distances)


def test_the_plan_is_the_one_that_is_printed(large: Book) -> None:
    (printed,) = re.findall(r"^     Limit\n(?:     .*\n)+", PAGE, re.MULTILINE)
    assert [line.rstrip() for line in printed.splitlines()] == [f"     {row[0]}" for row in large.run(block(INDEX, 1))]


def test_a_small_table_is_read_as_a_whole(book: Book) -> None:
    assert "Seq Scan" in book.plan(block(NEAREST), vector(LEAK))


def test_a_larger_ef_search_finds_what_an_exact_search_finds(large: Book) -> None:
    search = "SELECT id FROM public.businesses ORDER BY embedding <=> $1::vector LIMIT 10"
    exact_by = ("SET LOCAL enable_indexscan = off",)
    assert "Seq Scan" in large.plan(search, vector(LEAK), before=exact_by)
    exact = large.run(search, vector(LEAK), before=exact_by)
    assert large.run(search, vector(LEAK), before=(block(INDEX, 3),)) == exact


def test_a_search_with_the_condition_of_a_partial_index_can_use_it(large: Book) -> None:
    search = block(INDEX, 5)
    assert "using businesses_embedding_fr" in large.plan(search, vector(LEAK), before=FORCED[:1])
    assert len(large.run(search, vector(LEAK), before=FORCED[:1])) == 10


@pytest.fixture(scope="module")
def wide(database_server: DatabaseServer) -> Book:
    """A table whose vectors have 3,072 dimensions."""
    made = Book(database_server.create_database("search").url)
    made.execute("CREATE TABLE public.businesses (id bigint PRIMARY KEY, name text, embedding vector(3072))")
    for n in range(60):
        made.run("INSERT INTO public.businesses VALUES ($1, $2, $3::vector)", n, f"name {n}", wide_vector(n))
    made.execute(*statements(WIDE))
    return made


def wide_vector(n: int) -> str:
    return str(fake_vector(f"name {n}", 3072))


def test_a_search_in_more_than_2000_dimensions_uses_the_index_on_the_cast(wide: Book) -> None:
    search, before = block(WIDE, 1), FORCED[:1]
    assert "using businesses_embedding" in wide.plan(search, wide_vector(7), before=before)
    exact = wide.run(
        "SELECT id, name FROM public.businesses ORDER BY embedding <=> $1::vector LIMIT 10", wide_vector(7)
    )
    assert wide.run(search, wide_vector(7), before=before) == exact


def test_a_column_of_type_halfvec_needs_no_cast(wide: Book) -> None:
    changed = (
        "DROP INDEX public.businesses_embedding",
        "ALTER TABLE public.businesses ALTER COLUMN embedding TYPE halfvec(3072)",
        "CREATE INDEX direct ON public.businesses USING hnsw (embedding halfvec_cosine_ops)",
    )
    search = "SELECT name FROM public.businesses ORDER BY embedding <=> $1::halfvec LIMIT 1"
    assert "using direct" in wide.plan(search, wide_vector(7), before=(*changed, *FORCED))
    assert wide.run(search, wide_vector(7), before=(*changed, *FORCED)) == [("name 7",)]


def test_a_name_is_found_that_the_model_does_not_know(book: Book) -> None:
    by_meaning = names(book.run(block(NEAREST), vector("wrobel")))
    (printed,) = re.findall(r"nearest rows for \"wrobel\" are (.*?)\.", " ".join(PAGE.split()))
    assert printed.replace(" and ", ", ").split(", ") == by_meaning
    assert names(book.run(HYBRID, vector("wrobel"), "wrobel", 3))[0] == "Zegarmistrz Antoni Wróbel"


def test_a_question_is_answered_by_meaning(book: Book) -> None:
    assert names(book.run(HYBRID, vector(LEAK), LEAK, 3)) == [row[1] for row in printed_rows()]


def test_without_a_vector_names_are_searched_alone(book: Book) -> None:
    assert names(book.run(HYBRID, None, "wrobel", 10)) == ["Zegarmistrz Antoni Wróbel"]


def test_a_row_in_both_lists_has_both_scores(book: Book) -> None:
    ((_, name, _, score),) = book.run(HYBRID, vector("Rocodromo Can Pedra"), "Rocodromo Can Pedra", 1)
    assert name == "Rocódromo Can Pedra"
    assert float(score) == pytest.approx(2 / 61)


def test_letters_that_unicode_does_not_decompose_stay(book: Book) -> None:
    assert book.run(HYBRID, None, "Dilek Aydin", 10) == []
    assert names(book.run(HYBRID, None, "dilek aydın", 10)) == ["Rechtsanwältin Dilek Aydın"]


def test_names_and_meaning_are_searched_by_their_indexes_where_random_reads_are_cheap(large: Book) -> None:
    plan = large.plan(HYBRID, vector("wrobel"), "wrobel", 10, before=(block(INDEX, 2),))
    assert "using businesses_embedding on" in plan
    assert "on businesses_names" in plan


def state_of(book: Book, row_id: int, text: str) -> dict[int, bool]:
    found = book.run(block(STATE), vector(text))
    return {found_id: up_to_date for found_id, _, up_to_date, _ in found if found_id == row_id}


def test_a_new_row_is_found_by_its_name_and_later_by_its_meaning(book: Book) -> None:
    added = "INSERT INTO public.businesses (name, description) VALUES ('Kurzschluss', $1) RETURNING id"
    ((new,),) = book.run(added, "an electrician for old houses")
    text = "electrician"
    assert state_of(book, new, text) == {}
    assert book.run(HYBRID, vector("kurzschluss"), "kurzschluss", 1)[0][0] == new
    assert book.run(block(STATE, 1))[0][0] == 1
    embed_due_rows(book)
    assert state_of(book, new, text) == {new: True}
    book.run("UPDATE public.businesses SET description = 'violins and cellos' WHERE id = $1", new)
    assert state_of(book, new, text) == {new: False}
    embed_due_rows(book)
    assert state_of(book, new, text) == {}
    assert state_of(book, new, "a shop for violins and cellos") == {new: True}
    book.run("DELETE FROM public.businesses WHERE id = $1", new)


def test_a_role_needs_one_right_to_ask_for_the_state_of_rows(book: Book, database_server: DatabaseServer) -> None:
    role, _ = database_server.create_role("shop")
    (grant,) = re.findall(r"`(GRANT USAGE ON SCHEMA embedding_operator)`", PAGE)
    book.execute(f"GRANT SELECT ON public.businesses TO {role}", f"{grant} TO {role}")
    assert len(book.run(block(STATE), vector(LEAK), before=(f"SET LOCAL ROLE {role}",))) == 10


@dataclass(frozen=True)
class Surroundings:
    """Where the programs of the page find the service, the database and the fake of Google's API."""

    settings: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def surroundings(book: Book, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    folder = tmp_path_factory.mktemp("search")
    (folder / "hybrid.sql").write_text(HYBRID)
    with embeddings_service(kubectl, folder, "businesses", MODEL) as url, FakeGemini(folder) as gemini:
        load_model(url)
        service = {"EMBEDDINGS_URL": url, "EMBEDDINGS_TOKEN": TOKEN, "DATABASE_URL": book.url}
        provider = {"GEMINI_API_KEY": API_KEY, "GOOGLE_GEMINI_BASE_URL": gemini.url}
        yield Surroundings(service | provider, folder)
        assert gemini.stats().task_types.keys() == {"RETRIEVAL_QUERY"}


def load_model(url: str) -> None:
    """Have the service load its model, because the clients of the page wait for two seconds only."""
    asked = json.dumps({"model": "businesses", "input": LEAK}).encode()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/embeddings", asked, headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        assert answer.status == 200


IN_GERMANY = ["Klempnerei Brandt & Söhne"]
AT_LENGTH_1 = pytest.approx([number / math.hypot(*fake_vector(LEAK, 768)) for number in fake_vector(LEAK, 768)])


@pytest.fixture
def python(surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder from which the page's modules are imported, with their variables set."""
    for name, value in surroundings.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(surroundings.folder)
    monkeypatch.syspath_prepend(surroundings.folder)
    yield surroundings.folder
    for name in PYTHON:
        sys.modules.pop(name, None)


def imported(folder: Path, name: str) -> Any:
    (folder / f"{name}.py").write_text(file(f"{name}.py"))
    return importlib.import_module(name)


def test_the_python_example_searches(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = imported(python, "search")
    assert names(search.search(LEAK, "DE"))[:1] == IN_GERMANY
    assert names(search.search_with_names("wrobel"))[0] == "Zegarmistrz Antoni Wróbel"
    monkeypatch.setattr(search, "embeddings", search.embeddings.with_options(api_key="wrong"))
    assert names(search.search_with_names("wrobel")) == ["Zegarmistrz Antoni Wróbel"]


def test_the_python_example_for_gemini_embeds(python: Path) -> None:
    assert imported(python, "gemini").embedded(LEAK) == AT_LENGTH_1


def test_the_python_example_for_the_local_model_embeds(python: Path) -> None:
    assert imported(python, "local").embedded(LEAK) == pytest.approx(local_model([LEAK])[0].tolist(), abs=1e-6)


@pytest.fixture(scope="module")
def typescript(surroundings: Surroundings) -> TypeScript:
    if not can_be_run():
        pytest.skip("there is no npm, which fetches the packages")
    folder = surroundings.folder / "typescript"
    folder.mkdir()
    return TypeScript(folder, {name: file(name) for name in TYPESCRIPT} | {"hybrid.sql": HYBRID})


def test_the_typescript_examples_have_no_type_errors(typescript: TypeScript) -> None:
    typescript.check_types()


def test_the_typescript_examples_search(typescript: TypeScript, surroundings: Surroundings) -> None:
    calls = [
        ("search", "search", [LEAK, "DE"]),
        ("search", "searchWithNames", ["wrobel"]),
        ("prisma", "search", [LEAK, "DE"]),
        ("gemini", "embedded", [LEAK]),
    ]
    plain, with_names, prisma, gemini = typescript.call(calls, settings=surroundings.settings)
    assert [row["name"] for row in plain][:1] == IN_GERMANY
    assert with_names[0]["name"] == "Zegarmistrz Antoni Wróbel"
    assert prisma == plain
    assert gemini == AT_LENGTH_1


def test_the_typescript_example_finds_names_without_the_service(
    typescript: TypeScript, surroundings: Surroundings
) -> None:
    settings = surroundings.settings | {"EMBEDDINGS_TOKEN": "wrong"}
    (found,) = typescript.call([("search", "searchWithNames", ["wrobel"])], settings=settings)
    assert [row["name"] for row in found] == ["Zegarmistrz Antoni Wróbel"]


def test_the_table_of_providers_says_what_each_registers() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| \S+ \| (\S+) \|", PAGE, re.MULTILINE)
    providers = {name: provider for name, provider in registered_providers().items() if name != "simulated"}
    found = {name: query_model(Model(name, "gemini-embedding-001", 512), providers).task_type for name in providers}
    assert dict(rows) == {name: f"`{task_type}`" if task_type else "none" for name, task_type in found.items()}
