"""`kubectl embeddings status`: each source in a line, and below in sentences what needs attention, with the command that helps.

Called by app.py. Decides what to show; the requests are those of cluster.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from embedding_operator.lifecycle.condition import Condition
from embedding_operator.lifecycle.source_summary import HINDERED, STOPPED
from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings import runbook
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import DONE, NotFound
from kubectl_embeddings.layout import Screen, duration, objects, paragraph, parsed_duration, table
from kubectl_embeddings.operator_presence import absence, pods_command, read_lease
from kubectl_embeddings.shown_commands import BARE, Commands
from kubectl_embeddings.views import Source, source_of

HEADERS = ("SOURCE", "STATUS", "FRESH %", "DUE", "OLDEST", "OPEN", "DEAD")


@dataclass(frozen=True)
class Attention:
    """Something that somebody should know, and the command that helps, where there is one."""

    sentence: str
    command: str = ""
    condition: Condition | None = None
    """The condition that says it, where one does."""
    more: str = ""
    """The address of a section of the runbook. It is printed where there is no command."""

    def lines(self, width: int | None, commands: Commands) -> str:
        """The command has a line of its own, so that it can be copied."""
        sentence = paragraph(self.sentence, width=width)
        below = commands.of(self.command) or self.more
        return f"{sentence}\n    {below}" if below else sentence


NOT_PROCESSED = Attention(
    "no operator has looked at it yet: see whether one runs here",
    "kubectl get lease embedding-operator",
    more=runbook.section(runbook.NO_OPERATOR),
)
SEEN_WITHIN = timedelta(seconds=30)
"""An operator that works looks at a changed spec earlier."""


async def show_status(cluster: Requests, names: Sequence[str], screen: Screen, *, now: datetime) -> int:
    """Raises NotFound for a name that does not exist."""
    bodies = await found_sources(cluster, names)
    if screen.format:
        screen.emit(objects("EmbeddingSource", bodies, screen.format))
    elif bodies:
        first = no_operator(await read_lease(cluster, cluster.namespace), now)
        sources = [source_of(body) for body in bodies]
        screen.emit(status_text(sources, now=now, width=screen.width, first=first, commands=cluster.commands))
    else:
        screen.note(f"namespace {cluster.namespace} has no EmbeddingSource")
    return DONE


def no_operator(lease: Json | None, now: datetime) -> Attention | None:
    """That the numbers are old, because no operator works; None where one does, or where it is not known."""
    absent = absence(lease, now)
    if not absent:
        return None
    old = "are of then" if "since" in absent else "may be old"
    return Attention(f"{absent}: the numbers {old}", pods_command(), more=NOT_PROCESSED.more)


async def found_sources(cluster: Requests, names: Sequence[str]) -> list[Json]:
    """The sources of these names, in their order; all of the namespace where none is named."""
    bodies = {body["metadata"]["name"]: body for body in await cluster.sources()}
    if unknown := [name for name in names if name not in bodies]:
        known = ", ".join(sorted(bodies)) or "none"
        raise NotFound(f"namespace {cluster.namespace} has no EmbeddingSource {', '.join(unknown)}: there is {known}")
    return [bodies[name] for name in names or sorted(bodies)]


def status_text(
    sources: Sequence[Source],
    *,
    now: datetime,
    width: int | None,
    first: Attention | None = None,
    commands: Commands = BARE,
) -> str:
    """What is to be known first, the table, and what needs attention."""
    parts = [first.lines(width, commands)] if first else []
    parts += [table(HEADERS, [cells(source, now) for source in sources], width=width)]
    for source in sources:
        if found := [*attention(source), *overlooked(source, now), *late(source, now)]:
            parts.append("\n".join([source.name, *(one.lines(width, commands) for one in found)]))
    return "\n\n".join(parts)


def cells(source: Source, now: datetime) -> list[str]:
    """One line of the table."""
    oldest = parsed_timestamp(source.rows.get("oldestDueSince"))
    return [
        source.name,
        source.summary,
        str(source.rows.get("freshPercent", "")),
        str(source.rows.get("due", "")),
        duration(now - oldest if oldest else None),
        str(source.jobs.get("open", "")),
        str(source.jobs.get("deadLettered", "")),
    ]


def attention(source: Source) -> list[Attention]:
    """What somebody should know or do, the most pressing first."""
    if not source.processed:
        return [NOT_PROCESSED]
    found = [_of_condition(condition, source.name) for condition in pressing(source)]
    if source.suspended:
        found.insert(0, Attention("Suspended: edits are only recorded", f"kubectl embeddings resume {source.name}"))
    if dead := source.jobs.get("deadLettered"):
        noun = "dead letter" if dead == 1 else "dead letters"
        found.append(Attention(f"{dead} {noun}", f"kubectl embeddings dead-letters --source {source.name}"))
    return found


def late(source: Source, now: datetime) -> list[Attention]:
    """Whether its oldest due row waits for longer than the source may let it wait."""
    oldest = parsed_timestamp(source.rows.get("oldestDueSince"))
    if not source.freshness_target or oldest is None or now - oldest <= parsed_duration(source.freshness_target):
        return []
    return [
        Attention(
            f"the oldest due row waits {duration(now - oldest)}: spec.freshnessTarget is {source.freshness_target}"
        )
    ]


def overlooked(source: Source, now: datetime) -> list[Attention]:
    """Whether no operator has looked at its present spec, although there was time for it."""
    if not source.processed or source.changed is None or now - source.changed <= SEEN_WITHIN:
        return []
    sentence = f"its spec was changed {duration(now - source.changed)} ago, and no operator has looked at it yet"
    return [Attention(sentence, NOT_PROCESSED.command, more=NOT_PROCESSED.more)]


def pressing(source: Source) -> list[Condition]:
    """The conditions because of which rows do not become fresh, or that somebody should know, as the summary orders them.

    While a source is stopped, its condition Fresh says nothing more, and two conditions may have the same message.
    """
    stopped = _found(source, STOPPED)
    hindered = [one for one in _found(source, HINDERED) if one.type != "Fresh" or not stopped]
    return list({one.message: one for one in reversed([*stopped, *hindered])}.values())[::-1]


def _found(source: Source, wanted: Sequence[tuple[str, bool | None]]) -> list[Condition]:
    known = [(source.conditions.get(kind), status) for kind, status in wanted]
    return [condition for condition, status in known if condition is not None and condition.status is status]


def _of_condition(condition: Condition, source: str) -> Attention:
    command = f"kubectl embeddings approve {source}" if condition.type == "ReembedRequired" else ""
    return Attention(f"{condition.reason}: {condition.message}", command, condition)
