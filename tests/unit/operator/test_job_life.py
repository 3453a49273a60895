"""Whole lives of a job, in any order of events: what follows a failure is right at every moment, and every life has an end.

Hypothesis chooses the retry policy and the steps: outcomes of all kinds, processes that are killed before or after their patch is
applied, answers that are lost, events that are out of date, a clock that is set, and people who replay.
"""

import copy
import itertools
from datetime import datetime
from enum import Enum

import pytest
from hypothesis import Phase as Phases
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embedding_operator.lifecycle.job_status import settled
from embedding_operator.lifecycle.next_step import Step
from embedding_operator.lifecycle.retry_policy import JITTER
from embedding_operator.reconciler.orphans import PATIENCE_S, orphaned
from embedding_operator.resources.embedding_job import FINISHED, OPEN, Phase
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import OutcomeKind, RowOutcome
from tests.support.job_life import ALLOWED, JOB, JumpingClock, OperatorProcess, StoredJob
from tests.support.manifests import Json, merged

ANY_ORDER = settings(
    max_examples=100,
    stateful_step_count=40,
    phases=[Phases.generate],  # finding a shorter example would take minutes
    derandomize=True,
    database=None,
    deadline=None,
)
CLOCK_ERROR_S = 0.002
"""Times in a status are cut to the millisecond."""
LOCKED_PAUSES_S = (15.0, 60.0)
HOUR_S = 3_600.0

CALLS_OR_FAILURES = {
    OutcomeKind.EMBEDDED,
    OutcomeKind.FAILED,
    OutcomeKind.INPUT_REJECTED,
    OutcomeKind.TEXT_EXPRESSION_FAILED,
    OutcomeKind.UPDATE_SUPPRESSED,
}
"""What counts as an attempt, according to docs/design.md."""


class Fate(Enum):
    """What happens to a patch of the status."""

    ACCEPTED = "Accepted"
    ANSWER_LOST = "AnswerLost"
    """It is applied, no answer comes, and the same patch is sent again."""
    KILLED_BEFORE = "KilledBefore"
    KILLED_AFTER = "KilledAfter"
    REPLAYED_MEANWHILE = "ReplayedMeanwhile"
    """A person patches the phase to Pending while the row is worked on."""


@st.composite
def policies(draw: st.DrawFn) -> RetrySpec:
    """Any policy that the CRD accepts."""
    initial_s = draw(st.integers(1, 3_600))
    longest_s = draw(st.just(initial_s) | st.integers(initial_s, 86_400))
    factor = draw(st.integers(1, 10))
    attempts = draw(st.integers(1, 20))
    return RetrySpec(max_attempts=attempts, initial_seconds=initial_s, factor=factor, max_seconds=longest_s)


def an_outcome(kind: OutcomeKind, retry_after_s: float | None = None) -> RowOutcome:
    return RowOutcome(kind, kind.value, "what happened", retry_after_s=retry_after_s)


PAUSES = st.none() | st.floats(*LOCKED_PAUSES_S)
KINDS = st.sampled_from(OutcomeKind) | st.just(OutcomeKind.FAILED)
OUTCOMES = st.builds(an_outcome, KINDS, PAUSES)
FATES = st.just(Fate.ACCEPTED) | st.sampled_from(Fate)
JITTERS = st.floats(0, 1)


def scheduled_pause_s(policy: RetrySpec, attempts: int) -> int:
    """The pause after so many attempts, as docs/design.md has it, in whole numbers."""
    pause = policy.initial_seconds
    for _ in range(attempts - 1):
        pause = min(pause * policy.factor, policy.max_seconds)
    return pause


