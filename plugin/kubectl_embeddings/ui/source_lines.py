"""What the page shows of each source, and what it says needs attention. Pure; called by page_state.py.

The sentences and their order are those of `kubectl embeddings status`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from embedding_operator.lifecycle.source_summary import HINDERED, STOPPED
from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings import runbook
from kubectl_embeddings.layout import duration
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.status import Attention, attention, late, overlooked, pressing
from kubectl_embeddings.views import Source

INFORMS = {"Backfilling", "Reconciling"}
"""Types of conditions that only say what is being done."""
NO_STATUS_YET = "NotProcessed"


class Level(StrEnum):
    """How urgent the word in the column STATUS is."""

    STOPPED = "stopped"
    HINDERED = "hindered"
    INFO = "info"
    PAUSED = "paused"
    WELL = "well"


@dataclass(frozen=True)
class Placed:
    """A source, where it is."""

    namespace: str
    source: Source

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.source.name}"


def line(placed: Placed, commands: Commands, now: datetime) -> dict[str, Any]:
    source = placed.source
    oldest = parsed_timestamp(source.rows.get("oldestDueSince"))
    return {
        "key": placed.key,
        "namespace": placed.namespace,
        "name": source.name,
        "table": source.table,
        "status": source.summary or NO_STATUS_YET,
        "level": level(source),
        "freshPercent": source.rows.get("freshPercent", ""),
        "total": source.rows.get("total"),
        "due": source.rows.get("due"),
        "blank": source.rows.get("blank"),
        "estimated": bool(source.rows.get("estimated")),
        "oldestDue": duration(now - oldest if oldest else None),
        "open": source.jobs.get("open"),
        "deadLettered": source.jobs.get("deadLettered"),
        "backfill": backfill(source.backfill, now),
        "attention": [said(one, placed.namespace, commands) for one in _attention(source, now)],
    }


def level(source: Source) -> Level:
    """That of the most pressing condition."""
    if not source.processed:
        return Level.STOPPED
    found = {one.type for one in pressing(source)}
    if found & {kind for kind, _ in STOPPED} - INFORMS:
        return Level.STOPPED
    if source.suspended:
        return Level.PAUSED
    if found & {kind for kind, _ in HINDERED} - INFORMS:
        return Level.HINDERED
    return Level.INFO if found else Level.WELL


def backfill(status: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
    """The rows of a backfill that runs; None where none does."""
    total, done, failed = (status.get(name) or 0 for name in ("total", "done", "failed"))
    if not total or status.get("completedAt"):
        return None
    completion = parsed_timestamp(status.get("estimatedCompletion"))
    return {
        "total": total,
        "done": done,
        "failed": failed,
        "percent": min(100, int((done + failed) * 100 / total)),
        "rowsPerSecond": status.get("rowsPerSecond") or "",
        "left": duration(completion - now) if completion else "",
    }


def _attention(source: Source, now: datetime) -> list[Attention]:
    """Without what the operator does by itself, and what the column STATUS says already."""
    found = [one for one in attention(source) if one.condition is None or one.condition.type != "Backfilling"]
    return found + overlooked(source, now) + late(source, now)


def said(one: Attention, namespace: str, commands: Commands) -> dict[str, str]:
    if one.condition is not None:
        more = runbook.about(one.condition)
    elif one.more:
        more = one.more
    elif "dead-letters" in one.command:
        more = runbook.section(runbook.DEAD_LETTERS)
    else:
        more = "" if one.command else runbook.section(runbook.LATE)
    return {"sentence": one.sentence, "command": commands.of(one.command, namespace), "runbook": more}
