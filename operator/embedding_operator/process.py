"""The whole process, put together: settings, database, API server, reconciler, and kopf around the handlers.

Called by `embedding-operator run`. It ends when it is told to (SIGTERM, SIGINT), and drains first: calls, writes and status
patches under way are finished, the rest is left to the next process.
"""

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import kopf
import structlog

from embedding_operator.api_server import ApiServer, ApiServerError, ApiServerUnusable
from embedding_operator.event_poster import EventPoster
from embedding_operator.handlers import kopf_setup
from embedding_operator.handlers.context import Context
from embedding_operator.health import health_server, overdue
from embedding_operator.metrics import Metrics
from embedding_operator.reconciler.database_watch import DatabaseWatch
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.housekeeping import Housekeeping
from embedding_operator.reconciler.open_jobs import OpenJobs
from embedding_operator.reconciler.shared import Shared
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.rotation import Rotation
from embedding_operator.settings import Settings
from embedding_worker.clock import SystemClock
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.database import Database

log = structlog.get_logger(__name__)

DRAIN_S = 20.0
"""Less than a pod's grace period (35 s or more), more than one call to a provider (15 s)."""
CRDS_ABSENT_PAUSE_S = 2.0


async def run(settings: Settings) -> int:
    """Run until told to stop. Returns the exit code: 0 after a clean end, 2 where someone must act first, 1 otherwise."""
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(await ApiServer.connected(settings))
        except ApiServerUnusable as exc:
            log.error("no API server", message=str(exc))
            return 2
        database = await stack.enter_async_context(Database(settings.database_url.get_secret_value()))
        clock, metrics = SystemClock(), Metrics()
        shared = Shared(
            database=database,
            server=server,
            settings=settings,
            registry=ProviderRegistry(settings.provider_values(), clock=clock, observer=metrics),
            metrics=metrics,
            events=EventPoster(server.create_event, namespace=server.namespace, instance=socket.gethostname()),
            jobs=OpenJobs(),
            # Begins with a letter: 12345e-1, hexadecimal with a dash, is a number to a YAML parser.
            cohorts=Cohorts(prefix=f"c{secrets.token_hex(3)}"),
        )

        def make_loop(source: EmbeddingSource) -> SourceLoop:
            return SourceLoop(
                source, shared, tell=sources.tell, older_on_the_same_column=sources.older_on_the_same_column
            )

        sources = Sources(shared, make_loop)
        rotate = {f"{name}_FILE": partial(sources.rotate, name) for name in settings.provider_settings}
        rotation = Rotation(settings.mounted_secrets(), rotate | {"DATABASE_URL_FILE": database.move_to}, clock=clock)
        database_watch = DatabaseWatch(database)
        process = Process(server, shared, sources, database_watch)
        try:
            await stack.enter_async_context(
                health_server(
                    settings.http_port,
                    stuck=process.stuck,
                    not_ready=process.not_ready,
                    metrics=process.metrics_page,
                )
            )
        except OSError as exc:
            log.error("EMBEDDING_HTTP_PORT can't be used: set another one", port=settings.http_port, error=exc.strerror)
            return 2
        for beside in (rotation, shared.events, database_watch):
            task = asyncio.create_task(beside.run(), name=type(beside).__name__)
            stack.push_async_callback(_cancelled, task)
        return await process.run()


class Process:
    """What runs, from the first look at the API server to the drained end."""

    def __init__(self, server: ApiServer, shared: Shared, sources: Sources, database_watch: DatabaseWatch) -> None:
        self._server = server
        self._database_watch = database_watch
        self._shared = shared
        self._sources = sources
        self._context = Context(shared, sources)
        self._housekeeping = Housekeeping(server, shared, sources)
        self._stop = asyncio.Event()
        self._watching = False

    async def run(self) -> int:
        """Until told to stop. Returns the exit code."""
        self._stop_on_signals()
        if not await self._first_look():
            await self._sources.end()
            return 0
        keeping = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
        stop_kopf, kopf_ready = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=kopf_setup.registry(self._server, self._context),
                settings=kopf_setup.settings(),
                namespaces=[self._server.namespace],
                standalone=True,
                stop_flag=stop_kopf,
                ready_flag=kopf_ready,
            ),
            name="kopf",
        )
        ready = asyncio.create_task(kopf_ready.wait(), name="ready")
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        await asyncio.wait({ready, watching}, return_when=asyncio.FIRST_COMPLETED)
        self._stop_on_signals()  # kopf has put its own handlers there, which end everything at once
        self._watching = not watching.done()
        if self._watching:
            log.info("operator ready", namespace=self._server.namespace)
        await asyncio.wait({stopping, watching, keeping}, return_when=asyncio.FIRST_COMPLETED)
        self._watching = False
        if self._stop.is_set():
            await self._drain()
        else:
            log.error("a task of the process has ended by itself", kopf=watching.done(), housekeeping=keeping.done())
        await _cancelled(keeping)
        await self._sources.end()
        stop_kopf.set()
        await asyncio.wait({watching}, timeout=DRAIN_S)
        for task in (ready, stopping, watching):
            await _cancelled(task)
        log.info("operator ended", clean=self._stop.is_set())
        return 0 if self._stop.is_set() else 1

    def stuck(self) -> list[str]:
        """What a restart would mend."""
        problems = overdue(self._housekeeping.last_turn, "housekeeping")
        for name, loop in self._sources.loops():
            problems += overdue(loop.last_turn, f"the loop of source {name}")
        if (unseen_s := self._shared.jobs.oldest_unseen_s()) is not None:
            problems += overdue(time.monotonic() - unseen_s, "the watch of jobs")
        return problems

    def not_ready(self) -> list[str]:
        """What is away at the moment."""
        problems = [] if self._watching else ["the watch is not up, or the process is ending"]
        problems += [
            f"source {name} waits for {loop.waiting_for}" for name, loop in self._sources.loops() if loop.waiting_for
        ]
        problems += filter(None, [self._housekeeping.waiting_for, self._database_watch.waiting_for])
        return problems

    def metrics_page(self) -> bytes:
        jobs = self._shared.jobs
        return self._shared.metrics.page(
            open_jobs=len(jobs), window=self._shared.window(), dead_letters=jobs.count_dead_letters()
        )

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _first_look(self) -> bool:
        """List sources and jobs before anything is watched: kopf never notices a CRD that appears after its start.

        Returns False where the process was told to stop meanwhile.
        """
        while not self._stop.is_set():
            looking = asyncio.create_task(self._housekeeping.correct(), name="first look")
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(stopping)
            if not looking.done():
                await _cancelled(looking)
            elif (error := looking.exception()) is None:
                return True
            elif not isinstance(error, ApiServerError):
                raise error
            else:
                log.warning("waiting for the API server, and for the CRDs to be there", message=str(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CRDS_ABSENT_PAUSE_S):
                        await self._stop.wait()
        return False

    async def _drain(self) -> None:
        """Take no new work, and let what is in hand come to its status patch."""
        jobs = self._shared.jobs
        self._context.takes_work = False
        began = time.monotonic()
        log.info("draining", in_flight=jobs.in_flight())
        self._sources.rest()
        await jobs.landed(within_s=DRAIN_S)
        log.info("drained", left=jobs.in_flight(), took_s=round(time.monotonic() - began, 2))


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    except Exception as exc:
        log.error("a task has failed", task=task.get_name(), exc_info=exc)
