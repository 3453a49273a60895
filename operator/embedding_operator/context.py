"""What lives as long as the process and is shared by all sources. Created once, in order; nothing in it is replaced later.

Only factory.py and process.py read it: every other object is given what it needs, and nothing else.
"""

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass

from embedding_operator.api_server import ApiServer
from embedding_operator.event_poster import EventPoster
from embedding_operator.leadership import Leadership
from embedding_operator.lifecycle import events
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.registers import JobRegisters, make_registers
from embedding_operator.reconciler.row_queues import RowQueues
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
    leadership: Leadership


async def open_context(settings: Settings, stack: AsyncExitStack) -> Context:
    """Connect to the API server, and open the database's pool; the stack closes both. Raises ApiServerUnusable."""
    clock = SystemClock()
    server = await stack.enter_async_context(await ApiServer.connected(settings))
    database = await stack.enter_async_context(Database(settings.database_url.get_secret_value()))
    metrics = Metrics(clock=clock)
    catalog = SourceCatalog()
    identity = settings.pod_name or socket.gethostname()
    poster = EventPoster(server.create_event, namespace=server.namespace, instance=identity, clock=clock)

    def record_leader(leads: bool) -> None:
        metrics.record_leader(leads)
        poster.emit(events.leader_changed(identity, leads=leads))

    return Context(
        settings,
        clock,
        server,
        database,
        metrics,
        poster,
        ProviderRegistry(settings.credentials(), clock=clock, observer=metrics),
        make_registers(max_open=settings.max_open_jobs, max_finished=settings.max_finished_jobs, clock=clock),
        catalog,
        RowQueues(catalog, clock=clock),
        Leadership(server, identity=identity, clock=clock, changed=record_leader),
    )
