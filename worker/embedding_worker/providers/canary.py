"""Sends a canary: a fixed short text, in a call of the same form as those for rows. If it fails, the provider is not well.

Called by calls.py after failures, by gate.py as a probe, and by `embedding-operator check`. A canary is never a row's text.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from embedding_worker.errors import ProviderUnavailable
from embedding_worker.providers.embedder import Vector

CANARY = "embedding-operator asks whether this model answers"
ANSWERED_WITHIN_S = 5.0
"""Less than a call for rows may take, so that an outage is known within 20 s after a call has begun to hang for 15 s."""


async def send_canary(embed: Callable[[Sequence[str]], Awaitable[list[Vector]]]) -> Vector:
    """Embed the canary by this function. Returns its vector. Raises what `embed` raises, and ProviderUnavailable after 5 s."""
    try:
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            (vector,) = await embed([CANARY])
    except TimeoutError:
        raise ProviderUnavailable(
            f"a fixed test text got no vector within {ANSWERED_WITHIN_S:g} s, after another call had failed"
        ) from None
    return vector
