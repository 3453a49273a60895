"""Makes the rows of one source wait while no call may be made, outside of all batches, and sends the probes meanwhile.

Rows wait here after Postponed, and nothing is held for them: no slot of the batcher and no place in the window. Run with the
batcher of the source, by the pipeline.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, LimitReached, TableRefused
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.meter import PATIENTLY_S, Meter
from embedding_worker.providers.problem import Problem
from embedding_worker.providers.pulse import BEAT_EVERY_S
from embedding_worker.providers.shared_embedder import SharedEmbedder

log = structlog.get_logger(__name__)

UNCOUNTED_PAUSE_S = 5.0
LIMIT_PAUSE_S = 60.0
"""How often it is tried whether the limits of the source allow a text again."""


class CallGate:
    def __init__(
        self, embedder: SharedEmbedder, meter: Meter, *, clock: Clock, may_work: Callable[[], bool] = lambda: True
    ) -> None:
        """`may_work`: whether this process may begin calls at all."""
        self._may_work = may_work
        self._embedder = embedder
        self._meter = meter
        self._clock = clock
        self._own_problem: Problem | None = None
        self._own_problem_ends = clock.now()
        self._not_before = float("-inf")
        self._is_limited = False
        """The rate limits have closed it: only the rows of one call are woken when it opens."""
        self._urgent: dict[asyncio.Event, None] = {}
        self._waiting: dict[asyncio.Event, None] = {}
        self._pausing: dict[asyncio.Event, None] = {}
        self._ended = False

    @property
    def problem(self) -> Problem | None:
        """Why no call is made, or has not succeeded since; None if nothing is known to prevent calls."""
        own = self._own_problem if self._clock.now() < self._own_problem_ends else None
        return own or self._embedder.problem

    @property
    def is_open(self) -> bool:
        return self._may_work() and self._embedder.may_call and self._may_send

    @property
    def was_limited(self) -> bool:
        """Whether a limit of the source was reached, and no call has succeeded since."""
        return self._own_problem is not None

    @property
    def has_reached_limit(self) -> bool:
        """Whether a limit of the source has closed it."""
        return self.was_limited and not self._may_send

    def refuse_if_closed(self) -> None:
        """Raises CallsPaused while no call may be made."""
        if not self._may_work():
            raise CallsPaused("this process may not begin calls at present")
        if not self.is_open:
            problem = self.problem
            raise CallsPaused(problem.message if problem is not None else "a limit of calls is reached")

    def close_for_limits(self, error: CallsPaused) -> None:
        """The rate limits allow no call now."""
        self._is_limited = True
        self._not_before = max(self._not_before, self._clock.monotonic() + error.pause_s)

    def close_until_limit_ends(self, error: LimitReached) -> None:
        """A limit of the source is reached."""
        self._own_problem = Problem(error.reason, error.message)
        self._own_problem_ends = _end_of(self._clock.now(), error) + timedelta(seconds=2 * LIMIT_PAUSE_S)
        self._not_before = self._clock.monotonic() + LIMIT_PAUSE_S

    def record_success(self) -> None:
        """A call has succeeded."""
        self._own_problem = None

    def retry_now(self) -> None:
        """A person asks to try again: no pause is waited for. A limit of the source or of the rate is looked at again."""
        self._not_before = float("-inf")
        self._embedder.retry_now()
        _wake(self._pausing)

    async def wait_until_open(self, woken: asyncio.Event, *, pause_s: float, urgent: bool = False) -> None:
        """Return when calls may be made, but not before `pause_s` has passed; or when the gate has ended, or `woken` is set.

        Urgent rows go first.
        """
        if pause_s > 0 and not self._ended:
            with _member(self._pausing, woken):
                await self._clock.wait_for(woken, within_s=pause_s)
        if not woken.is_set() and not self.is_open and not self._ended:
            with _member(self._urgent if urgent else self._waiting, woken):
                await woken.wait()

    async def run(self, *, probes: bool) -> None:
        """Until cancelled. Without `probes`, no call is made, because the source is suspended."""
        probe: asyncio.Task[None] | None = None
        try:
            while True:
                self._embedder.beat()
                if probes and (probe is None or probe.done()) and self._may_probe:
                    probe = asyncio.create_task(self._probe(), name="probe")
                if self.is_open:  # otherwise hundreds of rows would wake twice a second, for nothing
                    self._wake_some()
                opens_in_s = self._not_before - self._clock.monotonic()
                await self._clock.sleep(min(BEAT_EVERY_S, opens_in_s) if opens_in_s > 0 else BEAT_EVERY_S)
        finally:
            self._ended = True
            _wake([*self._urgent, *self._waiting, *self._pausing])
            if probe is not None:
                probe.cancel()

    def _wake_some(self) -> None:
        waiting = [woken for woken in (*self._urgent, *self._waiting) if not woken.is_set()]
        _wake(waiting[: self._embedder.max_texts] if self._is_limited else waiting)
        self._is_limited &= len(waiting) > self._embedder.max_texts

    @property
    def _may_probe(self) -> bool:
        return self._may_work() and self._may_send and self._embedder.may_probe

    @property
    def _may_send(self) -> bool:
        return self._clock.monotonic() >= self._not_before

    async def _probe(self) -> None:
        """Send a probe, unless another source does. It is counted first: a source that may send no text must not delay others."""
        try:
            counted = await self._meter.acquire([CANARY], longest_wait_s=PATIENTLY_S)
            if not self._embedder.begin_probe() or not await self._embedder.probe():
                await self._meter.give_back(counted)
        except LimitReached as exc:
            self.close_until_limit_ends(exc)
        except CallsPaused as exc:
            self.close_for_limits(exc)
        except TableRefused as exc:
            log.warning("probe not sent, because it cannot be counted", reason=exc.reason, message=exc.message)
            self._not_before = self._clock.monotonic() + UNCOUNTED_PAUSE_S


def _end_of(now: datetime, limit: LimitReached) -> datetime:
    """When the limit begins again at nothing: with the next day or the next month."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1) if limit.of_the_month else day + timedelta(days=1)


def _wake(waiting: Iterable[asyncio.Event]) -> None:
    for woken in waiting:
        woken.set()


@contextmanager
def _member(of: dict[asyncio.Event, None], woken: asyncio.Event) -> Iterator[None]:
    of[woken] = None
    try:
        yield
    finally:
        del of[woken]
