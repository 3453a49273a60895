"""`kubectl embeddings explain`: what has happened to a job, in the order of time, and what somebody can do about it.

Called by app.py. Decides what to say; the requests are those of cluster.py.
"""

from datetime import UTC, datetime

from embedding_operator.api_errors import RequestRefused
from embedding_operator.resources.embedding_job import OPEN, Phase
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.dead_letter_groups import remedy
from kubectl_embeddings.failures import DONE, NotFound
from kubectl_embeddings.layout import Screen, duration, paragraph
from kubectl_embeddings.status import Attention, attention
from kubectl_embeddings.views import Job, job_of, source_of

UNKNOWN = datetime.min.replace(tzinfo=UTC)


async def explain(cluster: Requests, name: str, screen: Screen, *, now: datetime) -> int:
    """Raises NotFound."""
    job = job_of(await cluster.job(name))
    found = [advice(job, now)]
    if job.phase in OPEN:
        found += await _of_source(cluster, job.source)
    lines = [heading(job), *(paragraph(line, width=screen.width) for line in story(job))]
    screen.emit("\n".join([*lines, *(one.lines(screen.width) for one in found)]))
    return DONE


def heading(job: Job) -> str:
    reason = f" ({job.reason})" if job.reason else ""
    return f"{job.name}: row {job.id!r} of {job.source}, {job.phase}{reason}"


def story(job: Job) -> list[str]:
    """What has happened, each with its time, the oldest first."""
    events = [(job.created, "created, because the row was due")]
    events += [(moment, f"failed: {why}") for moment, why in job.failures]
    if job.completed is not None:
        events.append((job.completed, f"{job.phase}: {job.message}"))
    told = [f"{_clock(moment)}  {what}" for moment, what in sorted(events, key=lambda event: event[0] or UNKNOWN)]
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
            return Attention(job.message or "It is about to be worked on: nothing is to be done")
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


def _clock(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else "at an unknown time"
