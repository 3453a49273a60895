"""Decides what is to be done with a job whose handler is called: embed its row, begin a replay, or nothing. Pure.

Called by reconciler/job_runner.py. A pause that is not over never gets here: reconciler/pauses.py holds the job.
"""

from enum import Enum

from embedding_operator.resources.embedding_job import EmbeddingJob, Phase


class Step(Enum):
    EMBED = "Embed"
    """Bring the row up to date, now."""
    BEGIN_REPLAY = "BeginReplay"
    """The phase was patched back to Pending: reset the attempts first."""
    NOTHING = "Nothing"
    """The job is finished or a dead letter."""


def next_step(job: EmbeddingJob) -> Step:
    if not job.is_open:
        return Step.NOTHING
    has_history = job.status.attempts > 0 or job.status.completion_time is not None
    if job.status.phase is Phase.PENDING and has_history:
        return Step.BEGIN_REPLAY
    return Step.EMBED
