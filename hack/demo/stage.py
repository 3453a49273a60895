"""The stage of the demo: a cluster, a database with businesses, and the operator as a process with the chart's rights.

Called by the demo's command. All of it is removed when the context ends, unless it is kept on purpose.
"""

import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from hack.cluster_choice.choice import Cluster, cluster_for_tests
from hack.control_plane.state import end_and_remove, read_state
from hack.database import embedded_postgres
from hack.database.embedded_postgres import EmbeddedPostgres
from hack.database.postgres import Database, DatabaseServer, database_server
from hack.demo.data import Business
from hack.errors import ToolError
from hack.installation.kubectl import Kubectl
from hack.installation.operator_process import OperatorProcess
from hack.installation.prerequisites import make_serve_account, temporary_crds, temporary_namespace
from hack.installation.search_process import SearchProcess
from hack.processes import environment
from hack.processes.daemons import daemon_of, end
from hack.provider_server.process import FakeGemini
from hack.repository import ROOT

KEPT = ROOT / ".run" / "demo"
HELD: list[ExitStack] = []
KEPT_STATE = KEPT / "kept.json"

TABLE = """
CREATE TABLE public.businesses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, description text NOT NULL, phone text,
    email text, street text, city text NOT NULL, state text, postal_code text, country text, categories text[] NOT NULL,
    lat double precision, lng double precision, embedding vector(512),
    embedding_gemini vector(768))
"""
COLUMNS = tuple(field.name for field in fields(Business))
# The operator's rights on the table: read it, write the embedding columns, and create triggers that record changes.
GRANTS = "GRANT SELECT, TRIGGER, UPDATE (embedding, embedding_gemini) ON public.businesses TO {role}"
GRANT_SCHEMA = "GRANT CREATE ON DATABASE {database} TO {role}"


