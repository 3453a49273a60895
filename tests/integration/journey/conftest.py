"""A whole system for each journey: a namespace, a database, a role with the documented rights, and the operator as a process.

Called by every test in this folder. The operator never gets more than the rights of its service account and its role.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.dashboard.prometheus import Prometheus
from hack.database.postgres import Database, DatabaseServer
from hack.installation.kubectl import Kubectl
from hack.installation.operator_process import OperatorProcess
from hack.installation.prerequisites import temporary_namespace
from hack.provider_server.process import FakeGemini
from tests.support.deadline import wait_until
from tests.support.prometheus import alerts_at_once
from tests.support.resource_reader import ResourceReader
from tests.support.yellow_book import YellowBook, fake_gemini_model, make_yellow_book

GEMINI_MODEL = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "businesses.yaml"


@dataclass
class System:
    """A namespace and a database, and the ways in which a test uses them."""

    kubectl: Kubectl
    reader: ResourceReader
    book: YellowBook
    kubeconfig: Path
    database_url: str
    folder: Path
    stack: ExitStack

    def start_operator(self, *, until: str = "operator ready", **settings: str) -> OperatorProcess:
        """Start an operator with these settings, and wait for this line of its log. It is stopped at the end of the test."""
        process = OperatorProcess(
            kubeconfig=self.kubeconfig, database_url=self.database_url, folder=self.folder, settings=settings
        )
        self.stack.callback(process.stop)
        process.start(until=until)
        return process

    def start_with_gemini(self, gemini: FakeGemini, **spec: Any) -> OperatorProcess:
        """Apply the source with the provider gemini, and start an operator: the real SDK calls the fake server."""
        self.use_gemini(**spec)
        return self.start_gemini_operator(gemini)

    def use_gemini(self, **spec: Any) -> None:
        """Apply the source with the provider gemini."""
        self.book.model = fake_gemini_model
        self.apply_source(model=GEMINI_MODEL, **spec)

    def start_gemini_operator(
        self, gemini: FakeGemini, *, until: str = "operator ready", **settings: str
    ) -> OperatorProcess:
        server = {"GEMINI_API_KEY": gemini.api_key, "EMBEDDING_GEMINI_ENDPOINT": gemini.url}
        return self.start_operator(until=until, **server, **settings)

    def watch(self, program: Path, operator: OperatorProcess, **thresholds: float) -> Prometheus:
        """A Prometheus that scrapes the operator, with the chart's alerts without their delay. It is stopped at the end."""
        target, namespace = operator.http_url, self.kubectl.namespace
        rules = alerts_at_once(thresholds)
        prometheus = Prometheus(program, self.folder, target=target, namespace=namespace, rules=rules)
        self.stack.callback(prometheus.stop)
        prometheus.start()
        return prometheus

    def apply_source(self, name: str = "businesses", **spec: Any) -> None:
        manifest = yaml.safe_load(EXAMPLE.read_text())
        manifest["metadata"]["name"] = name
        manifest["spec"] |= spec
        self.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def source(self, name: str = "businesses") -> Any:
        return self.reader.source(name)

    def condition(self, kind: str, name: str = "businesses") -> Any:
        found = self.source(name).get("status", {}).get("conditions", [])
        return next((condition for condition in found if condition["type"] == kind), None)

    def wait_for_condition(self, kind: str, value: str, name: str = "businesses", *, within_s: float = 30) -> Any:
        """Wait until the status or the reason of this condition is `value`, and return the condition.

        A status is written after what it tells of, and at most once a second: it is waited for, even where the database
        shows already that it must come.
        """

        def condition() -> Any:
            found = self.condition(kind, name)
            return found if found and value in (found["status"], found["reason"]) else None

        return wait_until(condition, within_s=within_s, every_s=0.1, because=f"the condition {kind} becomes {value}")

    def jobs(self, business_id: int | str | None = None) -> list[Any]:
        """All jobs, or those of one business, oldest first."""
        return self.reader.jobs(field_selector="" if business_id is None else f"spec.businessId={business_id}")

    def job(self, business_id: int | str) -> Any:
        """The newest job of a business."""
        return self.jobs(business_id)[-1]

    def wait_for_phase(self, business_id: int | str, phase: str, *, within_s: float = 30) -> Any:
        def job() -> Any:
            return next((job for job in self.jobs(business_id) if job["status"]["phase"] == phase), None)

        return wait_until(
            job, within_s=within_s, every_s=0.1, because=f"a job of business {business_id} reaches the phase {phase}"
        )

    def patch_status(self, job: str, status: dict[str, Any]) -> None:
        """The command that the README gives for a replay."""
        patch = json.dumps({"status": status})
        self.kubectl.run("patch", "embeddingjob", job, "--subresource=status", "--type=merge", "-p", patch)

    def reasons(self, business_id: int | str) -> list[str]:
        return [job["status"].get("reason", job["status"]["phase"]) for job in self.jobs(business_id)]

    def nothing_is_due(self) -> bool:
        """Whether the first audit is complete and no change mark is left, according to the book-keeping."""
        (exists,) = self.book.run("SELECT to_regclass('embedding_operator.sources') IS NOT NULL")[0]
        if not exists or not self.book.run("SELECT 1 FROM embedding_operator.sources WHERE filled_for IS NOT NULL"):
            return False
        tables = self.book.run(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace "
            "AND c.relkind = 'r' AND c.relname LIKE %s",
            "%_marks",
        )
        return all(self.book.run(f"SELECT count(*) FROM {table}") == [(0,)] for (table,) in tables)

    def wait_until_fresh(self, *, within_s: float = 60) -> None:
        """Wait until no row is due. Then every vector must be the one that the oracle computes."""
        wait_until(self.nothing_is_due, within_s=within_s, every_s=0.1, because="an operator works on the source")
        assert self.book.outdated_rows() == []


def add(system: System, *names: str) -> list[int]:
    """Add businesses with these names. Returns their ids."""
    return [
        system.book.run("INSERT INTO public.businesses (name) VALUES (%s) RETURNING id", name)[0][0] for name in names
    ]


@pytest.fixture
def system(
    crds: None, cluster: Cluster, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> Iterator[System]:
    with system_in(cluster, database_server, database, tmp_path) as made:
        yield made


@contextmanager
def system_in(cluster: Cluster, database_server: DatabaseServer, database: Database, folder: Path) -> Iterator[System]:
    """A system in a cluster that has the CRDs. Everything that belongs to it is removed at the end."""
    book = make_yellow_book(database.url)
    role, password = database_server.create_role("operator")
    book.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.businesses TO "{role}"')
    namespace = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, namespace, folder) as kubeconfig, ExitStack() as stack:
        reader = ResourceReader(cluster, namespace)
        yield System(
            Kubectl(cluster, namespace), reader, book, kubeconfig, database.url_for(role, password), folder, stack
        )


@pytest.fixture
def gemini(tmp_path: Path) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path) as server:
        yield server
