"""The whole process, put together: settings, database, API server, reconciler, and kopf around the handlers.

Called by `embedding-operator run`. It ends when it is told to (SIGTERM, SIGINT), and drains first: calls, writes and status
patches under way are finished, the rest is left to the next process.
"""

import asyncio
import itertools
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import kopf
import structlog

from embedding_operator.api_server import ApiServer, ApiServerError, ApiServerUnusable
from embedding_operator.handlers import embedding_job, embedding_source
from embedding_operator.handlers.context import Context
from embedding_operator.handlers.kopf_storage import NoDiffBase, StatusIsTheProgress
from embedding_operator.reconciler.expiry import Cohorts
from embedding_operator.reconciler.housekeeping import Housekeeping
from embedding_operator.reconciler.open_jobs import OpenJobs
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources import GROUP, JOBS
from embedding_operator.resources.embedding_job import OPEN_SELECTOR
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.settings import Settings
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
        jobs = OpenJobs()
        cohorts = Cohorts(prefix=secrets.token_hex(3))
        due_by_source: dict[str, int] = {}

        def make_loop(source: EmbeddingSource) -> SourceLoop:
            return SourceLoop(
                source,
                database=database,
                server=server,
                jobs=jobs,
                cohorts=cohorts,
                settings=settings,
                due_by_source=due_by_source,
                tell=sources.tell,
            )

        sources = Sources(server, jobs, make_loop)
        context = Context(jobs, cohorts, sources)
        housekeeping = Housekeeping(server, jobs, cohorts, sources, settings)
        return await _run_until_stopped(server, context, housekeeping)


async def _run_until_stopped(server: ApiServer, context: Context, housekeeping: Housekeeping) -> int:
    stop = asyncio.Event()
    _stop_on_signals(stop)
    if not await _first_look(housekeeping, stop):
        await context.sources.end()
        return 0
    keeping = asyncio.create_task(housekeeping.run(), name="housekeeping")
    stop_kopf, kopf_ready = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(
        kopf.operator(
            registry=_registry(server, context),
            settings=_kopf_settings(),
            namespaces=[server.namespace],
            standalone=True,
            stop_flag=stop_kopf,
            ready_flag=kopf_ready,
        ),
        name="kopf",
    )
    ready = asyncio.create_task(kopf_ready.wait())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({ready, watching}, return_when=asyncio.FIRST_COMPLETED)
    _stop_on_signals(stop)  # kopf has put its own handlers there, which end everything at once
    log.info("operator ready", namespace=server.namespace)
    await asyncio.wait({stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():
        await _drain(context)
    else:
        log.error("the watch has ended by itself")
    await _cancelled(keeping)
    await context.sources.end()
    stop_kopf.set()
    await asyncio.wait({watching}, timeout=DRAIN_S)
    for task in (ready, stopping, watching):
        await _cancelled(task)
    log.info("operator ended", clean=stop.is_set())
    return 0 if stop.is_set() else 1


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


async def _first_look(housekeeping: Housekeeping, stop: asyncio.Event) -> bool:
    """List sources and jobs before anything is watched: kopf never notices a CRD that appears after its start.

    Returns False where the process was told to stop meanwhile.
    """
    while not stop.is_set():
        try:
            await housekeeping.correct()
        except ApiServerError as exc:
            log.warning("waiting for the API server, and for the CRDs to be there", message=str(exc))
            try:
                async with asyncio.timeout(CRDS_ABSENT_PAUSE_S):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            return True
    return False


async def _drain(context: Context) -> None:
    """Take no new work, and let what is in hand come to its status patch."""
    context.takes_work = False
    began = time.monotonic()
    log.info("draining", in_flight=context.jobs.in_flight())
    context.sources.rest()
    await context.jobs.landed(within_s=DRAIN_S)
    log.info("drained", left=context.jobs.in_flight(), took_s=round(time.monotonic() - began, 2))


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return
    except Exception as exc:
        log.error("a task has failed", task=task.get_name(), exc_info=exc)


def _registry(server: ApiServer, context: Context) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf closes the session that it was given, so it has one of its own; and a limit, which its own would not have.
        return kopf.AiohttpSession(
            server=server.host, default_namespace=server.namespace, aiohttp_session=server.new_session(limit=32)
        )

    embedding_source.register(registry, context)
    embedding_job.register(registry, context)
    return registry


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.persistence.progress_storage = StatusIsTheProgress()
    settings.watching.field_selectors[GROUP, JOBS] = OPEN_SELECTOR
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 10
    settings.watching.client_timeout = 330
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = Forever()
    settings.queueing.idle_timeout = 0.5
    settings.queueing.exit_timeout = 0.5
    return settings


class Forever:
    """kopf's backoffs without an end: an API server that is away for an hour does not end the operator."""

    def __iter__(self) -> Iterator[float]:
        yield from itertools.chain((0.2, 1, 2, 5, 10, 20), itertools.repeat(30))
