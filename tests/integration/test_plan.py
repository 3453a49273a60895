"""`embedding-operator plan`: on a real PostgreSQL, for a manifest without any API server, and for a source in a real one."""

import asyncio
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.cli.plan import plan_manifest
from embedding_operator.cli.plan_values import Rates
from embedding_operator.resources.embedding_source import parse_source
from embedding_operator.settings import settings_from
from embedding_worker.rows.database import Database as Connections
from hack.cluster_choice.choice import Cluster
from hack.database.postgres import Database
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import temporary_namespace
from tests.integration.test_command import MARKER, command
from tests.support.kept_rows import BUSINESSES, Application, Keeper, vector_write
from tests.support.manifests import a_source
from tests.support.rights import wait_until_granted

BOOKKEEPING = "SELECT count(*) FROM pg_namespace WHERE nspname = 'embedding_operator'"
GEMINI = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 3}
SPEC: dict[str, Any] = {"text": "name", "model": GEMINI}
SETTINGS = {"GEMINI_API_KEY": MARKER, "EMBEDDING_GEMINI_TEXTS_PER_MINUTE": "1"}


@pytest.fixture
def businesses(database: Database) -> Application:
    """Three rows: one with an empty text, and one whose text has 9,000 bytes."""
    application = Application(database.url)
    application.run(BUSINESSES)
    application.run("INSERT INTO public.businesses (name) VALUES ('Bakery'), (''), (repeat('x', 9000))")
    return application


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return written(tmp_path, **SPEC)


def written(folder: Path, **spec: Any) -> Path:
    """A file that declares another object, and then a source with this spec."""
    file = folder / "source.yaml"
    file.write_text(yaml.safe_dump_all([{"kind": "ConfigMap"}, a_source("businesses", **spec)]))
    return file


def planned(url: str, file: Path, **settings: str) -> tuple[int, str]:
    """The exit code and the output of the plan of a manifest."""
    emitted: list[str] = []
    read = settings_from({"DATABASE_URL": url} | SETTINGS | settings)
    with file.open() as manifest:
        exit_code = asyncio.run(plan_manifest(read, manifest, Rates(), emitted.append))
    return exit_code, "\n".join(emitted)


def said(planned: tuple[int, str]) -> dict[str, str]:
    """Each line of the table, by what it is about."""
    exit_code, output = planned
    assert exit_code == 0, output
    assert MARKER not in output
    parts = (line[2:].partition("  ") for line in output.splitlines()[1:])
    return {what.strip(): text.strip() for what, _, text in parts}


