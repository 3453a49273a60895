"""`kubectl embeddings dead-letters`: why rows have failed for good, grouped by the reason, and what to do about each.

Called by app.py. Decides what to show; the requests are those of cluster.py.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.failures import DONE
from kubectl_embeddings.layout import Screen, document, duration, one_line, paragraph
from kubectl_embeddings.shown_commands import BARE, Commands, quoted
from kubectl_embeddings.views import Job, job_of

NAMES_SHOWN = 5
LONG_AGO = datetime.min.replace(tzinfo=UTC)
REMEDIES = {
    "InputRejected": "correct the texts of these rows, and they get jobs of their own; or change the model, and replay",
    "TextTooLong": "shorten the texts of these rows, and they get jobs of their own; or set spec.model.tooLong to Truncate, "
    "and replay",
    "TextExpressionFailed": "correct these rows, and they get jobs of their own; or correct spec.text, and replay",
    "UpdateSuppressed": "let your trigger or rule pass updates of the embedding column alone, and replay",
    "RetriesExhausted": "correct what the last failure names, and replay",
}
OTHER_REMEDY = "correct what the message names, and replay"


@dataclass(frozen=True)
class Filter:
    """Which dead letters; all of these must hold."""

    source: Annotated[str | None, typer.Option("--source", help="Those of this source.")] = None
    reason: Annotated[str | None, typer.Option("--reason", help="Those with this reason.")] = None


@dataclass(frozen=True)
class Group:
    """The dead letters with one reason, the newest first."""

    reason: str
    jobs: tuple[Job, ...]

    @property
    def remedy(self) -> str:
        return remedy(self.reason)

    @property
    def sources(self) -> Counter[str]:
        return Counter(job.source for job in self.jobs)

    @property
    def failures(self) -> Counter[str]:
        """What the last attempts failed by, where that is not the reason itself."""
        return Counter(
            job.last_failure for job in self.jobs if job.last_failure.partition(" ")[0] not in ("", self.reason)
        )


async def show_dead_letters(cluster: Requests, wanted: Filter, screen: Screen, *, now: datetime) -> int:
    groups = grouped(await dead_letters(cluster, wanted))
    if screen.format:
        screen.emit(document([as_data(group) for group in groups], screen.format))
    elif groups:
        told = [group_text(one, wanted, now=now, width=screen.width, commands=cluster.commands) for one in groups]
        screen.emit("\n\n".join(told))
    else:
        screen.note(f"namespace {cluster.namespace} has no such dead letter")
    return DONE


async def dead_letters(cluster: Requests, wanted: Filter) -> list[Job]:
    of_source = {} if wanted.source is None else {"source": wanted.source}
    found = [job_of(body) for body in await cluster.jobs(phase=Phase.DEAD_LETTERED, **of_source)]
    return [job for job in found if wanted.reason in (None, job.reason)]


def remedy(reason: str) -> str:
    """What to do about a dead letter with this reason."""
    return REMEDIES.get(reason, OTHER_REMEDY)


def grouped(jobs: Sequence[Job]) -> list[Group]:
    """The largest group first, and in each the newest job first."""
    by_reason: dict[str, list[Job]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.completed or LONG_AGO, reverse=True):
        by_reason[job.reason].append(job)
    groups = [Group(reason, tuple(found)) for reason, found in by_reason.items()]
    return sorted(groups, key=lambda group: (-len(group.jobs), group.reason))


def group_text(group: Group, wanted: Filter, *, now: datetime, width: int | None, commands: Commands = BARE) -> str:
    newest = group.jobs[0]
    when = f", the newest {duration(now - newest.completed)} ago" if newest.completed else ""
    of = ", ".join(f"{number} of {source}" for source, number in group.sources.most_common())
    lines = [newest.message, *([_failures(group)] if group.failures else []), f"To do: {group.remedy}"]
    return "\n".join(
        [
            one_line(f"{group.reason}: {of}{when}"),
            *(paragraph(line, width=width) for line in lines if line),
            f"  {commands.of(replay_command(group, wanted))}",
            *(f"    {job.name}" for job in group.jobs[:NAMES_SHOWN]),
            *([f"    … and {more} more"] if (more := len(group.jobs) - NAMES_SHOWN) > 0 else []),
        ]
    )


def replay_command(group: Group, wanted: Filter) -> str:
    """The command that replays just these. A reason is what somebody wrote into a status, so it is quoted for the shell."""
    of_source = "" if wanted.source is None else f" --source {quoted(wanted.source)}"
    return f"kubectl embeddings replay --reason {quoted(group.reason)}{of_source}"


def _failures(group: Group) -> str:
    return "Last failures: " + ", ".join(f"{number} {failure}" for failure, number in group.failures.most_common())


def as_data(group: Group) -> dict[str, Any]:
    newest = group.jobs[0].completed
    return {
        "reason": group.reason,
        "count": len(group.jobs),
        "sources": dict(group.sources.most_common()),
        "lastFailures": dict(group.failures.most_common()),
        "message": group.jobs[0].message,
        "remedy": group.remedy,
        "newest": timestamp(newest) if newest else None,
        "jobs": [job.name for job in group.jobs],
    }
