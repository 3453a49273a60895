"""Has kopf itself process one event of a watch, with our handlers and settings, and no API server behind it.

For tests of what kopf makes of our registry and storages: which handler it calls, and that it patches nothing.
"""

import asyncio
import copy
from typing import Any, cast

import kopf
import pytest
from kopf._cogs.clients import patching
from kopf._cogs.structs import references
from kopf._core.actions import lifecycles
from kopf._core.engines import indexing
from kopf._core.reactor import inventory, processing

from embedding_operator.handlers.kopf_setup import make_settings
from embedding_operator.resources import GROUP, JOBS, SOURCES, VERSION
from tests.support.manifests import Json, merged

RESOURCES = {
    "EmbeddingJob": references.Resource(GROUP, VERSION, JOBS, "EmbeddingJob", namespaced=True),
    "EmbeddingSource": references.Resource(GROUP, VERSION, SOURCES, "EmbeddingSource", namespaced=True),
}


class KopfSide:
    """`patches` holds what kopf itself has sent, in order."""

    def __init__(self, registry: kopf.OperatorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
        self._settings = make_settings()
        self.patches: list[Json] = []
        self._registry = registry
        self._memories = inventory.ResourceMemories()
        self._body: Json = {}
        monkeypatch.setattr(patching, "patch_obj", self._patch)

    async def event(self, body: Json, kind: str | None = "MODIFIED") -> Json:
        """Have kopf process this event; None is the kind of an object in a list. Returns the object as it is afterwards."""
        self._body = copy.deepcopy(body)
        await processing.process_resource_event(
            lifecycle=lifecycles.all_at_once,
            indexers=indexing.OperatorIndexers(),
            registry=self._registry,
            settings=self._settings,
            memories=self._memories,
            memobase=cast(Any, kopf.Memo()),
            resource=RESOURCES[body["kind"]],
            raw_event={"type": kind, "object": copy.deepcopy(body)},  # type: ignore[typeddict-item]
            event_queue=asyncio.Queue(),
            no_throttling=True,
        )
        return self._body

    async def _patch(self, *, patch: kopf.Patch, **_: Any) -> tuple[Json, None]:
        self.patches.append(copy.deepcopy(dict(patch)))
        self._body = merged(self._body, dict(patch))
        return self._body, None
