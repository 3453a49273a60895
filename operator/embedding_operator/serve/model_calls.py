"""Makes the calls for search texts, a few at once, and finds out by a canary what a failure means.

Called by search_embedder.py. While a circuit is open, upkeep.py sends the probes.
"""

import asyncio
from collections.abc import Iterable, Sequence

from embedding_operator.serve import refusals
from embedding_operator.serve.call_slots import CallSlots
from embedding_operator.serve.messages import RequestRefused
from embedding_operator.serve.packed_vectors import PackedVector, pack
from embedding_operator.serve.served_models import ServedModel
from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, ProviderError, ProviderThrottled, ProviderUnavailable
from embedding_worker.providers.call_size import calls_for
from embedding_worker.providers.source_embedder import SourceEmbedder

ANSWERED_WITHIN_S = 16.0
"""From the moment that a call has a slot. One that takes longer is given up. The end of the process waits for as long."""


class ModelCalls:
    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._slots = CallSlots()
        self._canaries: dict[SourceEmbedder, asyncio.Task[bool]] = {}

    def refuse_if_paused(self, served: ServedModel) -> None:
        """Raises RequestRefused if no call may be made now, or too many are being made."""
        if not served.embedder.may_call:
            raise refusals.paused(served.embedder.problem, served.embedder.paused_for_s)
        self._slots.refuse_if_full(served.model)

    def calls_of(self, served: ServedModel, texts: Iterable[str]) -> list[list[str]]:
        """The texts of each call that these need."""
        embedder = served.embedder
        return calls_for(texts, most_texts=embedder.max_texts, most_bytes=embedder.max_call_bytes)

    async def embed(self, served: ServedModel, texts: Sequence[str]) -> list[PackedVector]:
        """Make one call. Raises RequestRefused."""
        async with self._slots.one(served.model):
            try:
                async with asyncio.timeout(ANSWERED_WITHIN_S):
                    await served.embedder.prepare()
                    vectors = await served.embedder.embed(texts)
            except TimeoutError:
                raise self._given_up(served.embedder) from None
            except ProviderError as exc:
                raise await self._reaction(served.embedder, exc) from None
        return [pack(vector) for vector in vectors]

    def _given_up(self, embedder: SourceEmbedder) -> RequestRefused:
        """The next calls must not hang for as long: a canary, which ends sooner, opens the circuit."""
        self._send_canary(embedder)
        message = f"the model gave no answer within {ANSWERED_WITHIN_S:.0f} s"
        return refusals.failed(ProviderUnavailable(message), refusals.UNKNOWN_PAUSE_S)

    async def _reaction(self, embedder: SourceEmbedder, error: ProviderError) -> RequestRefused:
        if isinstance(error, CallsPaused):
            return refusals.paused(embedder.problem, max(error.pause_s, embedder.paused_for_s))
        if isinstance(error, ProviderThrottled):
            return refusals.failed(error, embedder.paused_for_s)
        canary = self._send_canary(embedder)
        # A key that was revoked, or a model that is gone, is refused in the same way as a text.
        if error.is_refusal and await asyncio.shield(canary):
            return refusals.refused_text(error)
        return refusals.failed(error, max(embedder.paused_for_s, refusals.UNKNOWN_PAUSE_S))

    def _send_canary(self, embedder: SourceEmbedder) -> "asyncio.Task[bool]":
        """One at a time for each source: if it fails, the circuit is open, and the next requests are answered at once."""
        if embedder not in self._canaries:
            self._canaries[embedder] = asyncio.create_task(_is_well(embedder), name="canary")
            self._canaries[embedder].add_done_callback(lambda _: self._canaries.pop(embedder, None))
        return self._canaries[embedder]


async def _is_well(embedder: SourceEmbedder) -> bool:
    try:
        await embedder.send_canary()
    except ProviderError:
        return False
    return True
