"""The process of `embedding-operator run`: starts all tasks, runs until it is told to stop, and drains before it ends.

To drain means to finish the jobs in flight: calls, writes and status patches. The next process continues with other open jobs.
"""

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Protocol

import kopf
import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, ApiServerUnusable
from embedding_operator.context import Context, open_context
from embedding_operator.factory import Factory
from embedding_operator.handlers.kopf_setup import make_registry, make_settings, without_forgotten_reads
from embedding_operator.health import health_server, overdue
from embedding_operator.local_endpoint import local_endpoint
from embedding_operator.reconciler.database_watch import DatabaseWatch
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.reconciler.tracked_job import IN_FLIGHT, OPEN, JobState
from embedding_operator.resources import JOBS, SOURCES
from embedding_operator.settings import Settings
from embedding_operator.tasks import cancel_and_wait, end_process_after, stop_on_signals, unless_set

log = structlog.get_logger(__name__)

DRAIN_S = 16.5
"""One call to a provider (15 s), the write of its vectors, and the patch of its jobs' statuses."""
END_WITHIN_S = 18.5
"""From the signal to the end of all tasks."""
KOPF_ENDS_WITHIN_S = 3.0
CLOSED_WITHIN_S = 3.0
EXIT_WITHIN_S = 19.5
"""From the signal to the exit, also where a task or a thread does not end. Less than a pod's grace period (25 s or more)."""
CRDS_MISSING_PAUSE_S = 2.0
LOST = "another process leads: this one ends, and stands by when it is started again"


class Background(Protocol):
    """What works beside the sources, as long as the process."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Run until told to stop. Returns the exit code: 0 after a clean end, 2 where someone must act first, 1 otherwise."""
    stack = AsyncExitStack()
    guard = asyncio.create_task(end_process_after(stop, seconds=EXIT_WITHIN_S), name="guard of the exit")
    try:
        return await _run(settings, stop, stack)
    finally:
        await close_connections(stack)
        guard.cancel()


async def _run(settings: Settings, stop: asyncio.Event, stack: AsyncExitStack) -> int:
    try:
        context = await unless_set(stop, open_context(settings, stack))
    except ApiServerUnusable as exc:
        log.error("no API server", message=str(exc))
        return 2
    if context is None:
        return 0
    log.info("operator started", namespace=context.server.namespace)
    process = Process(context, stop)
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
    await stack.enter_async_context(local_endpoint(settings.local_port, process.explainer.answer))
    start_all(process.background, stack)
    async with AsyncExitStack() as while_leading:
        return await process.run(while_leading)


def start_all(background: Iterable[Background], stack: AsyncExitStack) -> None:
    """Start what works in the background. The stack ends it."""
    for each in background:
        task = asyncio.create_task(each.run(), name=type(each).__name__)
        stack.push_async_callback(cancel_and_wait, task)


async def close_connections(stack: AsyncExitStack) -> None:
    """Close connections. One that cannot be closed, because its server is away, ends with the process."""
    try:
        async with asyncio.timeout(CLOSED_WITHIN_S):
            await stack.aclose()
    except (Exception, asyncio.CancelledError) as exc:  # kopf has cancelled what the pool of the database waits for
        log.warning("a connection was not closed: it ends with the process", error=type(exc).__name__)


