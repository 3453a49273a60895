"""`kubectl embeddings explain`: what has happened to a job, in the order of time, and what somebody can do about it.

Called by app.py. Decides what to say; the requests are those of cluster.py.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from embedding_operator.api_errors import RequestRefused
from embedding_operator.resources.embedding_job import OPEN, Phase
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.dead_letter_groups import remedy
from kubectl_embeddings.failures import DONE, NotFound
from kubectl_embeddings.layout import Screen, duration, objects, one_line, paragraph
from kubectl_embeddings.leader import NobodyLeads, NoOperatorHere, try_to_ask
from kubectl_embeddings.operator_presence import absence, pods_command, read_lease
from kubectl_embeddings.status import Attention, attention
from kubectl_embeddings.views import Job, job_of, source_of

GOES_ON = frozenset({"NextSweep", "WindowFull", "FewJobsAllowed", "Backfill", "ApprovalNeeded"})
"""Reasons with which other rows become fresh."""
Event = tuple[datetime | None, str]
ABOUT_TO_BEGIN = Attention("It is about to be worked on: nothing is to be done")
UNKNOWN = datetime.min.replace(tzinfo=UTC)


async def explain(
    cluster: Requests, name: str, screen: Screen, *, operator_namespace: str | None = None, now: datetime
) -> int:
    """Raises NotFound."""
    body = await cluster.job(name)
    if screen.format:
        screen.emit(objects("EmbeddingJob", [body], screen.format))
        return DONE
    job = job_of(body)
    found = [advice(job, now)]
    if job.phase in OPEN:
        found += await _of_source(cluster, job.source)
        found += await _of_operator(cluster, job, screen, operator_namespace or cluster.namespace, now)
    if len(found) > 1 and found[0] == ABOUT_TO_BEGIN:
        found.pop(0)  # what follows says what it waits for
    lines = [heading(job), *(paragraph(line, width=screen.width) for line in story(job))]
    screen.emit("\n".join([*lines, *(one.lines(screen.width, cluster.commands) for one in found)]))
    return DONE


def heading(job: Job) -> str:
    reason = f" ({one_line(job.reason)})" if job.reason else ""
    return f"{job.name}: row {job.id!r} of {one_line(job.source)}, {job.phase}{reason}"


def events(job: Job) -> list[Event]:
    """What has happened to it, and when."""
    found: list[Event] = [(job.created, "created, because the row was due")]
    found += [(moment, f"failed: {why}") for moment, why in job.failures]
    if job.completed is not None:
        found.append((job.completed, f"{job.phase}: {job.message}"))
    return found


def in_order(found: Sequence[Event]) -> list[str]:
    """A line for each, the oldest first."""
    return [f"{_clock(moment)}  {what}" for moment, what in sorted(found, key=lambda event: event[0] or UNKNOWN)]


def story(job: Job) -> list[str]:
    """What has happened, each with its time, the oldest first."""
    told = in_order(events(job))
    times = "once" if job.replays == 1 else f"{job.replays} times"
    return [*told, *([f"replayed {times}, so its attempts began again at 0"] if job.replays else [])]


def advice(job: Job, now: datetime) -> Attention:
    """What somebody can do."""
    replay = f"kubectl embeddings replay {job.name}"
    match job.phase:
        case Phase.DEAD_LETTERED:
            return Attention(f"To do: {remedy(job.reason)}", replay)
        case Phase.RETRYING:
            wait = f"in {duration(job.next_attempt - now)}" if job.next_attempt else "soon"
            why = f" ({job.message})" if job.message else ""
            return Attention(f"Attempt {job.attempts + 1} follows {wait}{why}; to have it now:", replay)
        case Phase.PENDING:
            return Attention(job.message) if job.message else ABOUT_TO_BEGIN
    return Attention("Its phase is final: nothing is to be done")


async def _of_source(cluster: Requests, name: str) -> list[Attention]:
    """What stops the job's source, or hinders it; nothing where the user may not read sources."""
    try:
        found = attention(source_of(await cluster.source(name)))
    except NotFound:
        return [Attention(f"Its source {name} does not exist any more: the operator deletes the job")]
    except RequestRefused:
        return []
    return [Attention(f"{name}: {one.sentence}", one.command) for one in found]


async def _of_operator(cluster: Requests, job: Job, screen: Screen, namespace: str, now: datetime) -> list[Attention]:
    """That no operator works on it; otherwise, how many jobs come before it, if the operator can be asked."""
    if absent := absence(await read_lease(cluster, namespace), now):
        return [Attention(f"{absent}: it waits until one does", pods_command(namespace))]
    if job.phase != Phase.PENDING:
        return []
    told = await try_to_ask(cluster, namespace, f"{cluster.namespace}/{job.source}", job.id)
    if isinstance(told, NobodyLeads | NoOperatorHere):
        return [Attention(f"It waits, and {told}")]
    if isinstance(told, Exception):
        screen.note(f"the job's place is not known: {told}")
        return [] if job.message else [Attention("It waits to be worked on")]
    return [Attention(sentence) for sentence in place(told.get("queue"), told["why"], of_job=True)]


def place(queue: Mapping[str, Any] | None, why: Sequence[Mapping[str, str]], *, of_job: bool) -> list[str]:
    """Its place and the estimated time, in a sentence; none where it has no place."""
    if queue is None:
        return []
    before, rate, left_s = queue["rowsBefore"], queue["rowsPerSecond"], queue["estimatedSeconds"]
    what = ("job" if of_job else "due row") + ("" if before == 1 else "s")
    number = f"{'at least ' if queue['atLeast'] else ''}{before or 'no'} {what} {'comes' if before == 1 else 'come'} before it"
    if left_s is None and any(one["reason"] not in GOES_ON for one in why):
        return [f"{number}, and {'waits' if before == 1 else 'wait'} too" if before else number]
    if left_s is None:
        return [f"{number}; how long that takes is not known, because none was done in the last minute"]
    about = "at least" if queue["atLeast"] else "about"
    return [f"{number}; its turn is in {about} {duration(timedelta(seconds=left_s))}, at {rate:g} a second"]


def _clock(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else "at an unknown time"
