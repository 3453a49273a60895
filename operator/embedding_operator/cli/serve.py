"""`embedding-operator serve`: embeds search texts over HTTP, with the models of the sources.

Called by commands.py, in the chart's second Deployment or by hand. It reads sources, and neither connects to the database nor
writes anything.
"""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import structlog

from embedding_operator.api_errors import ApiServerUnusable
from embedding_operator.api_server import ApiServer
from embedding_operator.cli.start import begin_log, settings_of, until_stopped
from embedding_operator.health import served
from embedding_operator.rotation import Rotation, make_rotation
from embedding_operator.serve.http_server import MOST_CONNECTIONS
from embedding_operator.serve.service import Service
from embedding_operator.serve.settings import ServeSettings
from embedding_operator.settings import SERVE_TOKEN
from embedding_operator.tasks import cancel_and_wait, end_process_after
from embedding_worker.clock import Clock, SystemClock

log = structlog.get_logger(__name__)

ENDED, UNUSABLE = 0, 2
"""Exit codes."""
FINISHES_WITHIN_S = 16.5
"""The calls that are being made."""
EXIT_WITHIN_S = 19.5
"""From the signal to the exit, also where a task or a thread does not end. Less than a pod's grace period (25 s or more)."""


def serve() -> int:
    """Serve until SIGTERM. Returns the exit code."""
    settings = settings_of(ServeSettings)
    begin_log(settings)
    return asyncio.run(until_stopped(partial(run, settings)))


async def run(settings: ServeSettings, stop: asyncio.Event) -> int:
    guard = asyncio.create_task(end_process_after(stop, seconds=EXIT_WITHIN_S), name="guard of the exit")
    try:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await ApiServer.connected(settings))
            return await _run(settings, server, stop, stack)
    except ApiServerUnusable as exc:
        log.error("no API server", message=str(exc))
        return UNUSABLE
    finally:
        guard.cancel()


async def _run(settings: ServeSettings, server: ApiServer, stop: asyncio.Event, stack: AsyncExitStack) -> int:
    clock = SystemClock()
    service = Service(settings, server, stop, clock=clock)
    for background in (service.watch, service.upkeep, _rotation(settings, service, clock)):
        task = asyncio.create_task(background.run(), name=type(background).__name__)
        stack.push_async_callback(cancel_and_wait, task)
    try:
        serving = served(
            service.application(),
            settings.http_port,
            finishes_within_s=FINISHES_WITHIN_S,
            most_connections=MOST_CONNECTIONS,
        )
        await stack.enter_async_context(serving)
    except OSError as exc:
        log.error("EMBEDDING_HTTP_PORT can't be used: set another one", port=settings.http_port, error=exc.strerror)
        return UNUSABLE
    log.info("serve started", namespace=server.namespace)
    await stop.wait()
    return ENDED


def _rotation(settings: ServeSettings, service: Service, clock: Clock) -> Rotation:
    """Puts a new value of a secret that is mounted as a file in force, as in the operator."""

    async def rotate(variable: str, value: str) -> None:
        if variable == SERVE_TOKEN:
            service.token.replace(value)
        else:
            await service.registry.rotate(variable, value)

    secrets, keys = settings.mounted_secrets(), settings.mounted_keys(service.registry.keys)
    return make_rotation(secrets, keys, rotate=rotate, rotate_key=service.registry.rotate_key, clock=clock)
