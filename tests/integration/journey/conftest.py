"""A whole system for each test: a namespace, a database, a role with the documented rights, and the operator as a process."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.control_plane.choice import Cluster
from hack.installation import Kubectl, OperatorProcess, namespace_made
from hack.postgres import Database, DatabaseServer
from tests.support.deadline import wait_until
from tests.support.yellow_book import YellowBook, make_yellow_book

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
    book = make_yellow_book(database.url)
    role, password = database_server.create_role("operator")
    book.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.businesses TO "{role}"')
    namespace = f"test-{secrets.token_hex(4)}"
    with namespace_made(cluster, namespace, tmp_path) as kubeconfig, ExitStack() as stack:
        yield System(Kubectl(cluster, namespace), book, kubeconfig, database.url_for(role, password), tmp_path, stack)
