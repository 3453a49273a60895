"""What the watch says of EmbeddingSources, passed on to whoever runs them. Nothing is done here: an event may be missed."""

from typing import Any

import kopf
import structlog
from pydantic import ValidationError

from embedding_operator.handlers.context import Context
from embedding_operator.resources import GROUP, SOURCES, VERSION
from embedding_operator.resources.embedding_source import parsed_source

log = structlog.get_logger(__name__)


def register(registry: kopf.OperatorRegistry, context: Context) -> None:
    @kopf.on.event(GROUP, VERSION, SOURCES, registry=registry, id="sources")
    async def keep_sources(event: kopf.RawEvent, name: str, **_: Any) -> None:
        if event["type"] == "DELETED":
            await context.sources.gone(name, uid=event["object"]["metadata"]["uid"])
            return
        try:
            source = parsed_source(event["object"])
        except ValidationError as exc:  # a CRD older or newer than this operator
            log.error("source not understood", source=name, problems=exc.error_count())
            return
        await context.sources.seen(source)
