"""Keeps the sources of the namespace: lists and watches them, and keeps the last known ones while the API server is away.

Started by cli/serve.py. It only reads.
"""

from typing import Any

import structlog

from embedding_operator.api_errors import ApiServerError
from embedding_operator.api_server import ApiServer
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_sources
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

WATCH_S = 50.0
"""After that, the sources are listed again."""
PAUSE_S = 1.0
"""After a watch has ended or failed, until the next list, which shows what has changed meanwhile."""


class KnownSources:
    def __init__(self, server: ApiServer, *, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._sources: dict[str, EmbeddingSource] = {}
        self._problem: str | None = "the sources have not been listed yet"
        self._logged: str | None = None
        self.is_listed = False
        """Whether they were listed since the start."""

    @property
    def sources(self) -> dict[str, EmbeddingSource]:
        """By name. Those that are being deleted count as deleted."""
        return self._sources

    @property
    def problem(self) -> str | None:
        """Why the API server's present sources are not known, in a sentence; None if they are."""
        return self._problem

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._follow()
            except ApiServerError as exc:
                self._fail(f"the sources cannot be read, and those of before are served: {exc}")
            except Exception as exc:  # a part of an event, or an object that no CRD of ours allows
                log.error("sources not read because of an unexpected error", exc_info=exc)
                self._fail(f"the API server's answer cannot be read ({type(exc).__name__})")
            await self._clock.sleep(PAUSE_S)

    async def _follow(self) -> None:
        """List, and apply what a watch shows, until it ends."""
        bodies, version = await self._server.sources_now()
        self._sources = {
            source.name: source for source in parse_sources(bodies) if not source.metadata.is_being_deleted
        }
        self.is_listed, self._problem = True, None
        if self._logged is not None:
            log.info("the sources can be read again")
            self._logged = None
        async for event in self._server.watch_sources(version, within_s=WATCH_S):
            if event["type"] == "ERROR":  # the version is too old: a list follows
                return
            self._apply(event["type"], event["object"])

    def _apply(self, kind: str, body: dict[str, Any]) -> None:
        name = body["metadata"]["name"]
        changed = {source.name: source for source in parse_sources([body]) if not source.metadata.is_being_deleted}
        others = {known: source for known, source in self._sources.items() if known != name}
        self._sources = others if kind == "DELETED" else others | changed

    def _fail(self, problem: str) -> None:
        self._problem = problem
        if problem != self._logged:
            self._logged = problem
            log.warning("sources not read", message=problem)