def commanded(url: str, *arguments: str | Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    done = command("plan", *map(str, arguments), **({"DATABASE_URL": url} | SETTINGS | settings))
    assert MARKER not in done.stdout + done.stderr
    return done


async def keep(url: str, **spec: Any) -> None:
    """Embed what is due, as the operator does, and leave the book-keeping as it is then."""
    async with Connections(url, max_connections=1) as database:
        keeper = await Keeper.prepare(database, parse_source(a_source("businesses", **spec)).spec.config())
        await keeper.audit()
        await keeper.write([vector_write(row.id, row.text) for row in (await keeper.read(["1", "2", "3"])).values()])


def test_the_plan_of_a_first_fill_needs_no_cluster_and_creates_nothing(businesses: Application, manifest: Path) -> None:
    found = said(planned(businesses.url, manifest))
    assert found["due"] == "3, of which no edit made 3 due"
    assert found["without text"].startswith("1:")
    assert found["to be sent"] == "2 texts, about 2002 tokens"
    assert found["too long"].startswith("1: longer than the 6000 bytes that the model accepts")
    assert found["texts a minute"] == "1: at least about 2 minutes for 2 texts"
    assert found["with mode Jobs"] == "less than a minute, at 120 rows a second (--rows-per-second)"
    assert found["with mode Auto"] == "less than a minute, at 2000 rows a second (--backfill-rows-per-second)"
    assert businesses.run(BOOKKEEPING) == [(0,)]


def test_equal_texts_their_cost_and_the_room_for_their_vectors_are_told(
    businesses: Application, tmp_path: Path
) -> None:
    businesses.run("INSERT INTO public.businesses (name) SELECT 'Bakery' FROM generate_series(1, 99)")
    spec = SPEC | {"model": GEMINI | {"pricePerMillionTokens": 150}, "limits": {"tokensPerDay": 1_000}}
    found = said(planned(businesses.url, written(tmp_path, **spec)))
    assert found["distinct texts"] == "2: equal texts of one call are sent once, which saves at most 99"
    assert found["cost"].startswith("about 0.33, at 150 for a million tokens")
    assert found["spec.limits.tokensPerDay"].startswith("1000: the last texts are sent 2 days later (UTC)")
    assert found["vector column"] == "about 2.0 kB, as vector of 3 dimensions"
    assert businesses.run(BOOKKEEPING) == [(0,)]


def test_after_the_fill_only_the_rows_that_were_edited_are_due(businesses: Application, manifest: Path) -> None:
    asyncio.run(keep(businesses.url, **SPEC))
    assert said(planned(businesses.url, manifest)) == {"rows": "3", "due": "0: all rows are fresh"}
    businesses.run("UPDATE public.businesses SET name = 'Café' WHERE id = 1")
    assert said(planned(businesses.url, manifest))["due"] == "1, of which no edit made 0 due"


def test_another_text_needs_approval_and_makes_all_rows_due(businesses: Application, tmp_path: Path) -> None:
    asyncio.run(keep(businesses.url, **SPEC))
    found = said(planned(businesses.url, written(tmp_path, **(SPEC | {"text": "upper(name)"}))))
    assert found["due"] == "2, of which no edit made 2 due"
    assert "until spec.approvedFingerprint is gemini-embedding-001@3#" in found["approval"]


def test_without_a_key_the_plan_names_it_and_still_counts(businesses: Application, manifest: Path) -> None:
    found = said(planned(businesses.url, manifest, GEMINI_API_KEY=""))
    assert found["provider"].startswith("spec.model.provider is 'gemini' and GEMINI_API_KEY is not set")
    assert found["due"] == "3, of which no edit made 3 due"


def test_a_row_whose_text_fails_is_counted_and_hides_no_other(businesses: Application, tmp_path: Path) -> None:
    businesses.run("INSERT INTO public.businesses (name) VALUES ('0')")
    file = written(tmp_path, **(SPEC | {"text": "CASE WHEN name = '0' THEN (1 / name::int)::text ELSE name END"}))
    found = said(planned(businesses.url, file))
    assert (found["rows"], found["failing text"][:2], found["to be sent"][:7]) == ("4", "1:", "2 texts")


def test_a_table_that_cannot_be_served_is_named_with_the_remedy(businesses: Application, tmp_path: Path) -> None:
    exit_code, output = planned(businesses.url, written(tmp_path, **(SPEC | {"table": "public.missing"})))
    assert exit_code == 1
    assert output.startswith("✗ source businesses: table public.missing does not exist in this database")


@pytest.mark.parametrize("arguments", [(), ("businesses", "-f", "-")])
def test_either_a_source_or_a_manifest_is_named(arguments: tuple[str, ...]) -> None:
    done = commanded("postgresql://192.0.2.1/never", *arguments)
    assert done.returncode == 2
    assert "name either an EmbeddingSource, or a manifest with -f" in " ".join(done.stderr.split())


def test_unusable_settings_end_it_with_2(manifest: Path) -> None:
    done = commanded(f"postgresql://operator:{MARKER}@[::1/never", "-f", manifest)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("embedding-operator: DATABASE_URL is no database URL")


@pytest.fixture
def cluster_with_source(crds: None, cluster: Cluster, tmp_path: Path) -> Iterator[Path]:
    """The operator's kubeconfig in a namespace with a source that has a mode of its own."""
    namespace = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, namespace, tmp_path) as kubeconfig:
        declared = a_source("businesses", **SPEC, backfill={"mode": "Auto", "threshold": 2, "workers": 3})
        kubectl = Kubectl(cluster, namespace)
        kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(declared))
        wait_until_granted(kubectl, "list", "embeddingsources.embeddings.yellowbook.dev")
        yield kubeconfig


def test_a_source_that_exists_is_planned_by_its_name_at_rates_that_are_given(
    businesses: Application, cluster_with_source: Path
) -> None:
    rates = ("--rows-per-second", "0.1", "--backfill-rows-per-second", "0.5")
    done = commanded(businesses.url, "businesses", *rates, KUBECONFIG=str(cluster_with_source))
    assert done.stderr == ""
    found = said((done.returncode, done.stdout))
    assert found["spec.backfill.mode"].startswith(
        "Auto: rows that no edit made due are embedded page by page, by 3 workers"
    )
    assert found["with mode Jobs"].endswith("at 0.1 rows a second (--rows-per-second)")
    assert found["with mode Auto"].endswith("at 0.5 rows a second (--backfill-rows-per-second)")
    assert businesses.run(BOOKKEEPING) == [(0,)]


def test_a_source_that_does_not_exist_is_named_with_those_that_do(
    businesses: Application, cluster_with_source: Path
) -> None:
    done = commanded(businesses.url, "shops", KUBECONFIG=str(cluster_with_source))
    assert done.returncode == 1
    assert "has no EmbeddingSource shops: there is businesses" in done.stdout
