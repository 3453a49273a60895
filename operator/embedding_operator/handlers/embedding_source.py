"""Passes on what the watch shows of EmbeddingSources. Nothing depends on an event: housekeeping lists the sources too."""

from typing import Any

import kopf
import structlog
from pydantic import ValidationError

from embedding_operator.reconciler.sources import Sources
from embedding_operator.resources import GROUP, SOURCES, VERSION
from embedding_operator.resources.embedding_source import parse_source

log = structlog.get_logger(__name__)


def register(registry: kopf.OperatorRegistry, sources: Sources) -> None:
    @kopf.on.event(GROUP, VERSION, SOURCES, registry=registry, id="sources")
    async def observe(event: kopf.RawEvent, name: str, **_: Any) -> None:
        if event["type"] == "DELETED":
            sources.observe_deleted(name, uid=event["object"]["metadata"]["uid"])
            return
        try:
            source = parse_source(event["object"])
        except ValidationError as exc:  # a CRD older or newer than this operator
            log.error("source not understood", source=name, problems=exc.error_count())
            return
        sources.observe(source)
