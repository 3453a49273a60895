"""Every state of a source that its status can show, with the result that tools which wait for sources should report.

Called by the tests of kstatus (Helm 4, Flux) and of Argo CD's health check, so that both are tested with the same states.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from embedding_operator.lifecycle.backfill_status import BackfillFacts, Backlog
from embedding_operator.lifecycle.source_facts import Pending, SourceFacts
from embedding_operator.lifecycle.source_status import status
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts
from tests.support.manifests import Json, a_source, merged

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GENERATION = 3
REFUSED = ("TableMissing", "public.businesses does not exist: create it, or correct spec.table")
JOBS_REFUSED = ("JobsRefused", "the API server refuses to create jobs: exceeded quota")
UNREACHABLE = Problem("DatabaseUnavailable", "the database: connection refused")
PROBLEM = Problem("QuotaExhausted", "the quota of the day is used up")
PENDING = Pending("other@8#0123abcd", rows=90, tokens=30_000)
ALL_FRESH = Counts(total=100, due=0, due_without_dead_letter=False, oldest_due_since=None, estimated=False)
SOME_DUE = Counts(total=100, due=40, due_without_dead_letter=True, oldest_due_since=NOW, estimated=False)
MANY_BLANK = Counts(total=100, due=0, due_without_dead_letter=False, oldest_due_since=None, estimated=False, blank=60)
NONE_FRESH = Counts(total=100, due=100, due_without_dead_letter=False, oldest_due_since=NOW, estimated=False)
DEAD_LETTERS_ONLY = Counts(total=100, due=2, due_without_dead_letter=False, oldest_due_since=NOW, estimated=False)

BACKFILL = BackfillFacts(200_000, 50_000, 3, rows_per_s=800.0, workers=3, began_at=NOW)
NO_WORKERS = ("WorkersNotEnabled", "spec.backfill.workers is 3: set backfill.workers.enabled in the chart")

NEW = SourceFacts(GENERATION, "any@8")
SWEEPING = SourceFacts(GENERATION, "any@8", set_up=True, filled=True, counts=ALL_FRESH)
BEFORE = GENERATION - 1


@dataclass(frozen=True)
class State:
    """A state by its name, with the status of kstatus and the health of Argo CD that it should have."""

    name: str
    facts: SourceFacts | None
    """None: the operator has not processed the source, and its status is the default of the CRD."""
    kstatus: str
    health: str

    def source(self) -> Json:
        """The source as the API server returns it."""
        suspend = self.facts is not None and self.facts.suspended
        found = merged(a_source("any", suspend=suspend), {"metadata": {"generation": GENERATION}})
        found["status"] = {"observedGeneration": -1} if self.facts is None else shown(self.facts)
        return found


STATES = [
    State("not processed yet", None, "InProgress", "Progressing"),
    State("being set up", NEW, "InProgress", "Progressing"),
    State(
        "waiting for the database from the start", replace(NEW, waiting_for=UNREACHABLE), "InProgress", "Progressing"
    ),
    State("refused", replace(NEW, refused=REFUSED), "Failed", "Degraded"),
    State("a change refused, the previous spec in force", replace(SWEEPING, refused=REFUSED), "Failed", "Degraded"),
    State("its jobs refused", replace(SWEEPING, jobs_refused=JOBS_REFUSED, counts=SOME_DUE), "Failed", "Degraded"),
    State("first audit not complete", replace(SWEEPING, filled=False, counts=SOME_DUE), "Current", "Healthy"),
    State("backfill: rows due", replace(SWEEPING, counts=SOME_DUE), "Current", "Healthy"),
    State("backfilling", replace(SWEEPING, counts=SOME_DUE, backfill=BACKFILL), "Current", "Healthy"),
    State("a paused backfill", replace(SWEEPING, backfill=replace(BACKFILL, paused=True)), "Current", "Healthy"),
    State(
        "no pods to backfill", replace(SWEEPING, backfill=replace(BACKFILL, problem=NO_WORKERS)), "Current", "Healthy"
    ),
    State("backfilled", replace(SWEEPING, backfill=replace(BACKFILL, completed_at=NOW)), "Current", "Healthy"),
    State("a large backlog of jobs", replace(SWEEPING, backlog=Backlog(50_000, 40.0)), "Current", "Healthy"),
    State("sweeping, all fresh", SWEEPING, "Current", "Healthy"),
    State("fresh except for dead letters", replace(SWEEPING, counts=DEAD_LETTERS_ONLY), "Current", "Healthy"),
    State("no row fresh, each with a dead letter", replace(SWEEPING, counts=NONE_FRESH), "Current", "Healthy"),
    State("most texts empty", replace(SWEEPING, counts=MANY_BLANK), "Current", "Healthy"),
    State("calls succeed", replace(SWEEPING, provider_called=True), "Current", "Healthy"),
    State(
        "the database unreachable after the set-up", replace(SWEEPING, waiting_for=UNREACHABLE), "Current", "Healthy"
    ),
    State("the provider failing", replace(SWEEPING, provider_problem=PROBLEM), "Current", "Healthy"),
    State("a re-embedding waits for approval", replace(SWEEPING, pending=PENDING), "Current", "Healthy"),
    State("suspended", replace(SWEEPING, suspended=True), "Current", "Suspended"),
    State("suspended during the set-up", replace(NEW, suspended=True), "InProgress", "Progressing"),
    State("suspended and refused", replace(NEW, suspended=True, refused=REFUSED), "Failed", "Degraded"),
    State("ready, the spec changed afterwards", replace(SWEEPING, generation=BEFORE), "InProgress", "Progressing"),
    State(
        "refused, the spec corrected afterwards",
        replace(NEW, refused=REFUSED, generation=BEFORE),
        "InProgress",
        "Progressing",
    ),
]


def every_state() -> Iterator[State]:
    """Every combination of the facts that determine a status, with the intended results."""
    for refused, set_up, suspended, unreachable, filled, counts, problem, pending, generation in product(
        (None, REFUSED),
        (False, True),
        (False, True),
        (None, UNREACHABLE),
        (False, True),
        (None, SOME_DUE, DEAD_LETTERS_ONLY, NONE_FRESH, MANY_BLANK, ALL_FRESH),
        (None, PROBLEM),
        (None, PENDING),
        (BEFORE, GENERATION),
    ):
        facts = SourceFacts(
            generation,
            "any@8",
            set_up=set_up,
            refused=refused,
            suspended=suspended,
            waiting_for=unreachable,
            filled=filled,
            counts=counts,
            provider_problem=problem,
            pending=pending,
        )
        if generation != GENERATION:
            kstatus, health = "InProgress", "Progressing"
        elif refused:
            kstatus, health = "Failed", "Degraded"
        elif not set_up:
            kstatus, health = "InProgress", "Progressing"
        else:
            kstatus, health = "Current", "Suspended" if suspended else "Healthy"
        yield State(str(facts), facts, kstatus, health)


def shown(facts: SourceFacts) -> Json:
    """The status as the API server returns it: in a merge patch, null removes a field."""
    patch: dict[str, Any] = status(facts, {}, NOW)
    return merged({}, patch)