@dataclass(frozen=True)
class Ground:
    """What a story needs: the resources, the database, and the vectors of search texts."""

    kubectl: Kubectl
    database_url: str
    search_url: str
    """Where `embedding-operator serve` is."""

    def query(self, statement: str, *params: object) -> list[tuple[object, ...]]:
        """Run SQL as the application that owns the table."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), params or None)
            return cursor.fetchall() if cursor.description else []

    def jobs(self, source: str, selector: str) -> list[dict[str, Any]]:
        """The jobs of a source that a field selector names."""
        fields = f"--field-selector=spec.sourceRef.name={source},{selector}"
        items: list[dict[str, Any]] = self.kubectl.get("embeddingjobs", fields)["items"]
        return items


@dataclass(frozen=True)
class Stage(Ground):
    operator: OperatorProcess
    gemini: FakeGemini | None
    """The server that answers as Gemini's API does; None where Google's own is used."""
    folder: Path
    kubeconfig: Path
    """The administrator's, with the demo's namespace as its default."""


@contextmanager
def stage(
    businesses: list[Business], *, settings: Mapping[str, str], keep: bool, say: Callable[[str], None]
) -> Iterator[Stage]:
    """Start everything, and load the businesses. With `keep` it stays if the context ends without an error.

    `settings` are the operator's, beside those that it always needs. Where they name no key for Gemini, a server that
    answers as Gemini's API does is part of the stage.
    """
    if keep and (environment.cluster_kubeconfig() or environment.test_database_url()):
        raise ToolError(
            "KEEP=1 keeps a cluster and a database of the demo's own: unset CLUSTER_KUBECONFIG and TEST_DATABASE_URL for it"
        )
    if keep:
        end_kept(say)
    with ExitStack() as stack:
        folder = _folder(stack, keep=keep)
        cluster = stack.enter_context(cluster_for_tests(folder, ends_with_parent=not keep))
        say(f"cluster: {cluster.origin}")
        server, where = _database_server(stack, keep=keep)
        say(f"database: {server.origin}")
        database = server.create_database("yellow_book")
        role, password = server.create_role("embedding_operator")
        load_businesses(database.url, businesses)
        _grant(database, role)
        say(f"{len(businesses)} businesses are in public.businesses, none of them with an embedding")
        stack.enter_context(temporary_crds(cluster))
        namespace = f"yellow-book-{secrets.token_hex(2)}"
        account = stack.enter_context(temporary_namespace(cluster, namespace, folder))
        fake = None
        if "GEMINI_API_KEY" not in settings:
            fake = FakeGemini(folder, ends_with_parent=not keep)
            stack.callback(fake.stop)
            fake.start()
            settings = {"GEMINI_API_KEY": fake.api_key, "EMBEDDING_GEMINI_ENDPOINT": fake.url, **settings}
        operator = OperatorProcess(
            kubeconfig=account,
            database_url=database.url_for(role, password),
            folder=folder,
            settings=settings,
        )
        stack.callback(operator.stop)
        operator.start(ends_with_parent=not keep)
        say(f"the operator runs in namespace {namespace}, as a service account with its Role only")
        search = _search_process(stack, cluster, namespace, folder, settings=settings, keep=keep)
        say("beside it runs `embedding-operator serve`, which embeds search texts, and may only read sources")
        kubectl = Kubectl(cluster, namespace)
        yield Stage(kubectl, database.url, search.http_url, operator, fake, folder, _kubeconfig(kubectl, folder))
        if keep:
            started = [operator.daemon, search.daemon, *([fake.daemon] if fake else [])]
            kept = {"postgres": str(where or ""), "daemons": [asdict(daemon) for daemon in started]}
            KEPT_STATE.write_text(json.dumps(kept, default=str))
            # A reference is kept, because a context that is garbage-collected would end what it holds; the command uses os._exit.
            HELD.append(stack.pop_all())


def _search_process(
    stack: ExitStack, cluster: Cluster, namespace: str, folder: Path, *, settings: Mapping[str, str], keep: bool
) -> SearchProcess:
    account = make_serve_account(cluster, namespace, folder)
    search = SearchProcess(kubeconfig=account, folder=folder, settings=settings)
    stack.callback(search.stop)
    search.start(ends_with_parent=not keep)
    return search


def end_kept(say: Callable[[str], None]) -> None:
    """End what an earlier demo with KEEP=1 left running."""
    if not KEPT_STATE.exists():
        return
    say("ending the kept demo")
    kept = json.loads(KEPT_STATE.read_text())
    for daemon in kept["daemons"]:
        end(daemon_of(daemon), within_s=40)
    if kept["postgres"]:
        embedded_postgres.stop(Path(kept["postgres"]))
    if (state := read_state(KEPT / "control-plane")) is not None:
        end_and_remove(KEPT / "control-plane", state.daemons)
    shutil.rmtree(KEPT)


def _folder(stack: ExitStack, *, keep: bool) -> Path:
    folder = KEPT if keep else Path(tempfile.mkdtemp(prefix="embedding-operator-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _database_server(stack: ExitStack, *, keep: bool) -> tuple[DatabaseServer, Path | None]:
    if not keep:
        return stack.enter_context(database_server()), None
    postgres = EmbeddedPostgres(keep=True)
    stack.callback(postgres.stop)
    postgres.start()
    return DatabaseServer(postgres.url, "an embedded PostgreSQL, which stays"), postgres.folder


def load_businesses(url: str, businesses: list[Business]) -> None:
    """Create the table and fill it. None of the rows has an embedding."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        with connection.cursor().copy(sql.SQL("COPY public.businesses ({}) FROM STDIN").format(columns)) as copy:
            for business in businesses:
                copy.write_row(
                    [list(value) if isinstance(value := getattr(business, name), tuple) else value for name in COLUMNS]
                )


def _grant(database: Database, role: str) -> None:
    names = {"role": sql.Identifier(role), "database": sql.Identifier(database.name)}
    with psycopg.connect(database.url, autocommit=True) as connection:
        for grant in (GRANTS, GRANT_SCHEMA):
            connection.execute(sql.SQL(grant).format(**names))


def _kubeconfig(kubectl: Kubectl, folder: Path) -> Path:
    """A copy of the administrator's kubeconfig with the demo's namespace, which makes commands shorter."""
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(kubectl.cluster.admin_kubeconfig.read_text())
    copy = Kubectl(Cluster(path, kubectl.cluster.kubectl, kubectl.cluster.origin), kubectl.namespace)
    copy.run("config", "set-context", "--current", f"--namespace={kubectl.namespace}")
    return path
