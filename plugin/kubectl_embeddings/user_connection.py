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

CONNECTIONS = 8


@dataclass(frozen=True)
class Connection:
    """The options with which every verb says where it works."""

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


def run_verb(connection: Connection, verb: Callable[[Cluster], Awaitable[int]]) -> None:
    """Run the verb on the cluster, and exit with the code that it returns or that its failure has."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    try:
        code = asyncio.run(_run(connection, verb))
    except CommandFailed as exc:
        typer.echo(f"kubectl embeddings: {exc}", err=True)
        code = exc.code
    raise typer.Exit(code)


async def _run(connection: Connection, verb: Callable[[Cluster], Awaitable[int]]) -> int:
    try:
        async with _connected(connection) as cluster:
            return await verb(cluster)
    except RequestRefused as exc:
        raise CommandFailed(f"the API server refuses this: {exc}") from exc
    except Unauthorized as exc:
        raise CommandFailed(
            f"the API server does not accept the kubeconfig's credentials ({exc}): log in again"
        ) from exc
    except ApiServerError as exc:
        raise CommandFailed(f"{exc}: look with `kubectl cluster-info`") from exc


@asynccontextmanager
async def _connected(connection: Connection) -> AsyncIterator[Cluster]:
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
    namespace = connection.namespace or access.namespace or "default"
    async with new_session(credentials, Connections(), limit=CONNECTIONS, proxy=proxy) as session:
        yield Cluster(session, access.host, namespace, clock=clock)
