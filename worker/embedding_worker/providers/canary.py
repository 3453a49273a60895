"""A canary: a fixed short text, sent in a call of the same form as those for rows. If it fails, the provider is not well.

Sent by source_embedder.py after failures and as a probe, and by `embedding-operator check`. It is never a row's text.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from embedding_worker.errors import ProviderUnavailable

CANARY = "embedding-operator asks whether this model answers"
ANSWERED_WITHIN_S = 5.0
"""Less than a call for rows may take, so that an outage is known within 20 s after a call has begun to hang for 15 s."""
Result = TypeVar("Result")


async def within(call: Awaitable[Result], *, seconds: float | None) -> Result:
    """What the call returns. Raises ProviderUnavailable if it has not ended within so many seconds (None: it has no limit)."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise ProviderUnavailable(f"a fixed test text got no vector within {seconds:g} s", timed_out=True) from None
