"""What the page shows of dead letters and of open jobs: in groups, because there may be thousands. Pure; called by page_state.py.

The groups, the remedies and the commands of dead letters are those of `kubectl embeddings dead-letters`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kubectl_embeddings.cluster import Json
from kubectl_embeddings.dead_letter_groups import NAMES_SHOWN, Filter, Group, grouped, replay_command
from kubectl_embeddings.layout import duration
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.ui import runbook
from kubectl_embeddings.views import Job, job_of


def dead_letters(bodies: Sequence[Json], commands: Commands, now: datetime) -> list[dict[str, Any]]:
    """By namespace and reason, the largest group first."""
    groups = [(place, group) for place, jobs in _by_namespace(bodies).items() for group in grouped(jobs)]
    return [_group(place, one, commands, now) for place, one in sorted(groups, key=lambda found: -len(found[1].jobs))]


def open_jobs(bodies: Sequence[Json], now: datetime) -> list[dict[str, Any]]:
    """By source, phase and what they wait for, the largest group first."""
    groups: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for place, jobs in _by_namespace(bodies).items():
        for job in jobs:
            groups[place, job.source, job.phase, job.reason].append(job)
    lines = [_waiting(key, jobs, now) for key, jobs in groups.items()]
    return sorted(lines, key=lambda line: (-line["count"], line["source"]))


def _by_namespace(bodies: Sequence[Json]) -> Mapping[str, list[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for body in bodies:
        found[body["metadata"].get("namespace", "")].append(job_of(body))
    return found


def _group(namespace: str, group: Group, commands: Commands, now: datetime) -> dict[str, Any]:
    newest = group.jobs[0]
    return {
        "key": f"{namespace}/{group.reason}",
        "namespace": namespace,
        "reason": group.reason,
        "count": len(group.jobs),
        "sources": [{"name": name, "count": count} for name, count in group.sources.most_common()],
        "newest": duration(now - newest.completed) if newest.completed else "",
        "message": newest.message,
        "lastFailures": [{"name": name, "count": count} for name, count in group.failures.most_common()],
        "remedy": group.remedy,
        "rows": [{"id": job.id, "job": job.name} for job in group.jobs[:NAMES_SHOWN]],
        "command": commands.of(replay_command(group, Filter()), namespace),
        "runbook": runbook.section(runbook.DEAD_LETTERS),
    }


def _waiting(key: tuple[str, ...], jobs: Sequence[Job], now: datetime) -> dict[str, Any]:
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
        "message": next((job.message for job in jobs if job.message), ""),
        "oldest": duration(now - min(created)) if created else "",
        "nextAttempt": duration(min(attempts) - now) if attempts else "",
    }
