"""The protocol of a source's embedder, which shares circuit, throttle and limits with others. Used by calls.py and gate.py."""

from typing import Protocol

from embedding_worker.providers.attribution import Evidence
from embedding_worker.providers.embedder import Embedder
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import RateLimits


class SharedEmbedder(Embedder, Protocol):
    """An embedder of one source, whose endpoint and credential other sources use too.

    `embed` also raises CallsPaused, if no call may be made now.
    """

    max_call_bytes: int | None
    """UTF-8 bytes of all texts of a call; None without a limit."""

    first_texts: int
    """Texts in the first calls."""

    @property
    def problem(self) -> Problem | None:
        """What prevents calls of all sources, or has until one succeeds; None if nothing does."""
        ...

    @property
    def may_call(self) -> bool:
        """Whether the circuits are closed and the throttle is over."""
        ...

    @property
    def evidence(self) -> Evidence:
        """What the recent calls of all sources with this model have shown."""
        ...

    @property
    def limits(self) -> tuple[str, RateLimits]:
        """The key of endpoint and credential in the database, and their rate limits."""
        ...

    @property
    def throttled_times(self) -> int:
        """How often the provider has answered 429 since a call succeeded."""
        ...

    async def send_canary(self) -> None:
        """Find out whether the provider is well. Opens the circuit, and raises the error, if it is not."""
        ...

    @property
    def may_probe(self) -> bool:
        """Whether a circuit is open, and it is time for a probe."""
        ...

    async def prepare(self) -> None:
        """Import the SDK, and do what else the first call needs, so that no call is late for that after it was counted.

        Raises SourceRefused where the SDK can't be imported.
        """
        ...

    async def wait_until_admitted(self) -> None:
        """Return when a call may begin. After an outage, it waits for other calls. Raises CallsPaused if none may be made now."""
        ...

    def retry_now(self) -> None:
        """End the pause of the throttle, and let the next probe be sent now, for all sources that share these."""
        ...

    def begin_probe(self) -> bool:
        """Whether the circuit is open, and the caller is to call `probe` now."""
        ...

    async def probe(self) -> bool:
        """Send a canary although the circuit is open, and close it, or leave it open for longer. Raises no ProviderError.

        Returns whether the canary has reached the provider.
        """
        ...

    def beat(self) -> None:
        """The process is running. To be called twice a second, so that a time in which it was stopped is noticed."""
        ...
