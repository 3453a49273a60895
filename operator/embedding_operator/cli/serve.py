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
from embedding_operator.health import overdue, probes, served
from embedding_operator.rotation import Rotation
from embedding_operator.serve.http_server import SearchApi, Token
from embedding_operator.serve.metrics import ServeMetrics
from embedding_operator.serve.search_embedder import SearchEmbedder
from embedding_operator.serve.served_models import ServedModels
from embedding_operator.serve.settings import ServeSettings
from embedding_operator.serve.source_watch import SourceWatch
from embedding_operator.serve.upkeep import Upkeep
from embedding_operator.settings import SERVE_TOKEN
from embedding_operator.tasks import cancel_and_wait, end_process_after
from embedding_worker.clock import SystemClock
from embedding_worker.providers.provider import registered_providers
from embedding_worker.providers.registry import ProviderRegistry

log = structlog.get_logger(__name__)

ENDED, UNUSABLE = 0, 2
"""Exit codes."""
FINISHES_WITHIN_S = 16.5
"""The calls that are being made."""
EXIT_WITHIN_S = 19.5
"""From the signal to the exit, also where a task or a thread does not end. Less than a pod's grace period (25 s or more)."""


async def run(settings: ServeSettings, stop: asyncio.Event) -> int:
    """Serve until told to stop. Returns the exit code."""
    guard = asyncio.create_task(end_process_after(stop, seconds=EXIT_WITHIN_S), name="guard of the exit")
    try:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await ApiServer.connected(settings))
            return await _serve(settings, server, stop, stack)
    except ApiServerUnusable as exc:
        log.error("no API server", message=str(exc))
        return UNUSABLE
    finally:
        guard.cancel()


async def _serve(settings: ServeSettings, server: ApiServer, stop: asyncio.Event, stack: AsyncExitStack) -> int:
    clock, metrics, providers = SystemClock(), ServeMetrics(), registered_providers()
    registry = ProviderRegistry(settings.provider_values(), clock=clock, observer=metrics, providers=providers)
    watch, models = SourceWatch(server, clock=clock), ServedModels(registry, providers)
    upkeep = Upkeep(watch, models, clock=clock)
    token = Token(settings.token.get_secret_value() if settings.token is not None else None)
    embedder = SearchEmbedder(
        models,
        texts_per_minute=settings.texts_per_minute,
        cached_vectors=settings.cached_vectors,
        clock=clock,
        metrics=metrics,
    )
    api = SearchApi(lambda: watch.sources, embedder, token=token, clock=clock, metrics=metrics)

    def find_stuck() -> list[str]:
        return overdue(clock.monotonic() - upkeep.last_turn, "the loop that looks after the models")

    for background in (watch, upkeep, _rotation(settings, registry, token)):
        task = asyncio.create_task(background.run(), name=type(background).__name__)
        stack.push_async_callback(cancel_and_wait, task)
    not_ready = partial(_find_unready, watch, upkeep, stop)
    app = api.application(probes(stuck=find_stuck, not_ready=not_ready, metrics=metrics.page))
    try:
        await stack.enter_async_context(served(app, settings.http_port, finishes_within_s=FINISHES_WITHIN_S))
    except OSError as exc:
        log.error("EMBEDDING_HTTP_PORT can't be used: set another one", port=settings.http_port, error=exc.strerror)
        return UNUSABLE
    await stop.wait()
    return ENDED


def _find_unready(watch: SourceWatch, upkeep: Upkeep, stop: asyncio.Event) -> list[str]:
    """An outage of the API server or of a provider is no problem here: all pods would be taken from the Service at once, and
    clients would not get the sentence that says what is wrong.
    """
    if stop.is_set():
        return ["the process is ending"]
    if not watch.is_listed:
        return [watch.problem or "the sources have not been listed yet"]
    return [f"the model of source {name} is being loaded" for name in upkeep.unloaded]


def _rotation(settings: ServeSettings, registry: ProviderRegistry, token: Token) -> Rotation:
    """Puts a new value of a secret that is mounted as a file in force, as in the operator."""

    async def rotate(variable: str, value: str) -> None:
        if variable == SERVE_TOKEN:
            token.replace(value)
        else:
            await registry.rotate(variable, value)

    mounted = settings.mounted_secrets()
    rotations = {secret.variable: partial(rotate, secret.variable.removesuffix("_FILE")) for secret in mounted}
    return Rotation(mounted, rotations, clock=SystemClock())
