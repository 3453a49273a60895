"""What lives as long as the process and is shared by all sources. Created once, in order; nothing in it is replaced later.

Only factory.py and process.py read it: every other object is given what it needs, and nothing else.
"""

import secrets
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass

from embedding_operator.api_server import ApiServer
from embedding_operator.event_poster import EventPoster
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.reconciler.row_queues import RowQueues
from embedding_operator.reconciler.sweep import JobRegisters
from embedding_operator.reconciler.window import Window
from embedding_operator.settings import Settings
from embedding_worker.clock import Clock, SystemClock
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database


@dataclass(frozen=True)
class Context:
    settings: Settings
    clock: Clock
    server: ApiServer
    database: Database
    metrics: Metrics
    events: EventPoster
    providers: ProviderRegistry
    jobs: JobRegisters
    catalog: SourceCatalog
    queues: RowQueues


async def open_context(settings: Settings, stack: AsyncExitStack) -> Context:
    """Connect to the API server, and open the database's pool; the stack closes both. Raises ApiServerUnusable."""
    clock = SystemClock()
    server = await stack.enter_async_context(await ApiServer.connected(settings))
    database = await stack.enter_async_context(Database(settings.database_url.get_secret_value()))
    metrics = Metrics(clock=clock)
    catalog = SourceCatalog()
    return Context(
        settings,
        clock,
        server,
        database,
        metrics,
        EventPoster(server.create_event, namespace=server.namespace, instance=socket.gethostname(), clock=clock),
        ProviderRegistry(settings.provider_values(), clock=clock, observer=metrics),
        make_registers(settings, clock),
        catalog,
        RowQueues(catalog, clock=clock),
    )


def make_registers(settings: Settings, clock: Clock) -> JobRegisters:
    """Empty registers of jobs, with the bounds that the settings give."""
    # Begins with a letter: a YAML parser reads 12345e-1, hexadecimal digits with a dash, as a number.
    finished = FinishedJobs(prefix=f"c{secrets.token_hex(3)}")
    table = JobTable(finished, clock=clock)
    window = Window(
        table, finished, max_open=settings.max_open_jobs, max_finished=settings.max_finished_jobs, clock=clock
    )
    return JobRegisters(table, finished, window)
