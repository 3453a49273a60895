"""Keeps the models usable while no one asks: sends the probes of open circuits, and loads models and SDKs beforehand.

Started by cli/serve.py. What it loads decides whether the process is ready.
"""

import asyncio

import structlog

from embedding_operator.serve.known_sources import KnownSources
from embedding_operator.serve.served_models import ServedModel, ServedModels
from embedding_operator.tasks import cancel_and_wait
from embedding_worker.clock import Clock
from embedding_worker.errors import ProviderError, SourceRefused
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.pulse import BEAT_EVERY_S
from embedding_worker.source import Model

log = structlog.get_logger(__name__)


class Upkeep:
    def __init__(self, watch: KnownSources, models: ServedModels, *, clock: Clock) -> None:
        self._watch = watch
        self._models = models
        self._clock = clock
        self._loaded: set[Model] = set()
        self._loading: dict[Model, asyncio.Task[None]] = {}
        self._probes: set[asyncio.Task[bool]] = set()
        self.last_turn = clock.monotonic()

    @property
    def unloaded(self) -> list[str]:
        """The sources whose model, or its SDK, is not loaded yet."""
        usable = self._models.usable(self._watch.sources.values())
        return [served.source for served in usable if served.model not in self._loaded]

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self.last_turn = self._clock.monotonic()
                for served in self._models.usable(self._watch.sources.values()):
                    self._look_after(served)
                await self._clock.sleep(BEAT_EVERY_S)
        finally:
            for task in (*self._loading.values(), *self._probes):
                await cancel_and_wait(task)

    def _look_after(self, served: ServedModel) -> None:
        served.embedder.beat()
        if served.model not in self._loaded and served.model not in self._loading:
            self._loading[served.model] = asyncio.create_task(self._load(served), name="load a model")
        if served.embedder.begin_probe():
            probe = asyncio.create_task(served.embedder.probe(), name="probe")
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _load(self, served: ServedModel) -> None:
        """Where that fails, each request tries again. Only a model in this process is called, because that costs nothing."""
        try:
            await served.embedder.prepare()
            if served.in_this_process:
                await served.embedder.embed([CANARY])
            log.info("model prepared", source=served.source, model=served.model.name)
        except (ProviderError, SourceRefused) as exc:
            log.warning("model not prepared", source=served.source, model=served.model.name, message=exc.message)
        except Exception as exc:
            log.error("model not prepared", source=served.source, model=served.model.name, exc_info=exc)
        finally:
            self._loaded.add(served.model)
            del self._loading[served.model]