class JobLife(RuleBasedStateMachine):
    """One job of one source, and the operator's processes one after the other."""

    @initialize(policy=policies())
    def begin(self, policy: RetrySpec) -> None:
        self.policy = policy
        self.clock = JumpingClock()
        self.stored = StoredJob()
        self.earlier = copy.deepcopy(self.stored.body)
        self.counted = 0
        """Attempts since the last replay, as the machine counts them."""
        self.replay_asked = False
        """A person has patched the phase of a job with a history, and no status of the operator has followed yet."""
        self._start_process()
        self._no_pause()

    def _start_process(self) -> None:
        self.process = OperatorProcess(self.policy, self.clock)
        self.shown: Json = {}
        """The job as its last event in this process has shown it."""

    def _no_pause(self) -> None:
        self.pause_s, self.paused_at, self.jumped_s = 0.0, self.clock.monotonic(), 0.0

    # What happens to the job

    @precondition(lambda self: self.stored.phase in OPEN)
    @rule(outcome=OUTCOMES, fate=FATES, jitter=JITTERS)
    def kopf_handles_an_event(self, outcome: RowOutcome, fate: Fate, jitter: float) -> None:
        """The handler takes the job's next step, unless the job is in its pause."""
        self.shown = copy.deepcopy(self.stored.body)
        self._handle(self.stored.body, outcome, fate, jitter)

    @precondition(lambda self: self.stored.phase in OPEN)
    @rule(outcome=OUTCOMES, fate=FATES, jitter=JITTERS)
    def the_pause_is_waited_for(self, outcome: RowOutcome, fate: Fate, jitter: float) -> None:
        """The job is touched once, at the end."""
        self._wait()
        self.kopf_handles_an_event(outcome, fate, jitter)

    @rule()
    def jobs_are_touched(self) -> None:
        for _ in self.process.pauses.due():
            self.stored.touch()

    @rule(seconds=st.floats(0, 2 * HOUR_S))
    def time_passes(self, seconds: float) -> None:
        self.clock.spend(seconds)

    @rule(seconds=st.floats(-48 * HOUR_S, 48 * HOUR_S))
    def the_clock_is_set(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.jumped_s += seconds

    @rule()
    def the_process_is_killed(self) -> None:
        self._start_process()

    @precondition(lambda self: self.stored.phase not in FINISHED)
    @rule()
    def a_person_replays(self) -> None:
        assert self.stored.patch({"phase": Phase.PENDING})
        self.replay_asked = bool(self.stored.status["attempts"] or self.stored.status.get("completionTime"))
        self._no_pause()

    @rule(outcome=OUTCOMES, jitter=JITTERS)
    def an_event_is_out_of_date(self, outcome: RowOutcome, jitter: float) -> None:
        """The process that has sent the newer status ignores it. A new process may be called with it."""
        known = self.process.table.get(JOB)
        knows_newer = known is not None and known.version > int(self.earlier["metadata"]["resourceVersion"])
        before = copy.deepcopy(self.stored.status)
        if self.earlier["status"]["phase"] in OPEN:
            self._handle(self.earlier, outcome, Fate.ACCEPTED, jitter)
        assert self.stored.status == before or not knows_newer

    def _handle(self, body: Json, outcome: RowOutcome, fate: Fate, jitter: float) -> None:
        is_current = body == self.stored.body
        job, step = self.process.begin(body)
        if step is Step.NOTHING:
            return
        if is_current:
            self._assert_pause_is_over()
            assert (step is Step.BEGIN_REPLAY) == self.replay_asked
        if fate is Fate.REPLAYED_MEANWHILE:
            self.a_person_replays()
        patch = self.process.decide(job, step, outcome, jitter=jitter)
        if fate is Fate.KILLED_BEFORE:
            self._start_process()
            return
        self.earlier = copy.deepcopy(self.stored.body)
        accepted = self._send(patch.status, must_be_accepted=is_current)
        if accepted:
            self._count(job.status.attempts, step, outcome)
            self._begin_pause(patch.status, outcome, jitter)
        if fate is Fate.ANSWER_LOST:
            self._send_again(patch.status)
        if fate is Fate.KILLED_AFTER:
            self._start_process()
        else:
            self.process.move_on(self.stored, patch, accepted=accepted)

    def _send(self, status: Json, *, must_be_accepted: bool) -> bool:
        before = copy.deepcopy(self.stored.status)
        accepted = self.stored.patch(status)
        assert accepted or not must_be_accepted, (before, status)
        assert accepted or self.stored.status == before
        return accepted

    def _send_again(self, status: Json) -> None:
        once = copy.deepcopy(self.stored.body)
        self.stored.patch(status)
        assert self.stored.body == once

    def _count(self, attempts_read: int, step: Step, outcome: RowOutcome) -> None:
        self.replay_asked = False
        self.counted = 0 if step is Step.BEGIN_REPLAY else attempts_read + (outcome.kind in CALLS_OR_FAILURES)

    def _begin_pause(self, status: Json, outcome: RowOutcome, jitter: float) -> None:
        self._no_pause()
        if status["phase"] != Phase.RETRYING:
            return
        if outcome.kind is OutcomeKind.ROW_LOCKED:
            scheduled_s = outcome.retry_after_s or LOCKED_PAUSES_S[0]
        else:
            scheduled_s = scheduled_pause_s(self.policy, status["attempts"])
        self.pause_s = (datetime.fromisoformat(status["nextAttemptTime"]) - self.clock.now()).total_seconds()
        assert scheduled_s - CLOCK_ERROR_S <= self.pause_s <= scheduled_s * (1 + JITTER * jitter) + CLOCK_ERROR_S

    def _wait(self) -> None:
        """An event of the job comes, and time passes until the process touches it, so that the handler may run.

        No job waits longer than its source's longest pause, and none is touched before its time.
        """
        pauses = self.process.pauses
        if not pauses.holds(self.stored.job):
            return
        assert pauses.due() == []
        waits_s = pauses.remaining_s(self.stored.job)
        assert waits_s <= self.process.catalog.longest_pause_s("shops", self.stored.job.status.reason or "")
        self.clock.spend(waits_s + CLOCK_ERROR_S)
        assert pauses.due() == [JOB]
        self.stored.touch()
        assert not pauses.holds(self.stored.job)
        assert pauses.due() == []

    def _assert_pause_is_over(self) -> None:
        """The handler is called before the end of a pause only if the clock was set forward meanwhile."""
        passed_s = self.clock.monotonic() - self.paused_at
        assert passed_s + max(self.jumped_s, 0.0) >= self.pause_s - CLOCK_ERROR_S

    # What is true after every step

    @invariant()
    def attempts_are_counted_once_and_never_exceed_the_limit(self) -> None:
        assert self.stored.status["attempts"] == self.counted
        assert self.stored.status["attempts"] <= self.policy.max_attempts

    @invariant()
    def only_transitions_of_the_crd_have_happened(self) -> None:
        phases = self.stored.phases
        assert all(after in ALLOWED[before] for before, after in itertools.pairwise(phases))

    @invariant()
    def a_dead_letter_says_why_and_since_when(self) -> None:
        status = self.stored.status
        if status["phase"] == Phase.DEAD_LETTERED:
            assert status["reason"]
            assert status["completionTime"]
            assert status["history"]
            assert status["conditions"][0]["status"] == "False"
            assert status["reason"] != "RetriesExhausted" or status["attempts"] == self.policy.max_attempts

    @invariant()
    def a_job_that_was_shown_in_its_pause_is_touched_when_it_is_over(self) -> None:
        if self.shown == self.stored.body and self.stored.phase is Phase.RETRYING:
            is_over = self.process.pauses.remaining_s(self.stored.job) <= 0
            assert self.process.pauses.due() == ([JOB] if is_over else [])

    @invariant()
    def no_job_is_orphaned_in_its_pause(self) -> None:
        left_s = self.pause_s - (self.clock.monotonic() - self.paused_at) - max(self.jumped_s, 0.0)
        found = orphaned(
            self.process.table.jobs(),
            monotonic=self.clock.monotonic(),
            now=self.clock.now(),
            longest_pause_s=self.process.catalog.longest_pause_s,
        )
        assert not (found and self.stored.phase is Phase.RETRYING and left_s > -PATIENCE_S + CLOCK_ERROR_S)

    def teardown(self) -> None:
        """From here on, every outcome that stays the same leads to its end."""
        if not hasattr(self, "stored"):
            return
        before, asked = copy.deepcopy(self.stored), self.replay_asked
        ends = {
            OutcomeKind.EMBEDDED: Phase.SUCCEEDED,
            OutcomeKind.TEXT_CHANGED: Phase.SUPERSEDED,
            OutcomeKind.FAILED: Phase.DEAD_LETTERED,
        }
        for kind, end in ends.items():
            self.stored, self.replay_asked = copy.deepcopy(before), asked
            self._start_process()
            for _ in range(self.policy.max_attempts + 1):  # one step begins a replay
                if self.stored.phase in OPEN:
                    self._wait()
                    self._handle(self.stored.body, an_outcome(kind), Fate.ACCEPTED, 0.5)
            assert self.stored.phase == (end if before.phase in OPEN else before.phase)


def test_in_any_order_of_events_attempts_stay_within_their_limit_pauses_are_kept_and_every_job_has_an_end() -> None:
    run_state_machine_as_test(JobLife, settings=ANY_ORDER)


@pytest.mark.parametrize("kind", OutcomeKind, ids=lambda kind: kind.value)
@pytest.mark.parametrize("retry_after_s", [None, 30.0])
@pytest.mark.parametrize("attempts", [0, 1])
def test_a_patch_that_is_applied_twice_has_the_effect_of_one(
    kind: OutcomeKind, retry_after_s: float | None, attempts: int
) -> None:
    clock, stored = JumpingClock(), StoredJob()
    stored.patch({"attempts": attempts})
    now = clock.now()
    outcome, policy = an_outcome(kind, retry_after_s), RetrySpec(max_attempts=2)
    patch = settled(outcome, stored.job, policy=policy, started=now, now=now, jitter=0).status
    once = merged(stored.status, patch)
    assert merged(once, patch) == once
    assert once["attempts"] <= policy.max_attempts