class Process:
    """The tasks of the operator, from the first list of jobs until the process is drained."""

    def __init__(self, context: Context, stop: asyncio.Event) -> None:
        self._context = context
        self._stop = stop
        factory = Factory(context)
        self._sources = factory.sources()
        self._runner = factory.job_runner(self._sources)
        leads = context.leadership.may_start
        self._pauses = Pauses(context.server, context.jobs.table, context.catalog, clock=context.clock, may_work=leads)
        self._housekeeping = factory.housekeeping(self._sources)
        self.database_watch = DatabaseWatch(context.database, clock=context.clock)
        self.api_server_watch = factory.api_server_watch(self._sources, self._housekeeping)
        self._leadership = context.leadership
        self.explainer = factory.row_explainer(self._sources)
        self.background: tuple[Background, ...] = (
            factory.rotation(self._sources),
            context.events,
            self.database_watch,
        )
        """What works also while the process stands by."""
        others = (self._runner.records, self._pauses, factory.peeker)
        self._while_leading = (context.leadership, factory.deleted_sources(), self.api_server_watch, *others)
        self._leads = False
        self._watching = False

    async def run(self, while_leading: AsyncExitStack) -> int:
        """Stand by until this process leads, and then run until told to stop, or until another process has taken the lead.

        Returns the exit code. The stack ends what works in the background meanwhile.
        """
        await unless_set(self._stop, self._leadership.acquire())
        if self._stop.is_set():
            await self._leadership.release()
            return 0
        self._leads, self._housekeeping.last_turn = True, self._context.clock.monotonic()
        start_all(self._while_leading, while_leading)
        return await self._lead(while_leading)

    async def _lead(self, while_leading: AsyncExitStack) -> int:
        if not await self._list_first():
            await self._sources.end()
            await while_leading.aclose()
            await self._leadership.release()
            return 0 if self._stop.is_set() else 1
        housekeeping = asyncio.create_task(self._housekeeping.run(), name="housekeeping")
        stop_kopf = asyncio.Event()
        watching = await self._start_kopf(stop_kopf)
        stopping = asyncio.create_task(self._stop.wait(), name="stopping")
        losing = asyncio.create_task(self._leadership.lost.wait(), name="losing the lead")
        await asyncio.wait({stopping, losing, watching, housekeeping}, return_when=asyncio.FIRST_COMPLETED)
        began = self._context.clock.monotonic()
        self._watching = False
        await cancel_and_wait(stopping)
        await cancel_and_wait(losing)
        if self._stop.is_set():
            await self._drain()
        elif self._leadership.lost.is_set():
            log.error(LOST)
            await self._drain()  # calls that were made are paid for: what they return is written
        else:
            log.error("a task of the process has ended", kopf=watching.done(), housekeeping=housekeeping.done())
        try:  # in no task of its own: kopf waits for tasks that began after it, and cancels them
            async with asyncio.timeout(END_WITHIN_S - (self._context.clock.monotonic() - began)):
                await self._end_tasks(housekeeping, watching, stop_kopf, while_leading)
        except TimeoutError:
            log.warning("not all tasks have ended in time: they end with the process")
        log.info("operator ended", clean=self._stop.is_set())
        return 0 if self._stop.is_set() else 1

    async def _end_tasks(
        self,
        housekeeping: asyncio.Task[None],
        watching: asyncio.Task[None],
        stop_kopf: asyncio.Event,
        while_leading: AsyncExitStack,
    ) -> None:
        await cancel_and_wait(housekeeping)
        await self._sources.end()
        await while_leading.aclose()
        await self._leadership.release()  # a standby goes on at once, while this process takes its time to end
        stop_kopf.set()
        await asyncio.wait({watching}, timeout=KOPF_ENDS_WITHIN_S)
        await cancel_and_wait(watching)

    def find_stuck(self) -> list[str]:
        """What a restart would repair, one sentence for each problem."""
        if not self._leads:
            return []
        now = self._context.clock.monotonic()
        problems = overdue(now - self._housekeeping.last_turn, "housekeeping")
        for name, loop in self._sources.loops():
            problems += overdue(now - loop.last_turn, f"the loop of source {name}")
        if self._api_server_problem is None:  # without the API server, no handler is called
            problems += overdue(self._context.jobs.table.longest_queued_s(), "the watch of jobs")
        return problems

    def find_unreachable(self) -> list[str]:
        """What cannot be reached at the moment, one sentence for each problem."""
        if not self._leads:
            return list(filter(None, [self._leadership.problem, self.database_watch.waiting_for]))
        problems = [] if self._watching else ["the watch is not up, or the process is ending"]
        problems += [
            f"source {name} waits for {loop.waiting_for}" for name, loop in self._sources.loops() if loop.waiting_for
        ]
        others = [self._api_server_problem, self._leadership.problem, self.database_watch.waiting_for]
        return [*problems, *filter(None, others)]

    @property
    def _api_server_problem(self) -> str | None:
        return self.api_server_watch.waiting_for or self._housekeeping.waiting_for

    def metrics_page(self) -> bytes:
        table, window = self._context.jobs.table, self._context.jobs.window
        self._context.metrics.record_database(up=self.database_watch.waiting_for is None)
        return self._context.metrics.page(
            open_jobs=table.count(OPEN), window=window.size, dead_letters=table.count({JobState.DEAD_LETTERED})
        )

    async def _start_kopf(self, stop: asyncio.Event) -> asyncio.Task[None]:
        """Start kopf, and return its task when its watches have started, or when it has failed."""
        server, ready = self._context.server, asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(without_forgotten_reads)
        watching = asyncio.create_task(
            kopf.operator(
                registry=make_registry(server, self._sources, self._runner, self._pauses, clock=self._context.clock),
                settings=make_settings(),
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
        stop_on_signals(self._stop)  # kopf has installed its own handlers, which stop it at once, without draining
        self._watching = not watching.done()
        if self._watching:
            log.info("operator ready", namespace=server.namespace)
        elif not watching.cancelled() and watching.exception() is None:
            self._stop.set()  # a signal has reached kopf's handlers: without one, it ends with an error only
        return watching

    async def _list_first(self) -> bool:
        """List sources and jobs before anything is watched, because kopf does not notice a CRD that appears after its start.

        Returns False if the process was told to stop meanwhile, or if another one has taken the lead.
        """
        while not self._stop.is_set() and not self._leadership.lost.is_set():
            try:
                await unless_set(self._stop, self._list())
            except ApiServerError as exc:
                log.warning("waiting for the API server, and for the CRDs to be there", message=str(exc))
                await self._context.clock.wait_for(self._stop, within_s=CRDS_MISSING_PAUSE_S)
            else:
                return not self._stop.is_set()
        if not self._stop.is_set():
            log.error(LOST)
        return False

    async def _list(self) -> None:
        """kopf reads once at its start which resources are served, and a new one may be listed a little earlier."""
        await self._housekeeping.resync()
        if missing := {SOURCES, JOBS} - await self._context.server.served_resources():
            raise ApiServerUnavailable(f"the API server does not serve {' and '.join(sorted(missing))} yet")

    async def _drain(self) -> None:
        """Start no other job, and wait until the jobs in flight have sent their status, for DRAIN_S at most."""
        table, clock = self._context.jobs.table, self._context.clock
        began = clock.monotonic()
        log.info("draining", in_flight=table.count(IN_FLIGHT))
        self._runner.drain()
        self._sources.drain()
        backfills = asyncio.create_task(self._sources.wait_until_drained(), name="drain of backfills")
        await table.wait_until_drained(within_s=DRAIN_S)
        await asyncio.wait({backfills}, timeout=DRAIN_S - (clock.monotonic() - began))
        await cancel_and_wait(backfills)
        log.info("drained", left=table.count(IN_FLIGHT), took_s=round(clock.monotonic() - began, 2))
