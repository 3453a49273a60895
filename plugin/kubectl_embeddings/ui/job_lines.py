"""What the page shows of dead letters and of open jobs: in groups, because there may be thousands. Pure; called by page_state.py.

The groups, the remedies and the commands of dead letters are those of `kubectl embeddings dead-letters`. The API server lists
jobs by their names: of a list that was cut, neither the numbers nor the newest and the oldest job are known.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kubectl_embeddings import runbook
from kubectl_embeddings.cluster import Json
from kubectl_embeddings.dead_letter_groups import NAMES_SHOWN, Filter, Group, grouped, replay_command
from kubectl_embeddings.layout import duration
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.views import Job, job_of


def dead_letters(
    bodies: Sequence[Json], commands: Commands, now: datetime, *, cut: bool = False
) -> list[dict[str, Any]]:
    """By namespace and reason, the largest group first. `cut`: there may be more, older and newer ones, of each."""
    groups = [(place, group) for place, jobs in _by_namespace(bodies).items() for group in grouped(jobs)]
    return [
        _group(place, one, commands, now, cut=cut)
        for place, one in sorted(groups, key=lambda found: -len(found[1].jobs))
    ]


def open_jobs(bodies: Sequence[Json], now: datetime, *, cut: bool = False) -> list[dict[str, Any]]:
    """By source, phase and what they wait for, the largest group first. `cut`: there may be more of each."""
    groups: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for place, jobs in _by_namespace(bodies).items():
        for job in jobs:
            groups[place, job.source, job.phase, job.reason].append(job)
    lines = [_waiting(key, jobs, now, cut=cut) for key, jobs in groups.items()]
    return sorted(lines, key=lambda line: (-line["count"], line["source"]))


def _by_namespace(bodies: Sequence[Json]) -> Mapping[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for body in bodies:
        found[body["metadata"].get("namespace", "")].append(job_of(body))
    return found


def _group(namespace: str, group: Group, commands: Commands, now: datetime, *, cut: bool) -> dict[str, Any]:
    newest = group.jobs[0]
    return {
        "key": f"{namespace}/{group.reason}",
        "namespace": namespace,
        "reason": group.reason,
        "count": len(group.jobs),
        "sources": [{"name": name, "count": count} for name, count in group.sources.most_common()],
        "atLeast": cut,
        "newest": duration(now - newest.completed) if newest.completed and not cut else "",
        "message": newest.message,
        "lastFailures": [{"name": name, "count": count} for name, count in group.failures.most_common()],
        "remedy": group.remedy,
        "rows": [{"id": job.id, "job": job.name} for job in group.jobs[:NAMES_SHOWN]],
        "command": commands.of(replay_command(group, Filter()), namespace),
        "runbook": runbook.section(runbook.DEAD_LETTERS),
    }


def _waiting(key: tuple[str, ...], jobs: Sequence[Job], now: datetime, *, cut: bool) -> dict[str, Any]:
    namespace, source, phase, reason = key
    created = [job.created for job in jobs if job.created]
    attempts = [job.next_attempt for job in jobs if job.next_attempt]
    return {
        "key": "/".join(key),
        "namespace": namespace,
        "source": source,
        "phase": phase,
        "reason": reason,
        "count": len(jobs),
        "atLeast": cut,
        "message": next((job.message for job in jobs if job.message), ""),
        "oldest": duration(now - min(created)) if created and not cut else "",
        "nextAttempt": duration(min(attempts) - now) if attempts and not cut else "",
    }
