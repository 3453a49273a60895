"""`kubectl embeddings explain SOURCE/ID`: what has become of a row, why it is not fresh, its place, and what somebody can do.

Called by app.py. Decides what to say; the leader of the operator is asked what it knows.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from embedding_operator.api_errors import ApiServerError
from embedding_operator.resources.base import parsed_timestamp
from kubectl_embeddings import runbook
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.explanation import Event, advice, events, in_order, place
from kubectl_embeddings.failures import DONE, CommandFailed, NotFound, WrongUse
from kubectl_embeddings.layout import Screen, document, duration, paragraph
from kubectl_embeddings.leader import ask_about_row
from kubectl_embeddings.shown_commands import quoted
from kubectl_embeddings.status import Attention
from kubectl_embeddings.views import Job, job_of

NO_COMMAND = frozenset(
    {"NextSweep", "WindowFull", "RowLocked", "RowsLocked", "NameTaken", "JobRefused", "TextFails", "SettingUp"}
)
"""Reasons that pass by themselves, or whose sentence says what to do."""
COMMANDS = {
    "Suspended": "resume {source}",
    "ApprovalNeeded": "approve {source}",
    "NotAudited": "reconcile {source} --wait",
    "ProviderUnavailable": "reconcile {source}",
    "ProviderThrottled": "reconcile {source}",
    "QuotaExhausted": "reconcile {source}",
    "DeadLetterLimit": "dead-letters --source {source}",
    "TooManyDeadLetters": "dead-letters --source {source}",
    "FewJobsAllowed": "dead-letters --source {source}",
    "TooManyJobs": "jobs --source {source} --id {id}",
}
"""What may be done about a reason: to look, to go on, or to have a pause end."""


async def explain_row(
    cluster: Requests, name: str, screen: Screen, *, operator_namespace: str | None, now: datetime
) -> int:
    """Raises NotFound for an unknown source or row, WrongUse, and CommandFailed where the operator cannot be asked."""
    source, _, row_id = name.partition("/")
    if not source or not row_id:
        raise WrongUse(f"{name!r} names no row: write SOURCE/ID")
    jobs = [job_of(body) for body in await cluster.jobs(source=source, id=row_id)]
    try:
        told = await ask_about_row(
            cluster, operator_namespace or cluster.namespace, f"{cluster.namespace}/{source}", row_id
        )
    except (CommandFailed, ApiServerError):
        if jobs and not screen.format:  # this much is known without the operator
            screen.emit(_told([f"row {row_id!r} of {source}"], _line_by_line(jobs, {}), screen.width))
        raise
    if screen.format:
        screen.emit(document(told, screen.format))
        return DONE
    row = told.get("row") or {}
    if row.get("state") == "NoSuchRow" and not jobs:
        raise NotFound(f"the table of source {source} has no row with the id {row_id}: correct the id")
    heading = f"row {row_id!r} of {source}: {state(told, now)}"
    found = [one.lines(screen.width, cluster.commands) for one in what_to_do(source, told, jobs, now)]
    screen.emit("\n".join([_told([heading], _line_by_line(jobs, told), screen.width), *found]))
    return DONE


def state(told: Json, now: datetime) -> str:
    """Whether it is fresh."""
    row = told.get("row")
    if row is None:
        return "not known, because it cannot be read now"
    match row["state"]:
        case "NoSuchRow":
            return "it does not exist any more"
        case "UpToDate" if row["blank"]:
            return "fresh: its text is empty, so it has no vector"
        case "UpToDate":
            return "fresh: it has the vector of its present text"
        case "NotMarked":
            return "not fresh, and not due yet"
    since = parsed_timestamp(row["dueSince"])
    for_long = f" for {duration(now - since)}" if since else ""
    return f"due{for_long}" + ("" if row["exists"] else ", and deleted meanwhile")


def _line_by_line(jobs: Sequence[Job], told: Json) -> list[str]:
    """What has happened to the row and to its jobs, the oldest first."""
    found: list[Event] = [(moment, f"{job.name}: {what}") for job in jobs for moment, what in events(job)]
    row: Mapping[str, Any] = told.get("row") or {}
    if embedded := parsed_timestamp(row.get("embeddedAt")):
        found.append((embedded, f"its vector was written ({row['model']})" if not row["blank"] else "it had no text"))
    if since := parsed_timestamp(row.get("dueSince")):
        found.append(
            (since, "edited, so it became due" if row["foundBy"] == "Edit" else "found by the audit, so it became due")
        )
    known = {moment for moment, _ in found}
    for one in told.get("lastOutcomes") or ():
        if (moment := parsed_timestamp(one["time"])) not in known:
            message = f": {one['message']}" if one["message"] else ""
            found.append((moment, f"{one['phase']} ({one['reason']}){message}"))
    return in_order(found)


def what_to_do(source: str, told: Json, jobs: Sequence[Job], now: datetime) -> list[Attention]:
    """Why it is not fresh, its place, and what somebody can do."""
    job = next((job for job in jobs if told.get("job") and job.name == told["job"]["name"]), None)
    found = [_reason(one, source, told["id"]) for one in told["why"]]
    found += [Attention(sentence) for sentence in place(told.get("queue"), told["why"], of_job=bool(told.get("job")))]
    if job is not None and (job.phase != "Pending" or not found):
        found.append(advice(job, now))
    return found or [Attention("Nothing is to be done")]


def _reason(one: Json, source: str, row_id: str) -> Attention:
    sentence = f"{one['reason']}: {one['message']}"
    if one["reason"] in NO_COMMAND:
        return Attention(sentence)
    if one["reason"] not in COMMANDS:  # `status` has the same sentence
        return Attention(sentence, more=runbook.about_row(one["reason"]))
    command = COMMANDS[one["reason"]].format(source=source, id=quoted(row_id))
    return Attention(sentence, f"kubectl embeddings {command}")


def _told(heading: list[str], lines: Sequence[str], width: int | None) -> str:
    return "\n".join([*heading, *(paragraph(line, width=width) for line in lines)])
