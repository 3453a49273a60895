"""Sources, jobs and an hour of curves for the page of `kubectl embeddings ui`, in memory. Called by the tests that look at it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from embedding_operator.resources.base import timestamp
from embedding_operator.resources.embedding_job import Phase
from kubectl_embeddings.cluster import Json
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.ui.page_state import Place
from kubectl_embeddings.ui.poll import Poll
from tests.support.fake_clock import FakeClock
from tests.support.fake_requests import FakeRequests, condition, source_body
from tests.support.jobs import job_body

SERVER = "https://kubernetes.example:6443"
AWAY = "the provider has answered 503 since 11:48: the next test text is sent at 12:00:30"
CONSTRAINT = "the write is refused by the constraint vector_is_short (CheckViolation)"
STEP_S = 20
HOUR = timedelta(hours=1)


class Stand(FakeRequests):
    """A namespace whose content a test replaces, and the page about it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.poll = Poll(self, Place(SERVER, self.namespace, Commands()), self.clock)
        self.failure: Exception | None = None
        """What is raised in place of each list."""
        self.failing_jobs: Exception | None = None
        self.lists = 0
        self.held: asyncio.Event | None = None
        """While it is there, sources are listed only after it is set."""

    def show(self, sources: Sequence[Json] = (), jobs: Sequence[Json] = ()) -> None:
        self._sources, self._jobs = ({body["metadata"]["name"]: body for body in bodies} for bodies in (sources, jobs))
        for body in (*sources, *jobs):
            body["metadata"]["namespace"] = self.namespace

    async def sources(self) -> list[Json]:
        self.lists += 1
        if self.held is not None:
            await self.held.wait()
        if self.failure is not None:
            raise self.failure
        return await super().sources()

    async def jobs(self, at_most: int | None = None, /, **fields: str) -> list[Json]:
        if (failure := self.failing_jobs or self.failure) is not None:
            raise failure
        return await super().jobs(at_most, **fields)


def counts(total: int, due: int, *, sent: int, blank: int = 0, **rows: Any) -> Json:
    """The parts of a status that the operator counts."""
    return {
        "rows": {"total": total, "due": due, "freshPercent": f"{(total - due) * 100 / total:.1f}", "blank": blank}
        | rows,
        "today": {"date": "2026-03-01", "texts": sent},
    }


def sources(now: datetime) -> list[Json]:
    """Of each level one: stopped, hindered, with a backfill, suspended, and well."""

    def ago(minutes: float) -> str:
        return timestamp(now - timedelta(minutes=minutes))

    provider = condition("ProviderReady", "False", "ProviderUnavailable", AWAY)
    approval = condition(
        "ReembedRequired", "True", "ApprovalNeeded", "2000 rows would be embedded again, for about 0.0300"
    )
    missing = "the role 'embeddings' may not read public.orders: GRANT SELECT ON public.orders TO embeddings"
    filling = condition("Backfilling", "True", "Backfilling", "2000000 rows are embedded page by page")
    backfill = {"total": 2_000_000, "done": 1_234_567, "failed": 12, "rowsPerSecond": "412.0"}
    return [
        source_body(
            "businesses",
            status=counts(33_512, 302, sent=4100, blank=41, oldestDueSince=ago(3))
            | {"summary": "Sweeping", "jobs": {"open": 50, "deadLettered": 9}},
        ),
        source_body(
            "photos",
            table="public.photos",
            status=counts(2000, 1180, sent=820, oldestDueSince=ago(12))
            | {
                "summary": "ProviderUnavailable",
                "jobs": {"open": 50, "deadLettered": 0},
                "conditions": [provider, approval],
            },
        ),
        source_body(
            "orders",
            table="public.orders",
            status={
                "summary": "RightsMissing",
                "jobs": {"open": 0, "deadLettered": 0},
                "conditions": [condition("Stalled", "True", "RightsMissing", missing)],
            },
        ),
        source_body(
            "reviews",
            table="public.reviews",
            status=counts(2_000_000, 765_421, sent=embedded_reviews(1), estimated=True, oldestDueSince=ago(50))
            | {
                "summary": "Backfilling",
                "jobs": {"open": 12, "deadLettered": 12},
                "backfill": backfill | {"estimatedCompletion": timestamp(now + timedelta(minutes=31))},
                "conditions": [filling],
            },
        ),
        source_body(
            "archive",
            table="public.archive",
            suspend=True,
            status=counts(880, 0, sent=0) | {"summary": "Suspended", "jobs": {"open": 0, "deadLettered": 0}},
        ),
        source_body(
            "shops",
            table="public.shops",
            status=counts(335, 0, sent=335) | {"summary": "Fresh", "jobs": {"open": 0, "deadLettered": 0}},
        ),
    ]


def embedded_reviews(passed: float) -> int:
    """The rows of reviews that were embedded when this part of the hour had passed, at a rate that is not always the same."""
    return int(1_234_579 * (0.4 + 0.6 * passed + 0.006 * math.sin(19 * passed) + 0.002 * math.sin(71 * passed)))


def jobs(now: datetime) -> list[Json]:
    def ended(minutes: int) -> Mapping[str, Any]:
        return {"completionTime": timestamp(now - timedelta(minutes=minutes))}

    failed = f"failed 6 times; the last failure: {CONSTRAINT} (RowsRefused)"
    history = [{"time": timestamp(now - timedelta(minutes=5)), "reason": "RowsRefused", "code": "23514"}]
    dead = [
        job_body(
            str(17 + 6 * number),
            Phase.DEAD_LETTERED,
            source="businesses",
            attempts=6,
            reason="RetriesExhausted",
            message=failed,
            history=history,
            **ended(5 + number),
        )
        for number in range(9)
    ]
    refused = "the provider refuses what was sent (400)"
    dead += [
        job_body(
            f"r-{4000 + number}",
            Phase.DEAD_LETTERED,
            source="reviews",
            attempts=1,
            reason="InputRejected",
            message=refused,
            **ended(20),
        )
        for number in range(12)
    ]
    retrying = [
        job_body(
            str(800 + number),
            Phase.RETRYING,
            source="businesses",
            attempts=2,
            reason="RowsRefused",
            message=CONSTRAINT,
            nextAttemptTime=timestamp(now + timedelta(seconds=4)),
        )
        for number in range(3)
    ]
    pending = [
        job_body(f"p{number}", Phase.PENDING, source="photos", reason="ProviderUnavailable", message=AWAY)
        for number in range(50)
    ]
    return [*dead, *retrying, *pending]


async def an_hour_later() -> Stand:
    """The page was open for an hour, in which photos fell behind and reviews was filled."""
    stand, steps = Stand(), int(HOUR.total_seconds()) // STEP_S
    stand.show(sources(stand.clock.now()))
    for step in range(steps):
        passed = step / steps
        peak = int(900 * max(0.0, 0.5 - abs(passed - 0.45)))
        behind = int(1180 * max(0.0, passed * 5 - 4))
        embedded = embedded_reviews(passed)
        stand.change("businesses", {"status": counts(33_512, 302 + peak, sent=3000 + int(1100 * passed))})
        stand.change("photos", {"status": counts(2000, behind, sent=820)})
        stand.change("reviews", {"status": counts(2_000_000, 2_000_000 - embedded, sent=embedded)})
        await stand.poll.state()
        await stand.clock.advance(STEP_S)
    stand.show(sources(stand.clock.now()), jobs(stand.clock.now()))
    await stand.poll.state()
    return stand
