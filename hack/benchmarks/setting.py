"""What the measurements share: a folder, a PostgreSQL server, and a cluster that is started when the first one needs it.

Created by __main__.py for one run, and by tests/integration/test_bench_counts.py.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hack.benchmarks.installed_provider import install_provider
from hack.cluster_choice.choice import Cluster, cluster_for_tests
from hack.database.postgres import Database, DatabaseServer, database_server
from hack.installation.prerequisites import temporary_crds


@dataclass(frozen=True)
class Running:
    """What the caller has started already."""

    server: DatabaseServer
    cluster: Cluster
    """With the CRDs."""


@dataclass(frozen=True)
class Setting:
    rows: int
    folder: Path
    stack: ExitStack
    """What is started ends with it."""
    say: Callable[[str], None]
    running: Running | None = None
    """Where it is None, a server and a cluster are started when they are first needed."""

    @cached_property
    def server(self) -> DatabaseServer:
        if self.running is not None:
            return self.running.server
        server = self.stack.enter_context(database_server())
        self.say(f"database: {server.origin}")
        return server

    def new_database(self) -> Database:
        return self.server.create_database("benchmark")

    @cached_property
    def cluster(self) -> Cluster:
        """A cluster that has the CRDs."""
        if self.running is not None:
            return self.running.cluster
        cluster = self.stack.enter_context(cluster_for_tests(self.folder))
        self.say(f"cluster: {cluster.origin}")
        self.stack.enter_context(temporary_crds(cluster))
        return cluster

    @cached_property
    def provider(self) -> dict[str, str]:
        """The environment variables with which a process finds the provider."""
        return install_provider(self.folder)
