"""The process of `embedding-operator run`: starts all tasks, runs until it is told to stop, and drains before it ends.

To drain means to finish the jobs in flight: calls, writes and status patches. The next process continues with other open jobs.
"""

import asyncio
import signal
from contextlib import AsyncExitStack

import kopf
import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnusable
from embedding_operator.context import Context, open_context
from embedding_operator.factory import Factory
from embedding_operator.handlers.kopf_setup import make_registry, make_settings
from embedding_operator.handlers.kopf_storage import StatusIsTheProgress
from embedding_operator.health import health_server, overdue
from embedding_operator.reconciler.database_watch import DatabaseWatch
from embedding_operator.reconciler.job_table import IN_FLIGHT, OPEN, JobState
from embedding_operator.settings import Settings
from embedding_operator.tasks import cancel_and_wait

log = structlog.get_logger(__name__)

DRAIN_S = 20.0
"""Less than a pod's grace period (35 s or more), and more than one call to a provider takes (15 s)."""
CRDS_MISSING_PAUSE_S = 2.0


async def run(settings: Settings) -> int:
    """Run until told to stop. Returns the exit code: 0 after a clean end, 2 where someone must act first, 1 otherwise."""
    async with AsyncExitStack() as stack:
        try:
            context = await open_context(settings, stack)
        except ApiServerUnusable as exc:
            log.error("no API server", message=str(exc))
            return 2
        process = Process(context)
        try:
            await stack.enter_async_context(
                health_server(
                    settings.http_port,
                    stuck=process.find_stuck,
                    not_ready=process.find_unreachable,
                    metrics=process.metrics_page,
                )
            )
        except OSError as exc:
            log.error("EMBEDDING_HTTP_PORT can't be used: set another one", port=settings.http_port, error=exc.strerror)
            return 2
        for background in (process.rotation, context.events, process.database_watch):
            task = asyncio.create_task(background.run(), name=type(background).__name__)
            stack.push_async_callback(cancel_and_wait, task)
        return await process.run()


class Process:
    """The tasks of the operator, from the first list of jobs until the process is drained."""

    def __init__(self, context: Context) -> None:
        self._context = context
        factory = Factory(context)
        self._sources = factory.sources()
        self._runner = factory.job_runner(self._sources)
        self._housekeeping = factory.housekeeping(self._sources)
        self.rotation = factory.rotation(self._sources)
        self.database_watch = DatabaseWatch(context.database, clock=context.clock)
        self._stop = asyncio.Event()
        self._watching = False

    async def run(self) -> int:
        """Run until told to stop. Returns the exit code."""
        self._stop_on_signals()
        if not await self._list_first():
            await self._sources.end()
            return 0
        housekeeping = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
        stop_kopf = asyncio.Event()
        watching = await self._start_kopf(stop_kopf)
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        await asyncio.wait({stopping, watching, housekeeping}, return_when=asyncio.FIRST_COMPLETED)
        self._watching = False
        if self._stop.is_set():
            await self._drain()
        else:
            log.error("a task of the process has ended", kopf=watching.done(), housekeeping=housekeeping.done())
        await cancel_and_wait(housekeeping)
        await self._sources.end()
        stop_kopf.set()
        await asyncio.wait({watching}, timeout=DRAIN_S)
        for task in (stopping, watching):
            await cancel_and_wait(task)
        log.info("operator ended", clean=self._stop.is_set())
        return 0 if self._stop.is_set() else 1

    def find_stuck(self) -> list[str]:
        """What a restart would repair, one sentence for each problem."""
        now = self._context.clock.monotonic()
        problems = overdue(now - self._housekeeping.last_turn, "housekeeping")
        for name, loop in self._sources.loops():
            problems += overdue(now - loop.last_turn, f"the loop of source {name}")
        if self._housekeeping.waiting_for is None:  # without the API server, no handler is called
            problems += overdue(self._context.jobs.table.longest_queued_s(), "the watch of jobs")
        return problems

    def find_unreachable(self) -> list[str]:
        """What cannot be reached at the moment, one sentence for each problem."""
        problems = [] if self._watching else ["the watch is not up, or the process is ending"]
        problems += [
            f"source {name} waits for {loop.waiting_for}" for name, loop in self._sources.loops() if loop.waiting_for
        ]
        return [*problems, *filter(None, [self._housekeeping.waiting_for, self.database_watch.waiting_for])]

    def metrics_page(self) -> bytes:
        table, window = self._context.jobs.table, self._context.jobs.window
        return self._context.metrics.page(
            open_jobs=table.count(OPEN), window=window.size, dead_letters=table.count({JobState.DEAD_LETTERED})
        )

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _start_kopf(self, stop: asyncio.Event) -> asyncio.Task[None]:
        """Start kopf, and return its task when its watches have started, or when it has failed."""
        server, table, ready = self._context.server, self._context.jobs.table, asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=make_registry(server, self._sources, self._runner),
                settings=make_settings(StatusIsTheProgress(table, self._context.catalog, clock=self._context.clock)),
                namespaces=[server.namespace],
                standalone=True,
                stop_flag=stop,
                ready_flag=ready,
            ),
            name="kopf",
        )
        starting = asyncio.create_task(ready.wait(), name="ready")
        await asyncio.wait({starting, watching}, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(starting)
        self._stop_on_signals()  # kopf has installed its own handlers, which stop it at once, without draining
        self._watching = not watching.done()
        if self._watching:
            log.info("operator ready", namespace=server.namespace)
        return watching

    async def _list_first(self) -> bool:
        """List sources and jobs before anything is watched, because kopf does not notice a CRD that appears after its start.

        Returns False if the process was told to stop meanwhile.
        """
        while not self._stop.is_set():
            listing = asyncio.create_task(self._housekeeping.resync(), name="first list")
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({listing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await cancel_and_wait(stopping)
            if not listing.done():
                await cancel_and_wait(listing)
                return False
            try:
                listing.result()
            except ApiServerError as exc:
                log.warning("waiting for the API server, and for the CRDs to be there", message=str(exc))
                await self._context.clock.wait_for(self._stop, within_s=CRDS_MISSING_PAUSE_S)
            else:
                return True
        return False

    async def _drain(self) -> None:
        """Start no other job, and wait until the jobs in flight have sent their status, for DRAIN_S at most."""
        table, clock = self._context.jobs.table, self._context.clock
        began = clock.monotonic()
        log.info("draining", in_flight=table.count(IN_FLIGHT))
        self._runner.drain()
        self._sources.drain()
        await table.wait_until_drained(within_s=DRAIN_S)
        log.info("drained", left=table.count(IN_FLIGHT), took_s=round(clock.monotonic() - began, 2))
