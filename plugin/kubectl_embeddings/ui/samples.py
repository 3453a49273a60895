"""The curves of the page: freshness, due rows and texts sent, since the page was opened. In memory, and bounded to an hour. Pure.

Filled by poll.py after each look; page_state.py asks for the curves of one source or of all.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embedding_operator.lifecycle.source_status import fresh_percent
from kubectl_embeddings.views import Source

KEPT_S = 3600.0
MOST_SAMPLES = 720
"""An hour at one in five seconds."""
GAP_S = 90.0
"""Between samples further apart nobody looked, so no line connects them. A hidden tab looks once a minute."""
RATE_OVER_S = 60.0
RATE_AFTER_S = 15.0
"""The operator writes counts every ten seconds, so over a shorter time a rate would be noise."""


@dataclass(frozen=True)
class Measured:
    total: int
    fresh: int
    due: int
    day: str
    texts: int
    """Texts that were sent to the provider on this day."""


@dataclass(frozen=True)
class Sample:
    at: float
    """Seconds since the epoch."""
    sources: Mapping[str, Measured]
    sent: Mapping[str, int]
    """By source, the texts that were sent since the first sample."""


class Samples:
    def __init__(self) -> None:
        self._kept: deque[Sample] = deque(maxlen=MOST_SAMPLES)

    def add(self, at: datetime, sources: Mapping[str, Source]) -> None:
        measured = {key: found for key, source in sources.items() if (found := measurement(source)) is not None}
        before = self._kept[-1] if self._kept else None
        sent = dict(before.sent) if before else {}
        for key, one in measured.items():
            sent[key] = sent.get(key, 0) + newly_sent(before.sources.get(key) if before else None, one)
        self._kept.append(Sample(at.timestamp(), measured, {key: sent[key] for key in measured}))
        while self._kept[0].at < at.timestamp() - KEPT_S:
            self._kept.popleft()

    def curves(self, key: str = "") -> dict[str, Any]:
        """Of this source, or of all where it is empty: lists of one length, with None where there is no value."""
        kept = list(with_gaps(self._kept))
        points = [_point(sample, key) if isinstance(sample, Sample) else (None, None) for sample in kept]
        return {
            "at": [sample.at if isinstance(sample, Sample) else sample for sample in kept],
            "freshPercent": [fresh for fresh, _ in points],
            "due": [due for _, due in points],
            "textsPerMinute": rates(kept, key),
        }


def measurement(source: Source) -> Measured | None:
    """None where the operator has not counted yet."""
    if "total" not in source.rows or "due" not in source.rows:
        return None
    total, due = source.rows["total"], source.rows["due"]
    return Measured(total, max(0, total - due), due, source.today.get("date", ""), source.today.get("texts", 0))


def newly_sent(before: Measured | None, now: Measured) -> int:
    """The texts of a new day are counted from 0 again."""
    if before is None:
        return 0
    return max(0, now.texts - before.texts) if now.day == before.day else now.texts


def with_gaps(kept: Iterable[Sample]) -> Iterable[Sample | float]:
    """The samples, and where two are too far apart a moment between them."""
    before: Sample | None = None
    for sample in kept:
        if before is not None and sample.at - before.at > GAP_S:
            yield (before.at + sample.at) / 2
        yield sample
        before = sample


def rates(kept: Sequence[Sample | float], key: str) -> list[float | None]:
    """Texts per minute at each sample, over the minute before it."""
    found: list[float | None] = []
    first = 0
    for index, sample in enumerate(kept):
        if not isinstance(sample, Sample):
            found.append(None)
            first = index + 1
            continue
        while (early := kept[first]) and isinstance(early, Sample) and sample.at - early.at > RATE_OVER_S + 1:
            first += 1
        found.append(_rate(early, sample, key) if isinstance(early, Sample) else None)
    return found


def _rate(early: Sample, late: Sample, key: str) -> float | None:
    passed_s = late.at - early.at
    keys = [one for one in late.sent if one in early.sent and key in ("", one)]
    if passed_s < RATE_AFTER_S or not keys:
        return None
    return round(sum(late.sent[one] - early.sent[one] for one in keys) * 60 / passed_s, 1)


def _point(sample: Sample, key: str) -> tuple[float | None, int | None]:
    chosen = [one for name, one in sample.sources.items() if key in ("", name)]
    if not chosen:
        return None, None
    fresh, total = sum(one.fresh for one in chosen), sum(one.total for one in chosen)
    return float(fresh_percent(fresh, total)), sum(one.due for one in chosen)
