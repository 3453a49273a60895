"""`embedding-operator check` with just the chart's rights: on a real API server, a real PostgreSQL and a fake Gemini API."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from hack.cluster_choice.choice import Cluster
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.database.postgres import Database, DatabaseServer
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import ACCOUNT, make_namespace
from hack.provider_server.process import FakeGemini
from hack.repository import CRDS
from tests.integration.journey.conftest import GEMINI_MODEL, System, system_in
from tests.integration.test_command import MARKER, command
from tests.support.deadline import wait_until
from tests.support.rights import wait_until_granted

EVERYTHING = ["settings", "Kubernetes", "CRDs", "rights", "sources", "database", "pgvector", "schema"]
BOOKKEEPING = "SELECT count(*) FROM pg_namespace WHERE nspname = 'embedding_operator'"


@pytest.fixture
def system(
    crds: None, cluster: Cluster, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> Iterator[System]:
    with system_in(cluster, database_server, database, tmp_path) as made:
        wait_until_granted(made.kubectl, "list", "embeddingjobs.embeddings.yellowbook.dev")
        yield made


@pytest.fixture
def gemini(tmp_path: Path) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path) as server:
        yield server


def checked(system: System, **settings: str) -> "subprocess.CompletedProcess[str]":
    needed = {"KUBECONFIG": str(system.kubeconfig), "DATABASE_URL": system.database_url}
    return command("check", **(needed | settings))


def lines(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """Mark and sentence of each line, by what was checked. Nothing secret is ever said."""
    assert MARKER not in done.stdout + done.stderr
    assert done.stderr == ""
    found = {}
    for line in done.stdout.splitlines():
        what, _, said = line[2:].partition(": ")
        found[what] = f"{line[0]} {said}"
    return found


def wrong(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    return {what: said[2:] for what, said in lines(done).items() if said[0] == "✗"}


def test_where_every_check_passes_every_line_says_so_and_nothing_is_created(system: System) -> None:
    system.apply_source()
    before = system.source()
    done = checked(system)
    assert (done.returncode, wrong(done)) == (0, {})
    said = lines(done)
    model = "provider local, model universal-sentence-encoder-multilingual-3@512"
    assert list(said) == [*EVERYTHING, "source businesses", model]
    assert {line[0] for line in said.values()} == {"✓"}
    assert said["source businesses"] == "✓ public.businesses can be kept fresh, column embedding is there"
    assert system.book.run(BOOKKEEPING) == [(0,)]
    assert system.source() == before


def test_advice_about_an_index_is_a_line_of_its_own_and_no_failure(system: System) -> None:
    system.apply_source()
    system.book.run("CREATE INDEX near ON public.businesses USING hnsw (embedding vector_cosine_ops)")
    system.book.add(10_001)
    system.book.run("ANALYZE public.businesses")
    done = checked(system)
    assert done.returncode == 0
    assert lines(done)["index of businesses"].startswith(
        "→ writes of vectors are about ten times slower beside public.near"
    )


def test_it_says_the_same_while_an_operator_is_at_work(system: System) -> None:
    system.book.add(3)
    system.apply_source()
    system.start_operator()
    system.wait_until_fresh()
    done = checked(system)
    assert (done.returncode, wrong(done)) == (0, {})


def test_before_the_first_source_there_is_less_to_look_at(system: System) -> None:
    done = checked(system)
    said = lines(done)
    assert (done.returncode, list(said)) == (0, EVERYTHING)
    assert said["sources"] == "✓ no source yet, so no table and no provider to look at"


def test_unusable_settings_are_each_named_and_end_it_with_2() -> None:
    done = command("check", DATABASE_URL=f"postgresql://operator:{MARKER}@[::1/never", EMBEDDING_LOG_LEVEL="loud")
    assert (done.returncode, done.stderr) == (2, "")
    first, second, last = done.stdout.splitlines()
    assert first.startswith("✗ settings: DATABASE_URL is no database URL: ")
    assert second.startswith("✗ settings: EMBEDDING_LOG_LEVEL is 'loud': ")
    assert last == "– all other checks: skipped, because they need settings that can be used"
    assert MARKER not in done.stdout


@pytest.mark.timeout(600)
def test_crds_that_are_missing_or_too_old_are_reported_and_hide_nothing_else(
    programs: Binaries, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> None:
    role, password = database_server.create_role("operator")
    with ControlPlane(tmp_path / "plane", programs=programs) as plane:
        cluster = Cluster(plane.kubeconfig, plane.kubectl, "one without CRDs")
        kubeconfig = make_namespace(cluster, "bare", tmp_path)
        settings = {"KUBECONFIG": str(kubeconfig), "DATABASE_URL": database.url_for(role, password)}

        def said() -> dict[str, str]:
            return lines(command("check", **settings))

        wait_until(lambda: said()["rights"][0] == "✓", within_s=90, because="the account's Role was made")
        without = command("check", **settings)
        for crd in sorted(CRDS.glob("*.yaml")):
            old = yaml.safe_load(crd.read_text())
            old["spec"]["versions"][0].pop("selectableFields", None)
            Kubectl(cluster).run("create", "-f", "-", stdin=yaml.safe_dump(old))
        wait_until(lambda: "by their phase" in said()["CRDs"], within_s=90, because="the CRDs are served")
        too_old = said()
    assert without.returncode == 1
    assert lines(without)["CRDs"].startswith("✗ the API server knows no embeddingsources and embeddingjobs of ")
    for found in (lines(without), too_old):
        assert "kubectl apply --server-side -f crds/" in found["CRDs"]
        assert found["sources"][0] == found["providers"][0] == "–"
        assert found["database"][0] == "✓"


def test_a_right_that_is_missing_is_named(system: System) -> None:
    patch = (
        '[{"op": "test", "path": "/rules/2/verbs/3", "value": "create"}, {"op": "remove", "path": "/rules/2/verbs/3"}]'
    )
    system.kubectl.run("patch", "role", ACCOUNT, "--type=json", "-p", patch)

    def refused() -> str:
        return wrong(checked(system)).get("rights", "")

    said = wait_until(refused, within_s=90, because="the Role has changed")
    assert said.startswith(f"in namespace {system.kubectl.namespace} this account may not create embeddingjobs: ")


def test_the_rights_for_worker_pods_are_needed_only_where_the_chart_enables_them(system: System) -> None:
    assert "rights" not in wrong(checked(system))
    said = wrong(checked(system, EMBEDDING_BACKFILL_POD_TEMPLATE_FILE="/etc/embedding-operator/workers/job.yaml"))
    assert "this account may not get jobs, create jobs, delete jobs: " in said["rights"]
    assert said["rights"].endswith("files/rules.yaml and workers-rules.yaml")


def test_an_api_server_that_is_away_hides_nothing_of_the_database(system: System) -> None:
    broken = system.folder / "away.kubeconfig"
    content = system.kubeconfig.read_text()
    server = next(line for line in content.splitlines() if "server: " in line)
    broken.write_text(content.replace(server.split("server: ")[1], "https://127.0.0.1:1"))
    done = checked(system, KUBECONFIG=str(broken))
    said = lines(done)
    assert done.returncode == 1
    assert said["Kubernetes"].startswith("✗ the API server cannot be reached (ClientConnectorError): ")
    assert [said[what][0] for what in ("CRDs", "rights", "sources", "providers")] == ["–"] * 4
    assert said["database"][0] == "✓"


def test_a_database_that_is_away_hides_nothing_of_the_others(system: System) -> None:
    system.apply_source()
    began = time.monotonic()
    done = checked(system, DATABASE_URL=f"postgresql://operator:{MARKER}@127.0.0.1:1/never")
    # The first check of the database waits for an answer, for 20 s at most, and the others do not.
    assert time.monotonic() - began < 55
    said = lines(done)
    assert done.returncode == 1
    assert said["database"] == (
        "✗ no connection could be made: nothing listens at its address: "
        "correct host and port in DATABASE_URL, or start the server"
    )
    assert [said[what][0] for what in ("pgvector", "schema", "source businesses")] == ["–"] * 3
    assert said["provider local, model universal-sentence-encoder-multilingual-3@512"][0] == "✓"


@pytest.mark.parametrize(
    ("revoked", "spec", "sentence"),
    [
        (
            "SELECT",
            {},
            'role {role} lacks rights for public.businesses: GRANT SELECT ON "public"."businesses" TO {role}',
        ),
        ("UPDATE (embedding)", {}, 'role {role} lacks rights for public.businesses: GRANT UPDATE ("embedding") ON '),
        (
            "TRIGGER",
            {},
            "role {role} lacks rights for public.businesses (TRIGGER is not needed if spec.changeDetection is Audit): GRANT ",
        ),
        ("TRIGGER", {"changeDetection": "Audit"}, None),
        ("TRIGGER", {"idColumn": "phone", "changeDetection": "Audit"}, "public.businesses.phone may be null: "),
        ("TRIGGER", {"text": "now()::text"}, "spec.text calls now(), which gives another value "),
    ],
    ids=["read", "write", "trigger", "audit", "id column", "text"],
)
def test_what_prevents_a_source_is_reported_with_the_remedy(
    system: System, revoked: str, spec: dict[str, str], sentence: str | None
) -> None:
    role = conninfo_to_dict(system.database_url)["user"]
    system.book.run(f'REVOKE {revoked} ON public.businesses FROM "{role}"')
    system.apply_source(**spec)
    found = wrong(checked(system))
    if sentence is None:
        assert found == {}
    else:
        assert list(found) == ["source businesses"]
        assert found["source businesses"].startswith(sentence.format(role=f'"{role}"'))
    assert system.book.run(BOOKKEEPING) == [(0,)]


def test_a_column_of_other_dimensions_is_reported(system: System) -> None:
    system.apply_source(model=GEMINI_MODEL | {"dimensions": 768})
    found = wrong(checked(system, GEMINI_API_KEY="any", EMBEDDING_GEMINI_ENDPOINT="http://127.0.0.1:1"))
    assert "public.businesses.embedding holds 512 dimensions, the model gives 768: " in found["source businesses"]


def test_the_second_source_on_a_column_is_reported_with_the_first(system: System) -> None:
    system.apply_source("first")
    wait_until(lambda: system.source("first"), within_s=10, because="it was applied")
    system.apply_source("second")
    found = wrong(checked(system))
    assert len(found) == 1
    assert next(iter(found.values())).endswith("already serves this column: delete one of the two")


def test_a_schema_that_the_role_cannot_create_is_reported(
    crds: None, system: System, database_server: DatabaseServer, database: Database
) -> None:
    other, password = database_server.create_role("other")
    found = wrong(checked(system, DATABASE_URL=database.url_for(other, password)))
    assert list(found) == ["schema"]
    assert found["schema"].startswith(
        f'it is not there, and role "{other}" may not create it: GRANT CREATE ON DATABASE "{database.name}" TO "{other}"'
    )


def test_what_another_role_has_made_will_do_where_it_may_be_used(
    system: System, database_server: DatabaseServer, database: Database
) -> None:
    system.apply_source()
    first = system.start_operator()
    system.wait_until_fresh()
    first.stop()
    other, password = database_server.create_role("other")
    url = database.url_for(other, password)
    system.book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.businesses TO "{other}"')
    system.book.run(f'GRANT USAGE ON SCHEMA embedding_operator TO "{other}"')
    found = wrong(checked(system, DATABASE_URL=url))
    assert list(found) == ["source businesses"]
    system.book.run(found["source businesses"].partition(": ")[2])
    done = checked(system, DATABASE_URL=url)
    assert (wrong(done), lines(done)["schema"]) == ({}, "✓ is there, and the role may create no table in it")
    system.kubectl.run("delete", "embeddingsource", "businesses")
    system.book.run("CREATE TABLE public.shops (LIKE public.businesses INCLUDING ALL)")
    system.book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.shops TO "{other}"')
    system.apply_source("shops", table="public.shops")
    found = wrong(checked(system, DATABASE_URL=url))
    assert found["source shops"].endswith(f': GRANT CREATE ON SCHEMA embedding_operator TO "{other}"')


def test_a_schema_that_the_role_may_not_use_is_reported(system: System, database: Database) -> None:
    system.book.run("CREATE SCHEMA embedding_operator")
    found = wrong(checked(system))
    assert list(found) == ["schema"]
    assert found["schema"].startswith("it is there, and role ")
    assert ": GRANT USAGE, CREATE ON SCHEMA embedding_operator TO " in found["schema"]
    system.book.run(found["schema"].partition(": ")[2])
    assert wrong(checked(system)) == {}


def test_a_namespace_that_does_not_exist_is_reported_to_an_account_that_may_see_it(
    system: System, cluster: Cluster
) -> None:
    found = wrong(checked(system, KUBECONFIG=str(cluster.admin_kubeconfig), EMBEDDING_NAMESPACE="nowhere"))
    assert found == {
        "rights": "namespace nowhere does not exist: "
        "kubectl create namespace nowhere, or set EMBEDDING_NAMESPACE to the right one"
    }


def test_without_pgvector_it_says_so_unless_each_source_does_without(system: System, database: Database) -> None:
    system.book.run("ALTER TABLE public.businesses DROP COLUMN embedding")
    system.book.run("DROP EXTENSION vector")
    done = checked(system)
    assert (done.returncode, lines(done)["pgvector"]) == (
        0,
        "– skipped, because no source needs it yet (the extension is not in the database: "
        f"CREATE EXTENSION vector in database '{database.name}', as a superuser)",
    )
    role = conninfo_to_dict(system.database_url)["user"]
    system.book.run("ALTER TABLE public.businesses ADD COLUMN embedding real[]")
    system.book.run(f'GRANT UPDATE (embedding) ON public.businesses TO "{role}"')
    system.apply_source()
    assert wrong(checked(system)) == {}


def test_a_key_that_the_provider_does_not_accept_is_reported_without_it(system: System, gemini: FakeGemini) -> None:
    system.apply_source(model=GEMINI_MODEL)
    what = "provider gemini, model gemini-embedding-001@512"
    good = {"GEMINI_API_KEY": gemini.api_key, "EMBEDDING_GEMINI_ENDPOINT": gemini.url}
    done = checked(system, **good)
    assert (done.returncode, lines(done)[what]) == (
        0,
        "✓ one text was embedded, in 512 dimensions (it counts as one text of the quota)",
    )
    assert gemini.stats().texts == 1
    done = checked(system, **(good | {"GEMINI_API_KEY": MARKER}))
    assert done.returncode == 1
    assert wrong(done) == {
        what: "the provider 'gemini' answered 400 INVALID_ARGUMENT (API_KEY_INVALID): it does not accept the key, "
        "set GEMINI_API_KEY to one that is valid"
    }
    done = checked(system)
    assert wrong(done)[what].startswith("spec.model.provider is 'gemini' and GEMINI_API_KEY is not set: ")
