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
class Sent:
    """The texts of a source that were sent since a sample from which on each sample has it."""

    since: float
    texts: int = 0


NOTHING = Sent(0.0)


@dataclass(frozen=True)
class Sample:
    at: float
    """Seconds since the epoch."""
    sources: Mapping[str, Measured]
    sent: Mapping[str, Sent]


class Samples:
    def __init__(self) -> None:
        self._kept: deque[Sample] = deque(maxlen=MOST_SAMPLES)

    def add(self, at: datetime, sources: Mapping[str, Source]) -> None:
        measured = {key: found for key, source in sources.items() if (found := measurement(source)) is not None}
        moment, before = at.timestamp(), self._kept[-1] if self._kept else None
        sent = {key: _sent(before, key, one, moment) for key, one in measured.items()}
        self._kept.append(Sample(moment, measured, sent))
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


def _sent(before: Sample | None, key: str, now: Measured, at: float) -> Sent:
    """It begins again where the sample before does not have the source, or a higher number: the source was created again."""
    if before is None or key not in before.sources:
        return Sent(at)
    earlier, sent = before.sources[key], before.sent[key]
    if now.day != earlier.day:  # the texts of a new day are counted from 0
        return Sent(sent.since, sent.texts + now.texts)
    return Sent(sent.since, sent.texts + now.texts - earlier.texts) if now.texts >= earlier.texts else Sent(at)


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
        found.append(_rate(kept[first : index + 1], sample, key))
    return found


def _rate(window: Sequence[Sample | float], late: Sample, key: str) -> float | None:
    """That of each source is over as much of the window as it is in every sample of."""
    found = []
    for name, sent in late.sent.items():
        if key not in ("", name):
            continue
        early = next(
            one for one in window if isinstance(one, Sample) and one.sent.get(name, NOTHING).since == sent.since
        )
        passed_s = late.at - early.at
        if passed_s >= RATE_AFTER_S:
            found.append((sent.texts - early.sent[name].texts) * 60 / passed_s)
    return round(sum(found), 1) if found else None


def _point(sample: Sample, key: str) -> tuple[float | None, int | None]:
    chosen = [one for name, one in sample.sources.items() if key in ("", name)]
    if not chosen:
        return None, None
    fresh, total = sum(one.fresh for one in chosen), sum(one.total for one in chosen)
    return float(fresh_percent(fresh, total)), sum(one.due for one in chosen)
