"""`kubectl embeddings suspend`, `resume` and `reconcile`: what a person asks of a source in its spec or its annotations.

Called by app.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from embedding_operator.resources.base import parsed_timestamp, timestamp
from embedding_operator.resources.embedding_source import RECONCILE_ANNOTATION
from embedding_worker.clock import Clock
from kubectl_embeddings.cluster import Json, Requests, changed_annotation
from kubectl_embeddings.failures import DONE, FAILED
from kubectl_embeddings.layout import Screen, duration, one_line
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.status import attention, found_sources
from kubectl_embeddings.views import Source, source_of

LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Request:
    """A sweep and an audit of a source that this command has requested."""

    source: str
    token: str
    handled_before: str
    """The token that the operator had handled last at that time."""


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
    names = [source_of(body).name for body in await found_sources(cluster, names)]
    requested = []
    for name in names:
        requested.append(
            Request(name, token, last_handled(await cluster.patch_source(name, changed_annotation(token))))
        )
        if wait is None:
            screen.emit(f"✓ {name}: a sweep and an audit are requested")
    return DONE if wait is None else await _handled(cluster, requested, screen, wait=wait, clock=clock)


async def _handled(
    cluster: Requests, requested: Sequence[Request], screen: Screen, *, wait: timedelta, clock: Clock
) -> int:
    code, end_s = DONE, clock.monotonic() + wait.total_seconds()
    for one in requested:
        while not handled(body := await cluster.source(one.source), one) and clock.monotonic() < end_s:
            await clock.sleep(LOOK_EVERY_S)
        if handled(body, one):
            screen.emit(f"✓ {one.source}: the sweep and the audit are done")
            continue
        screen.emit(f"✗ {one.source}: not done within {duration(wait)}{why(source_of(body), cluster.commands)}")
        code = FAILED
    return code


def handled(body: Json, request: Request) -> bool:
    """Whether the operator has done what was requested, or what somebody else has requested since, which replaces it.

    Tokens are times. One that is none, or by a clock that is behind, is a later one if it is what the annotation says now.
    """
    done = last_handled(body)
    if done in (request.token, request.handled_before):
        return done == request.token
    asked = (body["metadata"].get("annotations") or {}).get(RECONCILE_ANNOTATION)
    return done == asked or _not_older(done, request.token)


def last_handled(body: Json) -> str:
    return str((body.get("status") or {}).get("lastHandledReconcileAt") or "")


def _not_older(token: str, than: str) -> bool:
    moment, other = parsed_timestamp(token), parsed_timestamp(than)
    return moment is not None and other is not None and moment >= other


def why(source: Source, commands: Commands) -> str:
    if found := attention(source):
        return f"; {one_line(found[0].sentence)}"
    return f", and it goes on: see `{commands.of('kubectl embeddings status')}`"
