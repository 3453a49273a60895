"""`kubectl embeddings jobs`: the jobs in a table, those that somebody may have to look at first.

Called by app.py. Decides what to show; the requests are those of cluster.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import DONE
from kubectl_embeddings.layout import Screen, duration, objects, table
from kubectl_embeddings.views import Job, job_of

HEADERS = ("JOB", "ID", "PHASE", "TRIES", "REASON", "NEXT", "AGE")
ORDER = ("DeadLettered", "Retrying", "Pending", "Superseded", "Succeeded")


class PhaseName(StrEnum):
    """The phases as a person writes them."""

    PENDING = Phase.PENDING
    RETRYING = Phase.RETRYING
    SUCCEEDED = Phase.SUCCEEDED
    SUPERSEDED = Phase.SUPERSEDED
    DEAD_LETTERED = Phase.DEAD_LETTERED


@dataclass(frozen=True)
class Filter:
    """Which jobs; all of these must hold."""

    source: Annotated[str | None, typer.Option("--source", help="Those of this source.")] = None
    id: Annotated[str | None, typer.Option("--id", help="Those of the row with this id.")] = None
    phase: Annotated[PhaseName | None, typer.Option("--phase", case_sensitive=False, help="Those in this phase.")] = (
        None
    )

    def fields(self) -> dict[str, str]:
        return {name: str(value) for name, value in vars(self).items() if value is not None}


async def show_jobs(cluster: Requests, wanted: Filter, screen: Screen, *, now: datetime) -> int:
    bodies = ordered(await cluster.jobs(**wanted.fields()))
    if screen.format:
        screen.emit(objects("EmbeddingJob", bodies, screen.format))
    elif bodies:
        screen.emit(table(HEADERS, [cells(job_of(body), now) for body in bodies], width=screen.width))
    else:
        screen.note(f"namespace {cluster.namespace} has no such job: finished jobs are kept for minutes only")
    return DONE


def ordered(bodies: Sequence[Json]) -> list[Json]:
    """By phase, the most pressing one first; in a phase the oldest first."""
    return sorted(bodies, key=lambda body: (_rank(job_of(body).phase), body["metadata"].get("creationTimestamp", "")))


def _rank(phase: str) -> int:
    return ORDER.index(phase) if phase in ORDER else -1


def cells(job: Job, now: datetime) -> list[str]:
    """One line of the table."""
    wait = job.next_attempt - now if job.next_attempt else None
    return [
        job.name,
        job.id,
        job.phase,
        str(job.attempts),
        job.reason,
        duration(wait),
        duration(now - job.created if job.created else None),
    ]
