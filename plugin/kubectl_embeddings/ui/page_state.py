"""The content of the page, as its script gets it in JSON. Pure; called by poll.py.

Each part says of what moment it is, and why there is nothing newer: the page never shows old data as new.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle.source_status import fresh_percent
from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings.layout import duration
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.status import no_operator
from kubectl_embeddings.ui.job_lines import dead_letters, open_jobs
from kubectl_embeddings.ui.observation import LIMIT, Observation, Part
from kubectl_embeddings.ui.source_lines import Level, Placed, line, said
from kubectl_embeddings.views import source_of

URGENT = (Level.STOPPED, Level.HINDERED, Level.INFO, Level.PAUSED, Level.WELL)


@dataclass(frozen=True)
class Place:
    """What the page is about."""

    server: str
    namespace: str
    """Empty: all."""
    commands: Commands


def placed(part: Part) -> dict[str, Placed]:
    """The sources by their keys."""
    found = [Placed(body["metadata"].get("namespace", ""), source_of(body)) for body in part.bodies]
    return {one.key: one for one in found}


def page_state(seen: Observation, place: Place, *, now: datetime) -> dict[str, Any]:
    """All but the curves."""
    lines = [line(one, place.commands, now) for one in placed(seen.sources).values()]
    return {
        "server": place.server,
        "namespace": place.namespace,
        "operators": _absent_operators(seen, place, now),
        "sources": freshness(seen.sources, now=now) | {"items": sorted(lines, key=_order), "totals": totals(seen, now)},
        "deadLetters": freshness(seen.dead_letters, now=now)
        | {"items": dead_letters(seen.dead_letters.bodies, place.commands, now, cut=seen.dead_letters.cut)},
        "openJobs": freshness(seen.pending, seen.retrying, now=now)
        | {"items": _open_jobs(seen.retrying, seen.pending, now=now)},
    }


def freshness(*parts: Part, now: datetime) -> dict[str, Any]:
    """Of what moment these lists are, how long ago that was, and what prevents newer ones; `cut` where there may be more."""
    moments = [part.at for part in parts]
    at = min((moment for moment in moments if moment is not None), default=None) if None not in moments else None
    return {
        "at": at.timestamp() if at else None,
        "ageSeconds": max(0.0, (now - at).total_seconds()) if at else None,
        "problem": next((part.problem for part in parts if part.problem), ""),
        "cut": LIMIT if any(part.cut for part in parts) else None,
    }


def _absent_operators(seen: Observation, place: Place, now: datetime) -> list[dict[str, str]]:
    """The namespaces in which none works, so that what is shown of their sources is old."""
    found = [(namespace, no_operator(lease, now)) for namespace, lease in seen.leases.items()]
    return [{"namespace": namespace} | said(one, namespace, place.commands) for namespace, one in found if one]


def _open_jobs(*parts: Part, now: datetime) -> list[dict[str, Any]]:
    found = [one for part in parts for one in open_jobs(part.bodies, now, cut=part.cut)]
    return sorted(found, key=lambda one: (-one["count"], one["source"]))


def totals(seen: Observation, now: datetime) -> dict[str, Any]:
    """Of all sources, of those that have been counted."""
    sources = [one.source for one in placed(seen.sources).values()]
    counted = [source.rows for source in sources if "total" in source.rows]
    total, due = _sum(counted, "total"), _sum(counted, "due")
    waiting = [moment for rows in counted if (moment := parsed_timestamp(rows.get("oldestDueSince"))) is not None]
    return {
        "freshPercent": fresh_percent(max(0, total - due), total) if counted else "",
        "total": total,
        "due": due,
        "oldestDue": duration(now - min(waiting)) if waiting else "",
        "deadLettered": _sum([source.jobs for source in sources], "deadLettered"),
        "open": _sum([source.jobs for source in sources], "open"),
    }


def _sum(bodies: Sequence[Mapping[str, Any]], name: str) -> int:
    return sum(body.get(name) or 0 for body in bodies)


def _order(found: Mapping[str, Any]) -> tuple[int, str]:
    return URGENT.index(found["level"]), found["key"]
