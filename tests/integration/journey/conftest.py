"""A whole system for each test: a namespace, a database, a role with the documented rights, and the operator as a process."""

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
from hack.database.postgres import Database, DatabaseServer
from hack.installation.kubectl import Kubectl
from hack.installation.operator_process import OperatorProcess
from hack.installation.prerequisites import temporary_namespace
from hack.provider_server.process import FakeGemini
from tests.support.deadline import wait_until
from tests.support.yellow_book import YellowBook, fake_gemini_model, make_yellow_book

GEMINI_MODEL = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 512}
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "businesses.yaml"


@dataclass
class System:
    """What a test works with."""

    kubectl: Kubectl
    book: YellowBook
    kubeconfig: Path
    database_url: str
    folder: Path
    stack: ExitStack

    def operator(self, **settings: str) -> OperatorProcess:
        """A started operator, ended with the test."""
        process = OperatorProcess(
            kubeconfig=self.kubeconfig, database_url=self.database_url, folder=self.folder, settings=settings
        )
        self.stack.callback(process.stop)
        process.start()
        return process

    def with_gemini(self, gemini: FakeGemini, **spec: Any) -> OperatorProcess:
        """A started operator, and the source, by the provider gemini: the real SDK against the fake server."""
        self.book.model = fake_gemini_model
        self.apply_source(model=GEMINI_MODEL, **spec)
        return self.gemini_operator(gemini)

    def gemini_operator(self, gemini: FakeGemini) -> OperatorProcess:
        return self.operator(GEMINI_API_KEY=gemini.api_key, EMBEDDING_GEMINI_ENDPOINT=gemini.url)

    def apply_source(self, name: str = "businesses", **spec: Any) -> None:
        manifest = yaml.safe_load(EXAMPLE.read_text())
        manifest["metadata"]["name"] = name
        manifest["spec"] |= spec
        self.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    def source(self, name: str = "businesses") -> Any:
        return self.kubectl.get("embeddingsource", name)

    def condition(self, kind: str, name: str = "businesses") -> Any:
        found = self.source(name).get("status", {}).get("conditions", [])
        return next((condition for condition in found if condition["type"] == kind), None)

    def jobs(self, business_id: int | str | None = None) -> list[Any]:
        """All jobs, or those of one business, oldest first."""
        selector = () if business_id is None else (f"--field-selector=spec.businessId={business_id}",)
        items: list[Any] = self.kubectl.get("embeddingjobs", "--sort-by=.metadata.creationTimestamp", *selector)[
            "items"
        ]
        return items

    def job(self, business_id: int | str) -> Any:
        """The newest job of a business."""
        return self.jobs(business_id)[-1]

    def wait_for_phase(self, business_id: int | str, phase: str, *, within_s: float = 30) -> Any:
        def job() -> Any:
            return next((job for job in self.jobs(business_id) if job["status"]["phase"] == phase), None)

        return wait_until(job, within_s=within_s, every_s=0.1, because=f"business {business_id} is to come to {phase}")

    def patch_status(self, job: str, status: dict[str, Any]) -> None:
        """As the README says that people do it."""
        patch = json.dumps({"status": status})
        self.kubectl.run("patch", "embeddingjob", job, "--subresource=status", "--type=merge", "-p", patch)

    def reasons(self, business_id: int | str) -> list[str]:
        return [job["status"].get("reason", job["status"]["phase"]) for job in self.jobs(business_id)]

    def nothing_is_due(self) -> bool:
        """As the book-keeping says: a first audit has been through the table, and no mark is left."""
        (exists,) = self.book.run("SELECT to_regclass('embedding_operator.sources') IS NOT NULL")[0]
        if not exists or not self.book.run("SELECT 1 FROM embedding_operator.sources WHERE filled_for IS NOT NULL"):
            return False
        tables = self.book.run(
            "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'embedding_operator'::regnamespace "
            "AND c.relkind = 'r' AND c.relname LIKE %s",
            "%_due",
        )
        return all(self.book.run(f"SELECT count(*) FROM {table}") == [(0,)] for (table,) in tables)

    def wait_until_fresh(self, *, within_s: float = 60) -> None:
        """Until the source says that nothing is due; then the oracle must agree."""
        wait_until(self.nothing_is_due, within_s=within_s, every_s=0.1, because="an operator is at work on the source")
        assert self.book.stale() == []


@pytest.fixture
def system(
    crds: None, cluster: Cluster, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> Iterator[System]:
    with system_in(cluster, database_server, database, tmp_path) as made:
        yield made


@contextmanager
def system_in(cluster: Cluster, database_server: DatabaseServer, database: Database, folder: Path) -> Iterator[System]:
    """A system in a cluster that has the CRDs, with all that belongs to it removed at the end."""
    book = make_yellow_book(database.url)
    role, password = database_server.create_role("operator")
    book.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.businesses TO "{role}"')
    namespace = f"test-{secrets.token_hex(4)}"
    with temporary_namespace(cluster, namespace, folder) as kubeconfig, ExitStack() as stack:
        yield System(Kubectl(cluster, namespace), book, kubeconfig, database.url_for(role, password), folder, stack)


@pytest.fixture
def gemini(tmp_path: Path) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path) as server:
        yield server
