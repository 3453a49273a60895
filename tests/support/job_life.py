"""One job as the API server stores it, and a process of the operator that works on it: for tests of whole lives of jobs.

The process decides by the real modules: next step, status, retry policy, job table, and which jobs are in their pause. The API
server accepts the transitions that tests/integration/api_server/test_embedding_job_crd.py sees a real one accept.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import cast

from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.job_status import JobPatch, replay_begun, settled
from embedding_operator.lifecycle.next_step import Step, next_step
from embedding_operator.reconciler.catalog import SourceCatalog
from embedding_operator.reconciler.pauses import Pauses
from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parse_job
from embedding_operator.resources.embedding_source import RetrySpec, parse_source
from embedding_worker.outcome import RowOutcome
from tests.support.fake_clock import FakeClock
from tests.support.jobs import Register, job_body, name_of
from tests.support.manifests import Json, a_source, merged

ALLOWED = {
    Phase.PENDING: set(Phase),
    Phase.RETRYING: set(Phase),
    Phase.SUCCEEDED: {Phase.SUCCEEDED},
    Phase.SUPERSEDED: {Phase.SUPERSEDED},
    Phase.DEAD_LETTERED: {Phase.DEAD_LETTERED, Phase.PENDING, Phase.SUPERSEDED},
}
"""The transitions of a phase that the rules of crds/embeddingjobs.yaml allow."""
JOB = name_of("1")


class JumpingClock(FakeClock):
    """Time passes at once, and somebody sets the machine's clock."""

    def spend(self, seconds: float) -> None:
        self._elapsed_s += seconds

    def jump(self, seconds: float) -> None:
        """Set the clock. Durations are measured by `monotonic`, which does not notice."""
        self._start += timedelta(seconds=seconds)


@dataclass
class StoredJob:
    """The job, its resource version, and each phase that it had."""

    body: Json = field(default_factory=lambda: job_body("1", Phase.PENDING, version=1, attempts=0))
    phases: list[Phase] = field(default_factory=lambda: [Phase.PENDING])

    @property
    def job(self) -> EmbeddingJob:
        return parse_job(self.body)

    @property
    def status(self) -> Json:
        status: Json = self.body["status"]
        return status

    @property
    def phase(self) -> Phase:
        return Phase(self.status["phase"])

    def patch(self, status: Json) -> bool:
        """Apply a merge patch of the status. Returns False where the rules of the CRD refuse it."""
        after = merged(self.status, status)
        if Phase(after["phase"]) not in ALLOWED[self.phase]:
            return False
        if after != self.status:
            self.touch()
        self.body = self.body | {"status": after}
        self.phases.append(self.phase)
        return True

    def touch(self) -> None:
        version = str(int(self.body["metadata"]["resourceVersion"]) + 1)
        self.body = merged(self.body, {"metadata": {"resourceVersion": version}})


class OperatorProcess:
    """A process of the operator from its start on: a new one knows nothing of what an earlier one has seen."""

    def __init__(self, policy: RetrySpec, clock: JumpingClock) -> None:
        self.policy = policy
        self._clock = clock
        self.table = Register(clock=clock).table
        self.catalog = SourceCatalog()
        self.catalog.put(parse_source(a_source("shops", retry=policy.model_dump(by_alias=True))))
        self.pauses = Pauses(cast(ApiServer, None), self.table, self.catalog, clock=clock)

    def begin(self, body: Json) -> tuple[EmbeddingJob, Step]:
        """The handler is called with this version of the job. NOTHING in its pause, and where the table knows a newer one."""
        job = parse_job(body)
        if self.pauses.holds(job) or not self.table.observe(job):
            return job, Step.NOTHING
        step = next_step(job)
        if step is Step.EMBED:
            self.table.start(job.name)
        return job, step

    def decide(self, job: EmbeddingJob, step: Step, outcome: RowOutcome, *, jitter: float) -> JobPatch:
        """The patch of the job's next step."""
        self.table.settle(job.name)
        now = self._clock.now()
        if step is Step.BEGIN_REPLAY:
            return replay_begun(job, now)
        return settled(outcome, job, policy=self.policy, started=now, now=now, jitter=jitter)

    def move_on(self, stored: StoredJob, patch: JobPatch, *, accepted: bool) -> None:
        """What the job runner does with the answer: accepted, or refused and read again."""
        version = stored.job.metadata.version
        match patch.phase if accepted else None:
            case None:
                self.table.accept(stored.job)
            case Phase.RETRYING:
                not_before = datetime.fromisoformat(patch.status["nextAttemptTime"])
                self.table.back_off(JOB, not_before, version, reason=patch.status["reason"])
            case Phase.DEAD_LETTERED:
                self.table.mark_dead_letter(JOB, version)
            case Phase.PENDING:
                self.table.requeue(JOB, version)
            case _:
                self.table.finish(JOB, version)
