"""Has kopf itself process one event of a watch, with our handlers and settings, and no API server behind it.

For tests of what kopf makes of our registry and storages: which handler it calls, when, and what it patches.
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
from embedding_operator.handlers.kopf_storage import StatusIsTheProgress
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.finished_jobs import FinishedJobs
from embedding_operator.reconciler.job_table import JobTable
from embedding_operator.resources import GROUP, JOBS, SOURCES, VERSION
from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.clock import Clock, SystemClock
from tests.support.manifests import Json, a_source, merged

RESOURCES = {
    "EmbeddingJob": references.Resource(GROUP, VERSION, JOBS, "EmbeddingJob", namespaced=True),
    "EmbeddingSource": references.Resource(GROUP, VERSION, SOURCES, "EmbeddingSource", namespaced=True),
}


def progress_of(*, longest_pause_s: int, clock: Clock | None = None) -> StatusIsTheProgress:
    """Of the source "shops", whose jobs are not in the table."""
    clock, catalog = clock or SystemClock(), SourceCatalog()
    catalog.put(parse_source(a_source("shops", retry={"maxSeconds": longest_pause_s})))
    return StatusIsTheProgress(JobTable(FinishedJobs("c0"), clock=clock), catalog, clock=clock)


class KopfSide:
    """`patches` holds what kopf itself has sent, in order."""

    def __init__(
        self,
        registry: kopf.OperatorRegistry,
        monkeypatch: pytest.MonkeyPatch,
        progress: StatusIsTheProgress | None = None,
    ) -> None:
        self._settings = make_settings(progress or progress_of(longest_pause_s=7_200))
        self.patches: list[Json] = []
        self._registry = registry
        self._memories = inventory.ResourceMemories()
        self._body: Json = {}
        monkeypatch.setattr(patching, "patch_obj", self._patch)

    async def event(self, body: Json, kind: str = "MODIFIED") -> Json:
        """Have kopf process this event. Returns the object as it is afterwards."""
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
