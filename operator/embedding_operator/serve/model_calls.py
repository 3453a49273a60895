"""Makes the calls for search texts, a few at once, and finds out by a canary what a failure means.

Called by search_embedder.py. While a circuit is open, upkeep.py sends the probes.
"""

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

import structlog

from embedding_operator.serve import refusals
from embedding_operator.serve.call_slots import CallSlots
from embedding_operator.serve.messages import RequestRefused
from embedding_operator.serve.packed_vectors import PackedVector, pack
from embedding_operator.serve.served_models import ServedModel
from embedding_worker.batching.bisect import AttemptRecord, FailedAlone, Unattributed, bisect
from embedding_worker.errors import CallsPaused, ProviderError, ProviderThrottled, ProviderUnavailable, SourceRefused
from embedding_worker.providers.call_size import calls_for
from embedding_worker.providers.source_embedder import SourceEmbedder

log = structlog.get_logger(__name__)

ANSWERED_WITHIN_S = 16.0
"""From the moment that a call has a slot. One that takes longer is given up. The end of the process waits for as long."""

Outcome = PackedVector | ProviderError
"""What became of a text: its vector, or the refusal of a model that accepts others."""


class ModelCalls:
    def __init__(self) -> None:
        self._slots = CallSlots()
        self._canaries: dict[SourceEmbedder, asyncio.Task[bool]] = {}

    def refuse_if_paused(self, served: ServedModel) -> None:
        """Raises RequestRefused if no call may be made now, or too many are being made."""
        if not served.embedder.may_call:
            raise refusals.paused(served.source, served.embedder.problem, served.embedder.paused_for_s)
        self._slots.refuse_if_full(served.model)

    def calls_of(self, served: ServedModel, texts: Iterable[str]) -> list[list[str]]:
        """The texts of each call that these need: not more in a call than the server has accepted."""
        return calls_for(texts, most_texts=served.size.texts, most_bytes=served.embedder.max_call_bytes)

    async def embed(self, served: ServedModel, texts: Sequence[str]) -> dict[str, Outcome]:
        """Make one call, and smaller ones if it is refused. Raises RequestRefused."""
        async with self._slots.one(served.model):
            try:
                async with asyncio.timeout(ANSWERED_WITHIN_S):
                    await served.embedder.prepare()
                    return await self._bisected(served, texts)
            except SourceRefused as exc:
                raise refusals.not_set_up(served.source, exc) from None
            except TimeoutError:
                raise self._given_up(served) from None

    async def _bisected(self, served: ServedModel, texts: Sequence[str]) -> dict[str, Outcome]:
        """Smaller calls find out whether the call was refused because of its size or because of some of its texts."""
        found: dict[str, Outcome] = {}
        accepted = 0
        attempt, stops = partial(_attempt, served), partial(self._stops, served.embedder)
        async for outcomes in bisect([texts], attempt, on=ProviderError, stop=stops):
            for text, outcome in outcomes:
                if isinstance(outcome, Unattributed):
                    raise self._reaction(served, outcome.error)
                if isinstance(outcome, FailedAlone):
                    _log(served, outcome.error)
                found[text] = outcome.error if isinstance(outcome, FailedAlone) else outcome
            accepted = max(accepted, sum(isinstance(outcome, PackedVector) for _, outcome in outcomes))
        if accepted < len(texts) and not any(isinstance(outcome, ProviderError) for outcome in found.values()):
            served.size.was_too_large(len(texts), accepted=accepted)
        return found

    async def _stops(self, embedder: SourceEmbedder, history: Sequence[AttemptRecord]) -> bool:
        """A key that was revoked, or a model that is gone, is refused in the same way as a text: a canary tells."""
        error = history[-1].error
        if not isinstance(error, ProviderError) or not error.is_refusal:
            return True
        is_first = sum(record.error is not None for record in history) == 1
        return is_first and not await asyncio.shield(self._send_canary(embedder))

    def _given_up(self, served: ServedModel) -> RequestRefused:
        """The next calls must not hang for as long: a canary, which ends sooner, opens the circuit."""
        self._send_canary(served.embedder)
        error = ProviderUnavailable(f"the model gave no answer within {ANSWERED_WITHIN_S:.0f} s")
        return _failed(served, error, refusals.UNKNOWN_PAUSE_S)

    def _reaction(self, served: ServedModel, error: ProviderError) -> RequestRefused:
        embedder = served.embedder
        if isinstance(error, CallsPaused):
            return refusals.paused(served.source, embedder.problem, max(error.pause_s, embedder.paused_for_s))
        if isinstance(error, ProviderThrottled):
            return _failed(served, error, embedder.paused_for_s)
        if not error.is_refusal:  # after a refusal it was sent already
            self._send_canary(embedder)
        return _failed(served, error, max(embedder.paused_for_s, refusals.UNKNOWN_PAUSE_S))

    def _send_canary(self, embedder: SourceEmbedder) -> "asyncio.Task[bool]":
        """One at a time for each source: if it fails, the circuit is open, and the next requests are answered at once."""
        if embedder not in self._canaries:
            self._canaries[embedder] = asyncio.create_task(_is_well(embedder), name="canary")
            self._canaries[embedder].add_done_callback(lambda _: self._canaries.pop(embedder, None))
        return self._canaries[embedder]


def _log(served: ServedModel, error: ProviderError) -> None:
    log.warning("call failed", source=served.source, error=type(error).__name__, message=error.message)


def _failed(served: ServedModel, error: ProviderError, wait_s: float) -> RequestRefused:
    _log(served, error)
    return refusals.failed(served.source, error, wait_s)


async def _attempt(served: ServedModel, texts: Sequence[str]) -> list[PackedVector | Unattributed[ProviderError]]:
    vectors = await served.embedder.embed(texts)
    served.size.record_accepted(len(texts))
    return [pack(vector) for vector in vectors]


async def _is_well(embedder: SourceEmbedder) -> bool:
    try:
        await embedder.send_canary()
    except ProviderError:
        return False
    return True
