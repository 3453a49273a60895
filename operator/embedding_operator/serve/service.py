"""Makes the parts of `embedding-operator serve` from its settings, and decides whether it is ready. Called by cli/serve.py."""

import asyncio

from aiohttp import web

from embedding_operator.api_server import ApiServer
from embedding_operator.health import overdue, probes
from embedding_operator.serve.http_server import SearchApi, Token
from embedding_operator.serve.known_sources import KnownSources
from embedding_operator.serve.metrics import ServeMetrics
from embedding_operator.serve.search_embedder import SearchEmbedder
from embedding_operator.serve.served_models import ServedModels
from embedding_operator.serve.settings import ServeSettings
from embedding_operator.serve.upkeep import Upkeep
from embedding_worker.clock import Clock
from embedding_worker.providers.provider import registered_providers
from embedding_worker.providers.registry import ProviderRegistry


class Service:
    def __init__(self, settings: ServeSettings, server: ApiServer, stop: asyncio.Event, *, clock: Clock) -> None:
        self.token = Token(settings.token.get_secret_value() if settings.token is not None else None)
        self._stop = stop
        self._clock = clock
        self._metrics, providers = ServeMetrics(), registered_providers()
        self.registry = ProviderRegistry(
            settings.credentials(), clock=clock, observer=self._metrics, providers=providers
        )
        models = ServedModels(self.registry, providers)
        self.watch = KnownSources(server, clock=clock)
        self.upkeep = Upkeep(self.watch, models, clock=clock)
        embedder = SearchEmbedder(
            models,
            namespace=server.namespace,
            texts_per_minute=settings.texts_per_minute,
            cached_vectors=settings.cached_vectors,
            clock=clock,
            metrics=self._metrics,
        )
        self._api = SearchApi(
            lambda: self.watch.sources, embedder, token=self.token, clock=clock, metrics=self._metrics
        )

    def application(self) -> web.Application:
        routes = probes(stuck=self._find_stuck, not_ready=self._find_unready, metrics=self._metrics.page)
        return self._api.application(routes)

    def _find_stuck(self) -> list[str]:
        return overdue(self._clock.monotonic() - self.upkeep.last_turn, "the loop that looks after the models")

    def _find_unready(self) -> list[str]:
        """An outage of the API server or of a provider is no problem here: all pods would be taken from the Service at once, and
        clients would not get the sentence that says what is wrong.
        """
        if self._stop.is_set():
            return ["the process is ending"]
        if not self.watch.is_listed:
            return ["the sources have not been listed yet: see the log"]
        return [f"the model of source {name} is being loaded" for name in self.upkeep.unloaded]
