"""What the page knows of the cluster: the last lists that the API server has answered, and why it has not answered since.

`look` is called by poll.py. Each list is read, and fails, by itself: who may read sources only still sees these. The requests are
bounded: of jobs those that are open or dead letters, and at most LIMIT of each phase.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from embedding_operator.api_errors import ApiServerError
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import NotFound
from kubectl_embeddings.operator_presence import read_lease
from kubectl_embeddings.user_connection import sentence_of

LIMIT = 1000
WITHIN_S = 30.0
MOST_NAMESPACES = 20


@dataclass(frozen=True)
class Part:
    """One list: `bodies` are those of `at`; `problem` says why there are no newer ones, and is empty if they are the newest."""

    bodies: Sequence[Json] = ()
    at: datetime | None = None
    problem: str = ""

    @property
    def cut(self) -> bool:
        """Whether there may be more of them."""
        return len(self.bodies) >= LIMIT


@dataclass(frozen=True)
class Observation:
    sources: Part = Part()
    pending: Part = Part()
    retrying: Part = Part()
    dead_letters: Part = Part()
    leases: Mapping[str, Json] = field(default_factory=dict)
    """The operator's Lease by namespace, where there is one that may be read."""

    def failed(self, problem: str) -> "Observation":
        """The same lists, none of which is the newest because of this problem."""
        parts: dict[str, Any] = {
            name: replace(part, problem=problem) for name, part in vars(self).items() if isinstance(part, Part)
        }
        return replace(self, **parts)


async def look(cluster: Requests, last: Observation, *, now: datetime) -> Observation:
    """What is there now; of a list that is not answered, what was there, with the problem. Never raises."""
    sources, pending, retrying, dead_letters = await asyncio.gather(
        _read(cluster, cluster.sources, last.sources, now),
        _read(cluster, lambda: cluster.jobs(LIMIT, phase=Phase.PENDING), last.pending, now),
        _read(cluster, lambda: cluster.jobs(LIMIT, phase=Phase.RETRYING), last.retrying, now),
        _read(cluster, lambda: cluster.jobs(LIMIT, phase=Phase.DEAD_LETTERED), last.dead_letters, now),
    )
    return Observation(sources, pending, retrying, dead_letters, await _leases(cluster, sources))


async def _leases(cluster: Requests, sources: Part) -> Mapping[str, Json]:
    """Of the first namespaces only, where there are many."""
    namespaces = sorted({body["metadata"].get("namespace", "") for body in sources.bodies})[:MOST_NAMESPACES]
    try:
        async with asyncio.timeout(WITHIN_S):
            found = await asyncio.gather(*(read_lease(cluster, namespace) for namespace in namespaces))
    except TimeoutError:
        return {}
    return {namespace: lease for namespace, lease in zip(namespaces, found, strict=True) if lease is not None}


async def _read(cluster: Requests, listed: Callable[[], Awaitable[Sequence[Json]]], last: Part, now: datetime) -> Part:
    try:
        async with asyncio.timeout(WITHIN_S):
            return Part(await listed(), now)
    except ApiServerError as exc:
        return replace(last, problem=sentence_of(exc, cluster.commands))
    except NotFound as exc:
        return replace(last, problem=str(exc))
    except TimeoutError:
        return replace(last, problem=f"the API server has not answered within {WITHIN_S:.0f} s")
    except Exception as exc:  # the other lists are still shown
        return replace(last, problem=f"an unexpected error: {type(exc).__name__}: {exc}")
