"""Connects a verb to the cluster and namespace of the user's kubeconfig, and ends the command with its exit code.

Called by app.py. Nothing but the kubeconfig says where the API server is and as whom requests are sent.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import structlog
import typer

from embedding_operator.api_access.access import AccessRefused
from embedding_operator.api_access.credentials import Credentials
from embedding_operator.api_access.kubeconfig import read_kubeconfig
from embedding_operator.api_access.session import Connections, new_session, proxy_for
from embedding_operator.api_errors import ApiServerError, RequestRefused, Unauthorized
from embedding_worker.clock import SystemClock
from kubectl_embeddings.cluster import Cluster
from kubectl_embeddings.failures import CommandFailed, WrongUse
from kubectl_embeddings.given_values import check_namespace
from kubectl_embeddings.shown_commands import Commands

CONNECTIONS = 8
CLUSTER = ("context", "kubeconfig")
"""The options that name a cluster."""


@dataclass(frozen=True)
class Connection:
    """The options with which every verb says where it works."""

    call: typer.Context
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="The namespace.  [default: the context's]")
    ] = None
    context: Annotated[
        str | None, typer.Option("--context", help="The context of the kubeconfig.  [default: the current one]")
    ] = None
    kubeconfig: Annotated[
        str | None,
        typer.Option("--kubeconfig", envvar="KUBECONFIG", show_envvar=False, help="[default: as for kubectl]"),
    ] = None

    @property
    def commands(self) -> Commands:
        """Commands that reach the same cluster and namespace. What the environment says holds for them too."""
        given = {name: str(self.call.params[name]) for name in ("namespace", *CLUSTER) if self._on_command_line(name)}
        options = [part for name in CLUSTER if name in given for part in (f"--{name}", given[name])]
        return Commands(options, given.get("namespace", ""))

    def _on_command_line(self, name: str) -> bool:
        source = self.call.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"


def run_verb(
    connection: Connection, verb: Callable[[Cluster], Awaitable[int]], *, all_namespaces: bool = False
) -> None:
    """Run the verb on the cluster, and exit with the code that it returns. Raises CommandFailed."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    raise typer.Exit(asyncio.run(_run(connection, verb, all_namespaces)))


async def _run(connection: Connection, verb: Callable[[Cluster], Awaitable[int]], all_namespaces: bool) -> int:
    try:
        async with _connected(connection, all_namespaces) as cluster:
            return await verb(cluster)
    except ApiServerError as exc:
        raise CommandFailed(sentence_of(exc, connection.commands)) from exc


def sentence_of(error: ApiServerError, commands: Commands) -> str:
    """What the API server's answer, or its silence, means to the user."""
    if isinstance(error, RequestRefused):
        return f"the API server refuses this: {error}"
    if isinstance(error, Unauthorized):
        return f"the API server does not accept the kubeconfig's credentials ({error}): log in again"
    return f"{error}: look with `{commands.of_cluster('kubectl cluster-info')}`"


@asynccontextmanager
async def _connected(connection: Connection, all_namespaces: bool) -> AsyncIterator[Cluster]:
    """Raises WrongUse where the kubeconfig cannot be used."""
    paths, clock = connection.kubeconfig or str(Path.home() / ".kube" / "config"), SystemClock()
    read = partial(read_kubeconfig, paths, context=connection.context, terminal=sys.stdin.isatty())
    try:
        credentials = Credentials(read, clock=clock)
        await credentials.refresh()
    except AccessRefused as exc:
        raise WrongUse(f"the kubeconfig is {paths!r}, and {exc}") from exc
    access = credentials.access
    proxy = proxy_for(access.host, configured=access.proxy, in_pod=False)
    namespace = "" if all_namespaces else connection.namespace or access.namespace or "default"
    if namespace:
        check_namespace(namespace, "the context's namespace")
    async with new_session(credentials, Connections(), limit=CONNECTIONS, proxy=proxy) as session:
        yield Cluster(session, access.host, namespace, clock=clock, commands=connection.commands)
