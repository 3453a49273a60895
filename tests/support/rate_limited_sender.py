"""`python -m tests.support.rate_limited_sender`: a process that sends as much as its rate limits allow, and prints when.

Called by tests of the limits that processes keep together. It reads what to do from its standard input, as JSON (see Sender). The
calls of some tasks take turns, so that there is always one that waits.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from embedding_worker.clock import SystemClock
from embedding_worker.patience import until_answered
from embedding_worker.rows import rate_limits
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import RateLimits
from hack.repository import ROOT

TASKS = 4


@dataclass(frozen=True)
class Call:
    """A call that was made, on the clock that all processes of a machine share."""

    at_s: float
    texts: int
    tokens: int


@dataclass(frozen=True)
class Sender:
    url: str
    requests: int | None
    texts: int | None
    tokens: int | None
    calls: Sequence[tuple[int, int]]
    """Texts and tokens of its calls, again and again."""
    seconds: float

    async def run(self) -> None:
        async with Database(self.url, max_connections=TASKS) as database:
            until_s = time.monotonic() + self.seconds
            await asyncio.gather(*(self._send(database, first, until_s) for first in range(TASKS)))

    async def _send(self, database: Database, first: int, until_s: float) -> None:
        limits = RateLimits(self.requests, self.texts, self.tokens)
        made = first
        while True:
            texts, tokens = self.calls[made % len(self.calls)]
            acquire = partial(
                rate_limits.acquire, database, "shared", limits, texts=texts, tokens=tokens, longest_wait_s=60.0
            )
            grant = await until_answered("acquire a call", acquire, clock=SystemClock())
            if time.monotonic() + grant.wait_s > until_s:
                return
            await asyncio.sleep(grant.wait_s)
            print(json.dumps(asdict(Call(time.monotonic(), texts, tokens))), flush=True)
            made += 1


async def sent_by(sender: Sender) -> list[Call]:
    """Run a process. Returns the calls that it has made."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.rate_limited_sender", cwd=ROOT, stdin=pipe, stdout=pipe
    )
    printed, _ = await process.communicate(json.dumps(asdict(sender)).encode())
    assert process.returncode == 0
    return [Call(**json.loads(line)) for line in printed.splitlines()]


if __name__ == "__main__":
    asyncio.run(Sender(**json.loads(sys.stdin.read())).run())
