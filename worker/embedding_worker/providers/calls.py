"""Makes a source's calls to its provider, counted by day, and its canaries. Called by batch_calls.py for each batch."""

from collections import OrderedDict
from collections.abc import Sequence

from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, LimitReached, ProviderError, ProviderThrottled, ProviderUnavailable
from embedding_worker.providers.attribution import Evidence, Verdict
from embedding_worker.providers.call_size import CallSize
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.embedder import Vector, reported_tokens, tokens_of
from embedding_worker.providers.gate import CallGate
from embedding_worker.providers.meter import PATIENTLY_S, Counted, Meter
from embedding_worker.providers.shared_embedder import SharedEmbedder
from embedding_worker.text import content_hash

MOST_SUSPECTS = 2_000
"""The oldest is forgotten first. It is found again by bisecting."""


class Suspects:
    """Texts whose calls have failed when they were sent alone. They are sent alone again, so that no other waits for them."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, None] = OrderedDict()
        """Of the texts, which may be long."""

    def among(self, texts: Sequence[str]) -> list[str]:
        """Those of these texts that are suspects."""
        return [text for text in texts if content_hash(text) in self._hashes] if self._hashes else []

    def add(self, text: str) -> None:
        key = content_hash(text)
        self._hashes[key] = None
        self._hashes.move_to_end(key)
        if len(self._hashes) > MOST_SUSPECTS:
            self._hashes.popitem(last=False)

    def discard(self, text: str) -> None:
        """Its call has succeeded."""
        if self._hashes:
            self._hashes.pop(content_hash(text), None)


class ProviderCalls:
    """The calls of one source. Safe to use from several tasks at once."""

    def __init__(self, embedder: SharedEmbedder, gate: CallGate, meter: Meter, *, clock: Clock) -> None:
        self.max_text_bytes = embedder.max_text_bytes
        self.max_call_bytes = embedder.max_call_bytes
        self.size = CallSize(embedder.max_texts, first=embedder.first_texts)
        self.suspects = Suspects()
        self.usage = meter.usage
        """Where it is noted what is known of calls after they have succeeded."""
        self._embedder = embedder
        self._gate = gate
        self._meter = meter
        self._clock = clock

    @property
    def evidence(self) -> Evidence:
        """What the recent calls of all sources with this model have shown."""
        return self._embedder.evidence

    @property
    def called(self) -> bool:
        """Whether a call or a canary of any source has succeeded, with this model and the present credential."""
        return self.evidence.any_succeeded

    @property
    def some_fail(self) -> bool:
        """Whether calls fail because of the provider, although others succeed."""
        return self.evidence.some_calls_fail(self.now())

    def now(self) -> float:
        """The moment, by the monotonic clock."""
        return self._clock.monotonic()

    @property
    def has_reached_limit(self) -> bool:
        """Whether a limit of the source was reached a short time ago."""
        return self._gate.has_reached_limit

    @property
    def may_call(self) -> bool:
        """Whether no circuit and no throttle prevents calls."""
        return self._embedder.may_call

    async def embed(self, texts: Sequence[str], *, waits_s: float = PATIENTLY_S) -> list[Vector]:
        """Make one call with these texts, or as many of them as the limits of the source allow. Returns their vectors, in order.

        Each text is counted before it is sent, and given back if the call does not reach the provider. Raises what
        SharedEmbedder.embed raises, LimitReached, and CallsPaused if the rate limits allow no call within `waits_s`.
        """
        if waits_s < PATIENTLY_S:  # a batch that has begun is not stopped because another one met the rate limits
            self._gate.refuse_if_closed()
        await self._embedder.wait_until_admitted()
        await self._embedder.prepare()
        # After a limit of the source was reached, one text finds out whether more may be sent: a whole batch that may not be sent
        # would use up the rate limits of others.
        counted = await self._acquire(texts[:1] if self._gate.was_limited else texts, waits_s)
        began = self.now()
        try:
            vectors = await self._embedder.embed(counted.texts)
        except ProviderError as exc:
            if not exc.reached:
                await self._meter.give_back(counted)
            if isinstance(exc, ProviderThrottled) and self._embedder.throttled_times > 1:
                self.size.shrink()
            if isinstance(exc, ProviderUnavailable) and exc.timed_out:
                self.size.record_timeout(len(counted.texts))
            raise
        self._gate.record_success()
        if (reported := reported_tokens(vectors)) is not None:
            self.usage.add_reported(counted.at, estimated=tokens_of(counted.texts), reported=reported)
        self.size.record_accepted(len(vectors), seconds=self.now() - began)
        return vectors

    async def is_well(self) -> bool:
        """Whether a canary is embedded. If it is not, a circuit is open afterwards, or calls are paused."""
        try:
            counted = await self._acquire([CANARY], PATIENTLY_S)
        except (LimitReached, CallsPaused):
            return False
        try:
            await self._embedder.send_canary()
        except ProviderError as exc:
            if not exc.reached:
                await self._meter.give_back(counted)
            if isinstance(exc, ProviderThrottled):  # or the same call and this canary would use up the quota each time
                self.size.shrink()
            return False
        return True

    async def is_failure_of_rows(self, failure: int, evidence: Evidence, *, refused: bool) -> bool:
        """Whether the failure of this number, and those before it, were the rows' own: sends as many canaries as that takes.

        False if the credential was rotated since, because the evidence is of the old one.
        """
        while evidence is self.evidence:
            verdict = evidence.verdict(failure, self.now(), refused=refused)
            if verdict is not Verdict.ASK:
                return verdict is Verdict.WELL
            if not await self.is_well():
                return False
        return False

    async def _acquire(self, texts: Sequence[str], waits_s: float) -> Counted:
        try:
            return await self._meter.acquire(texts, longest_wait_s=waits_s)
        except LimitReached as exc:
            self._gate.close_until_limit_ends(exc)
            raise
        except CallsPaused as exc:
            self._gate.close_for_limits(exc)
            raise
