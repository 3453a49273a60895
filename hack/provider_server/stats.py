"""The counts of the fake server, with hashes of texts and keys. Tests and demo read them over its control address."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

IN_TRANSIT_S = 0.8
"""For so long after an answer, its caller may not have read it, and may begin another call."""


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Stats:
    calls: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    texts: int = 0
    """Texts that were sent, whatever the answer was."""
    vectors: int = 0
    """Vectors in answers without a fault."""
    largest_batch: int = 0
    texts_by_hash: dict[str, int] = field(default_factory=dict)
    """How often each text was sent, by the SHA-256 of its UTF-8."""
    vectors_by_hash: dict[str, int] = field(default_factory=dict)
    """How often each text got its vector."""
    answers: dict[str, int] = field(default_factory=dict)
    """Calls by their answer: an HTTP code, or the kind of a fault."""
    throttled_at: float | None = None
    """When the last call was answered by 429, if no call has begun since; by the monotonic clock."""
    pauses_after_429: list[float] = field(default_factory=list)
    """Seconds from each answer 429 to the next call whose caller may know of it."""
    task_types: dict[str, int] = field(default_factory=dict)
    """How many texts were sent with each task type."""
    key_hashes: list[str] = field(default_factory=list)
    """The SHA-256 of each key that was sent."""

    @contextmanager
    def count_call(self) -> Iterator[None]:
        self.calls += 1
        if self.throttled_at is not None and (pause_s := time.monotonic() - self.throttled_at) > IN_TRANSIT_S:
            self.pauses_after_429.append(pause_s)
            self.throttled_at = None
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def record_request(self, texts: Sequence[str], key: str) -> None:
        self.texts += len(texts)
        self.largest_batch = max(self.largest_batch, len(texts))
        for text in texts:
            _count(self.texts_by_hash, hash_of(text))
        if key and hash_of(key) not in self.key_hashes:
            self.key_hashes.append(hash_of(key))

    def record_task_types(self, task_types: Sequence[str]) -> None:
        for task_type in task_types:
            _count(self.task_types, task_type)

    def record_answer(self, how: str) -> None:
        if how == "429":
            self.throttled_at = time.monotonic()
        _count(self.answers, how)

    def record_vectors(self, texts: Sequence[str]) -> None:
        self.vectors += len(texts)
        for text in texts:
            _count(self.vectors_by_hash, hash_of(text))


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
