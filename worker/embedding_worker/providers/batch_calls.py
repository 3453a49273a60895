"""Embeds the texts of one batch: bisects calls that fail, and finds out which texts are the cause. Called by embedding.py.

After a failed call, a canary has to show that the provider is well, unless other calls have succeeded a moment ago. If it is not,
the batch stops, and its rows wait until the circuit is closed. A text that failed alone is its own cause only if canaries
that were sent afterwards are embedded; one that was refused has to be refused four times, with canaries between, because a
refusal makes a dead letter at once.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from embedding_worker.batching.bisect import AttemptRecord, FailedAlone, Outcomes, Unattributed, bisect
from embedding_worker.errors import (
    CallsPaused,
    InputRejected,
    LimitReached,
    ProviderError,
    ProviderThrottled,
)
from embedding_worker.providers.call_size import calls_for
from embedding_worker.providers.calls import ProviderCalls
from embedding_worker.providers.embedder import Vector
from embedding_worker.providers.meter import FIRST_CALL_WAITS_S, NOT_ALLOWED, PATIENTLY_S

PAUSED = (ProviderThrottled, LimitReached, CallsPaused)
"""Errors after which no call may be made for a while. They show nothing about a text."""
CONFIRMATIONS = 3
"""How often a text that was refused alone is sent again, before its job becomes a dead letter."""
UNDECIDED_PAUSE_S = 10.0
"""After so long, and up to twice as long, a text whose failure was not decided is sent again, with the texts of other rows."""


@dataclass(frozen=True)
class FailedCall:
    texts: frozenset[str]
    error: ProviderError
    number: int
    ended: float


class BatchCalls:
    """The calls for one batch of texts. Equal texts are one text: it is sent once, and has one outcome."""

    def __init__(
        self, texts: Iterable[str], calls: ProviderCalls, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._texts = tuple(dict.fromkeys(texts))
        self._calls = calls
        self._jitter = jitter
        self._evidence = calls.evidence
        self.failing = asyncio.Event()
        """A call has failed, so that it may take long until the other texts have their vectors."""
        self._failed: list[FailedCall] = []
        self._accepted = 0
        """How many texts the largest call had that succeeded."""

    async def run(self) -> AsyncIterator[Outcomes[str, Vector, ProviderError]]:
        """Yields the vectors of each call as soon as it has returned, and at the end what became of the other texts."""
        failed_alone: dict[str, ProviderError] = {}
        stopped = False
        async for outcomes in self._bisected():
            for text, outcome in outcomes:
                if isinstance(outcome, FailedAlone):
                    failed_alone[text] = outcome.error
                    self._calls.suspects.add(text)
                stopped |= isinstance(outcome, Unattributed)
            if not failed_alone:
                yield outcomes
        if not stopped:
            self._record_unexplained(failed_alone)
        elif self._failed and self._calls.has_reached_limit:
            self._calls.size.shrink()
        if failed_alone:
            yield await self._judge(failed_alone)

    def _bisected(self) -> AsyncIterator[Outcomes[str, Vector, ProviderError]]:
        size = self._calls.size
        return bisect(self._planned(), self._attempt, on=ProviderError, stop=self._stops, most_items=lambda: size.texts)

    def _planned(self) -> list[list[str]]:
        """The texts of each call. Suspects are sent alone, after the others."""
        suspects = self._calls.suspects.among(self._texts)
        others = (text for text in self._texts if text not in suspects) if suspects else self._texts
        most, most_bytes = self._calls.size.texts, self._calls.max_call_bytes
        return [*calls_for(others, most_texts=most, most_bytes=most_bytes), *([text] for text in suspects)]

    async def _attempt(self, texts: Sequence[str]) -> list[Vector | Unattributed[ProviderError]]:
        try:
            vectors = await self._calls.embed(texts, waits_s=self._waits_s)
        except ProviderError as exc:
            self.failing.set()
            if not isinstance(exc, PAUSED):
                number = self._evidence.next_number()
                self._failed.append(FailedCall(frozenset(texts), exc, number, self._calls.now()))
            raise
        self._accepted = max(self._accepted, len(vectors))
        if len(texts) == 1:
            self._calls.suspects.discard(texts[0])
        unsent = Unattributed[ProviderError](LimitReached(NOT_ALLOWED))
        return [*vectors, *(unsent for _ in texts[len(vectors) :])]

    @property
    def _waits_s(self) -> float:
        """How long a call may wait for the rate limits."""
        return PATIENTLY_S if self._failed or self._accepted else FIRST_CALL_WAITS_S

    async def _stops(self, history: Sequence[AttemptRecord]) -> bool:
        if isinstance(history[-1].error, PAUSED):
            return True
        if not self._evidence.is_in_doubt(self._calls.now()):
            return False
        return not await self._calls.is_well()

    def _record_unexplained(self, failed_alone: Mapping[str, ProviderError]) -> None:
        """Record the failed calls for whose texts other calls have succeeded: the provider failed, or they were too large."""
        for call in self._failed:
            if not call.texts.isdisjoint(failed_alone):
                continue
            if not self._calls.size.was_too_large(len(call.texts), accepted=self._accepted):
                refused = call.error.is_refusal
                self._evidence.record_provider_failure(call.number, call.ended, refused=refused)

    async def _judge(self, failed: Mapping[str, ProviderError]) -> Outcomes[str, Vector, ProviderError]:
        """The texts that failed alone: as FailedAlone, or as Unattributed if the provider may be the cause.

        A text that was accepted when it was sent again has its vector.
        """
        undecided: dict[str, ProviderError] = {}
        for refusal in (False, True):
            some = {text: error for text, error in failed.items() if error.is_refusal is refusal}
            last = self._failed[-1].number
            if some and not await self._calls.is_failure_of_rows(last, self._evidence, refused=refusal):
                undecided |= some
        refused = {text: error for text, error in failed.items() if error.is_refusal and text not in undecided}
        accepted: dict[str, Vector] = {}
        for _ in range(CONFIRMATIONS):
            if refused and not await self._is_confirmed(refused, accepted):
                undecided |= refused
                refused = {}
        if refused and not self._evidence.trusts_refusals(self._calls.now()):
            undecided |= refused
        pause_s = UNDECIDED_PAUSE_S * (1 + self._jitter()) if self._calls.may_call else 0.0
        return (
            *accepted.items(),
            *((text, Unattributed(error, pause_s)) for text, error in undecided.items()),
            *(
                (text, FailedAlone(_as_failure_of_the_text(error)))
                for text, error in failed.items()
                if text not in undecided and text not in accepted
            ),
        )

    async def _is_confirmed(self, refused: dict[str, ProviderError], accepted: dict[str, Vector]) -> bool:
        """Send each refused text alone once more, and then a canary. Moves those that are accepted this time.

        Returns whether the others were refused again, and the canary was not.
        """
        for text in list(refused):
            try:
                (vector,) = await self._calls.embed([text])
            except ProviderError as exc:
                if not exc.is_refusal:
                    return False
            else:
                accepted[text] = vector
                del refused[text]
                number = self._evidence.next_number()
                self._evidence.record_provider_failure(number, self._calls.now(), refused=True)
        return not refused or await self._calls.is_well()


def _as_failure_of_the_text(error: ProviderError) -> ProviderError:
    """A refusal that blames the key or the model has its cause in the text, if canaries are accepted."""
    if not error.is_refusal or isinstance(error, InputRejected):
        return error
    message = f"the provider answers {error.code or 'with a refusal'} to this text, and accepts others: change the text"
    return InputRejected("InputRejected", message, code=error.code)
