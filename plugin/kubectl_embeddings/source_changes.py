"""`kubectl embeddings suspend`, `resume` and `reconcile`: what a person asks of a source in its spec or its annotations.

Called by app.py.
"""

from collections.abc import Sequence
from datetime import timedelta

from embedding_operator.resources.base import timestamp
from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Requests, changed_annotation
from kubectl_embeddings.failures import DONE, FAILED
from kubectl_embeddings.layout import Screen, duration, one_line
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.status import attention, found_sources
from kubectl_embeddings.views import Source, source_of

LOOK_EVERY_S = 1.0


async def suspend(cluster: Requests, names: Sequence[str], screen: Screen, *, wanted: bool) -> int:
    """Suspend or resume these sources, after it is known that all of them exist. Raises NotFound."""
    for body in await found_sources(cluster, names):
        source = source_of(body)
        if source.suspended is not wanted:
            await cluster.patch_source(source.name, {"spec": {"suspend": wanted}})
        screen.emit(f"✓ {source.name}: {said(wanted=wanted, changed=source.suspended is not wanted)}")
    return DONE


def said(*, wanted: bool, changed: bool) -> str:
    if not changed:
        return "it is suspended already" if wanted else "it is not suspended"
    if wanted:
        return "suspended: no more jobs and calls, and edits are recorded"
    return "resumed: what became due meanwhile gets jobs"


async def reconcile(
    cluster: Requests, names: Sequence[str], screen: Screen, *, wait: timedelta | None, clock: Clock
) -> int:
    """Request a sweep and an audit of these sources, and wait for their end if asked. Raises NotFound."""
    token = timestamp(clock.now())
    requested = [source_of(body).name for body in await found_sources(cluster, names)]
    for name in requested:
        await cluster.patch_source(name, changed_annotation(token))
        if wait is None:
            screen.emit(f"✓ {name}: a sweep and an audit are requested")
    return DONE if wait is None else await _handled(cluster, requested, token, screen, wait=wait, clock=clock)


async def _handled(
    cluster: Requests, names: Sequence[str], token: str, screen: Screen, *, wait: timedelta, clock: Clock
) -> int:
    code, end_s = DONE, clock.monotonic() + wait.total_seconds()
    for name in names:
        while not handled(body := await cluster.source(name), token) and clock.monotonic() < end_s:
            await clock.sleep(LOOK_EVERY_S)
        if handled(body, token):
            screen.emit(f"✓ {name}: the sweep and the audit are done")
            continue
        screen.emit(f"✗ {name}: not done within {duration(wait)}{why(source_of(body), cluster.commands)}")
        code = FAILED
    return code


def handled(body: dict[str, object], token: str) -> bool:
    """Whether the operator has done what was requested with this token, or later."""
    status = body.get("status")
    return isinstance(status, dict) and status.get("lastHandledReconcileAt") == token


def why(source: Source, commands: Commands) -> str:
    if found := attention(source):
        return f"; {one_line(found[0].sentence)}"
    return f", and it goes on: see `{commands.of('kubectl embeddings status')}`"
