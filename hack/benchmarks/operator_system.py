"""A namespace, a database with a role of the documented rights, and operators as processes. Called by the measurements.

The operator never gets more than the rights of its service account and its role, as where it is installed.
"""

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from embedding_operator.resources.embedding_job import OPEN
from embedding_worker.rows.derived_table import SCHEMA
from hack.benchmarks.listings import Listings
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import DIMENSIONS, MODEL_NAME, NAME
from hack.benchmarks.waiting import wait_until
from hack.installation.kubectl import Kubectl
from hack.installation.operator_process import OperatorProcess
from hack.installation.prerequisites import temporary_namespace

ENDS_WITHIN_S = 1_800
ENDED = "SELECT count(*) FROM embedding_operator.backfills WHERE ended_at IS NOT NULL"
RATE = """
SELECT count(*) / greatest(extract(epoch FROM max(embedded_at) - min(embedded_at)), 0.001) FROM {state}
WHERE vector_hash IS NOT NULL"""
GRANT = 'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.{table} TO "{role}"'
CALM_AFTER_S = 15.0
"""Statuses are written, Events sent and pools shrunk by then."""


@dataclass(frozen=True)
class OperatorSystem:
    setting: Setting
    kubectl: Kubectl
    kubeconfig: Path
    listings: Listings
    """As the application that owns them uses them."""
    operator_url: str
    stack: ExitStack

    def start_operator(
        self, name: str = "operator", *, until: str = "operator ready", settings: Mapping[str, str] | None = None
    ) -> OperatorProcess:
        """Start one, and return when it has logged this. It is stopped with the system."""
        process = OperatorProcess(
            kubeconfig=self.kubeconfig,
            database_url=self.operator_url,
            folder=self.setting.folder,
            settings={**self.setting.provider, "EMBEDDING_POD_NAME": name, **(settings or {})},
            name=f"{self.kubectl.namespace}-{name}",
        )
        self.stack.callback(process.stop)
        process.start(until=until)
        return process

    def apply_source(self, **spec: object) -> None:
        manifest = {
            "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
            "kind": "EmbeddingSource",
            "metadata": {"name": self.listings.name},
            "spec": {
                "table": f"public.{self.listings.name}",
                "idColumn": "id",
                "text": self.listings.text,
                "model": {"provider": NAME, "name": MODEL_NAME, "dimensions": DIMENSIONS},
                **spec,
            },
        }
        self.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(manifest))

    @property
    def role(self) -> str:
        """The operator's role in the database."""
        return unquote(urlsplit(self.operator_url).username or "")

    def with_table(self, name: str, rows: int) -> "OperatorSystem":
        """The same system, with another table, which is created."""
        listings = replace(self.listings, name=name)
        listings.create(rows)
        listings.run(GRANT.format(table=name, role=self.role))
        return replace(self, listings=listings)

    @property
    def as_operator(self) -> Listings:
        """The table, used by the operator's role."""
        return replace(self.listings, url=self.operator_url)

    @property
    def state(self) -> str:
        """The table with what is known of each row."""
        return f"{SCHEMA}.{self.listings.config.at.bookkeeping_name}_state"

    @property
    def marks(self) -> str:
        """The table of its change marks."""
        return f"{SCHEMA}.{self.listings.config.at.bookkeeping_name}_marks"

    def is_backfill_over(self) -> bool:
        exists = self.listings.run("SELECT to_regclass('embedding_operator.backfills') IS NOT NULL")
        return exists[0][0] is True and self.listings.number(ENDED) > 0

    def wait_for_backfill(self) -> None:
        wait_until(self.is_backfill_over, within_s=ENDS_WITHIN_S, because="the backfill ends")

    def is_filled(self) -> bool:
        """Whether every row has a vector."""
        empty = f"SELECT count(*) FROM (SELECT FROM public.{self.listings.name} WHERE embedding IS NULL LIMIT 1) r"
        return self.listings.number(empty) == 0

    def wait_until_filled(self, *, within_s: float = ENDS_WITHIN_S) -> None:
        wait_until(self.is_filled, within_s=within_s, because="every row has its vector")

    def jobs(self) -> list[dict[str, Any]]:
        """All EmbeddingJobs, as the API server returns them."""
        items: list[dict[str, Any]] = self.kubectl.get("embeddingjobs")["items"]
        return items

    def wait_until_jobs_are_done(self) -> None:
        """Return when no job is open: its vector is written before its status."""
        wait_until(
            lambda: all(job["status"]["phase"] not in OPEN for job in self.jobs()),
            within_s=ENDS_WITHIN_S,
            because="all jobs are done",
        )

    def wait_until_calm(self) -> None:
        """Return when all sources are fresh, and the work that follows is done too."""
        self.kubectl.run("wait", "--for=condition=Fresh", "embeddingsources", "--all", "--timeout=240s", within_s=250)
        time.sleep(CALM_AFTER_S)

    def rows_per_s(self) -> float:
        """From the first vector to the last."""
        return self.listings.number(RATE.format(state=self.state))


@contextmanager
def operator_system(setting: Setting, rows: int, *, text: str | None = None) -> Iterator[OperatorSystem]:
    """A table of so many listings without vectors, without an operator yet. At the end all of it is removed."""
    with ExitStack() as stack:
        database = setting.new_database()
        stack.callback(setting.server.drop_database, database.name)
        listings = Listings(database.url, **({} if text is None else {"text": text}))
        listings.create(rows)
        role, password = setting.server.create_role("operator")
        listings.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
        listings.run(GRANT.format(table=listings.name, role=role))
        namespace = f"benchmark-{secrets.token_hex(4)}"
        kubeconfig = stack.enter_context(temporary_namespace(setting.cluster, namespace, setting.folder))
        url = database.url_for(role, password)
        yield OperatorSystem(setting, Kubectl(setting.cluster, namespace), kubeconfig, listings, url, stack)
