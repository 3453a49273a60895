"""Knows of which sources the API server refuses the statuses of jobs, for example by a policy. Pure; owned by the job table.

One job whose status is refused waits alone. If several are refused and none is accepted, the source is stalled: it gets no new
job, and one job at a time shows whether the cause is removed. All moments are of the monotonic clock, in seconds.
"""

import math
from dataclasses import dataclass, field

SEVERAL = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 30.0, 600.0
LOG_EVERY_S = 60.0
MAX_MESSAGE = 1_000


def pause_s(refusals: int) -> float:
    """How long a job waits after so many refusals of its status (1 or more)."""
    return min(FIRST_PAUSE_S * 2.0 ** min(refusals - 1, 10), LONGEST_PAUSE_S)


@dataclass
class _Source:
    message: str = ""
    jobs: set[str] = field(default_factory=set)
    """Jobs whose status was refused since one was accepted."""
    probes: int = 0
    probe_at: float = -math.inf
    logged_at: float = -math.inf


class RefusedStatuses:
    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def shared(self, source: str) -> tuple[str, str] | None:
        """Reason and message where someone must act before the statuses of this source's jobs can be written."""
        known = self._sources.get(source)
        if known is None or len(known.jobs) < SEVERAL:
            return None
        return (
            "StatusRefused",
            f"the API server refuses to write the status of jobs: change the policy, webhook or right that its message "
            f"names: {known.message}",
        )

    def record(self, source: str, job: str, message: str, now: float) -> bool:
        """The status of this job was refused. Returns whether it is time to log it."""
        known = self._sources.setdefault(source, _Source())
        known.message = known.message or message.replace(job, "…")[:MAX_MESSAGE]
        if len(known.jobs) < SEVERAL:
            known.jobs.add(job)
        if self.shared(source) is not None:
            known.probes += 1
            known.probe_at = now + pause_s(known.probes)
        if now - known.logged_at < LOG_EVERY_S:
            return False
        known.logged_at = now
        return True

    def record_accepted(self, source: str) -> bool:
        """A status was accepted. Returns whether the source was stalled until now."""
        ended = self.shared(source) is not None
        if (known := self._sources.get(source)) is not None:
            self._sources[source] = _Source(logged_at=known.logged_at)
        return ended

    def wait_until(self, source: str, now: float) -> float | None:
        """None if a job of this source may run now, which makes it the probe of a stalled source; else when to try again."""
        if self.shared(source) is None:
            return None
        known = self._sources[source]
        if now < known.probe_at:
            return known.probe_at
        known.probe_at = now + pause_s(max(known.probes, 1))
        return None

    def forget(self, source: str) -> None:
        """The source was deleted."""
        self._sources.pop(source, None)
