"""Sets kopf up: which handlers it calls, how it connects, and its timeouts. Called by the process.

Each setting that differs from kopf's default is there because of a fault that was seen without it.
"""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import kopf
import structlog

from embedding_operator.api_access.session import CONNECTED_WITHIN_S
from embedding_operator.api_server import ApiServer
from embedding_operator.handlers import embedding_job, embedding_source
from embedding_operator.handlers.kopf_storage import NoDiffBase, NoProgress
from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources import GROUP, JOBS
from embedding_operator.resources.embedding_job import OPEN_SELECTOR
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

CONNECTIONS = 32
LOGIN_EVERY_S = 4.0
FORGETFUL = "scanning.py"
"""The module of kopf in which it reads which resources are served, with a task for each API group."""


def make_registry(
    server: ApiServer, sources: Sources, runner: JobRunner, pauses: Pauses, *, clock: Clock
) -> kopf.OperatorRegistry:
    result = kopf.OperatorRegistry()
    next_login_at = clock.monotonic()

    @kopf.on.login(registry=result)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf logs in after each answer 401, and then repeats the request at once: without a pause, as fast as it can.
        nonlocal next_login_at
        pause_s = max(0.0, next_login_at - clock.monotonic())
        next_login_at = clock.monotonic() + pause_s + LOGIN_EVERY_S
        await clock.sleep(pause_s)
        # A session of its own, because kopf closes the one that it is given; with a limit, which kopf's own has not.
        return kopf.AiohttpSession(
            server=server.host,
            default_namespace=server.namespace,
            aiohttp_session=server.new_session(limit=CONNECTIONS, patient=True),
        )

    embedding_source.register(result, sources)
    embedding_job.register(result, runner, pauses)
    return result


def make_settings() -> kopf.OperatorSettings:
    result = kopf.OperatorSettings()
    result.posting.enabled = False  # every log line about an object would become an Event
    result.scanning.disabled = True  # it needs rights on the whole cluster
    result.persistence.diffbase_storage = NoDiffBase()
    result.persistence.progress_storage = NoProgress()
    result.watching.field_selectors[GROUP, JOBS] = OPEN_SELECTOR  # finished jobs are not watched
    # A watch can stop without an error: neither side keeps a silent one for longer than this. The next one continues where it
    # ended, without a list, so a short time costs one request a minute.
    result.watching.server_timeout = 50
    result.watching.client_timeout = 60
    result.watching.connect_timeout = CONNECTED_WITHIN_S
    result.networking.request_timeout = 30
    result.networking.connect_timeout = CONNECTED_WITHIN_S
    result.networking.error_backoffs = Backoffs()
    result.queueing.idle_timeout = 0.5  # how long the task of an object stays after its last event
    result.queueing.exit_timeout = 0.5  # a handler that still runs would use all of it
    return result


class Backoffs:
    """Pauses without an end, in seconds: an API server that is unreachable for an hour does not end the operator.

    They stay short, so that all work goes on within ten seconds of the server's return.
    """

    def __iter__(self) -> Iterator[float]:
        yield from itertools.chain((0.2, 0.5, 1), itertools.repeat(2))


def without_forgotten_reads(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle what asyncio cannot give to anyone, as it does by default, but without the reads that kopf has forgotten.

    When one of them fails, or kopf ends meanwhile, it waits for none of the others. A clean end would log an error for each.
    """
    task = context.get("future") or context.get("task")
    if isinstance(task, asyncio.Task) and is_forgetful(task.get_coro()):
        log.debug("a read of kopf that nobody waits for has failed", message=str(context.get("exception")))
    else:
        loop.default_exception_handler(context)


def is_forgetful(coroutine: Any) -> bool:
    code = getattr(coroutine, "cr_code", None)  # other awaitables have none
    source = PurePath(code.co_filename if code is not None else "")
    return source.name == FORGETFUL and "kopf" in source.parts
