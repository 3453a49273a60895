"""Bounds how many calls are made at once, and lets no account use all of them. Owned by model_calls.py."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embedding_operator.serve.refusals import UNKNOWN_PAUSE_S, rate_limited
from embedding_worker.source import Model

MOST_CALLS = 16
"""At once, in all sources."""
MOST_CALLS_OF_ONE = 8
"""At once with one account, so that others can be called while its server hangs. A local model works on each with one thread."""
MOST_WAITING = 32
"""Calls of one account that wait for a slot. More would get their answer when no one waits for it any more."""
SLOT_WITHIN_S = 8.0
"""So long a call waits for others to end."""
Account = tuple[str, str, str]


def account_of(model: Model) -> Account:
    """What a server that hangs has in common for all sources that use it."""
    return model.provider, model.endpoint, model.api_key_ref


class CallSlots:
    def __init__(self) -> None:
        self._all = asyncio.Semaphore(MOST_CALLS)
        self._of_one: dict[Account, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MOST_CALLS_OF_ONE))
        self._begun: Counter[Account] = Counter()

    def refuse_if_full(self, model: Model) -> None:
        """Raises RequestRefused if too many calls of the model's account are being made, or wait."""
        if self._begun[account_of(model)] >= MOST_CALLS_OF_ONE + MOST_WAITING:
            raise rate_limited("too many calls are being made", UNKNOWN_PAUSE_S)

    @asynccontextmanager
    async def one(self, model: Model) -> AsyncIterator[None]:
        """A slot, while the context lasts. Raises RequestRefused if none becomes free in time."""
        account = account_of(model)
        self._begun[account] += 1
        try:
            await self._acquire(account)
            try:
                yield
            finally:
                self._all.release()
                self._of_one[account].release()
        finally:
            self._begun[account] -= 1

    async def _acquire(self, account: Account) -> None:
        own = self._of_one[account]
        try:
            async with asyncio.timeout(SLOT_WITHIN_S):
                await own.acquire()
                try:
                    await self._all.acquire()
                except asyncio.CancelledError:
                    own.release()
                    raise
        except TimeoutError:
            raise rate_limited("too many calls are being made", UNKNOWN_PAUSE_S) from None
