"""A namespace, a database with a role of the documented rights, and operators as processes. Called by the measurements.

The operator never gets more than the rights of its service account and its role, as where it is installed.
"""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

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
STATE = "SELECT oid::regclass::text FROM pg_class WHERE relname LIKE %s AND relkind = 'r'"


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
    def state(self) -> str:
        """The table with what is known of each row."""
        return str(self.listings.run(STATE, "%\\_state")[0][0])

    def is_backfill_over(self) -> bool:
        exists = self.listings.run("SELECT to_regclass('embedding_operator.backfills') IS NOT NULL")
        return exists[0][0] is True and self.listings.number(ENDED) > 0

    def wait_for_backfill(self) -> None:
        wait_until(self.is_backfill_over, within_s=ENDS_WITHIN_S, because="the backfill ends")

    def rows_per_s(self) -> float:
        """From the first vector to the last."""
        return self.listings.number(RATE.format(state=self.state))


@contextmanager
def operator_system(setting: Setting, rows: int, *, text: str | None = None) -> Iterator[OperatorSystem]:
    """A table of so many listings without vectors, without an operator yet."""
    database = setting.new_database()
    listings = Listings(database.url, **({} if text is None else {"text": text}))
    listings.create(rows)
    role, password = setting.server.create_role("operator")
    listings.run(f'GRANT CREATE ON DATABASE "{database.name}" TO "{role}"')
    listings.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.{listings.name} TO "{role}"')
    namespace = f"benchmark-{secrets.token_hex(4)}"
    with temporary_namespace(setting.cluster, namespace, setting.folder) as kubeconfig, ExitStack() as stack:
        url = database.url_for(role, password)
        yield OperatorSystem(setting, Kubectl(setting.cluster, namespace), kubeconfig, listings, url, stack)
