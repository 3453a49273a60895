"""Sends Kubernetes Events beside the work: whoever tells one waits for nothing, and no failure here is theirs.

Of each source and action the first is sent at once, and then the newest after ever longer pauses, from a second to five minutes,
with the number of those that it stands for: a storm of dead letters is told, and does no harm to the API server. Made by the
process; told by the handlers and the sources' loops.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from embedding_operator.api_server import ApiServerError
from embedding_operator.lifecycle.events import Event, manifest

log = structlog.get_logger(__name__)

PACE_S = 1.0
LONGEST_PACE_S = 300.0
LONGEST_INSTANCE = 128


@dataclass(frozen=True)
class Pace:
    """When the next event of a source and action may be sent."""

    next_at: float
    pause_s: float

    @staticmethod
    def after(previous: "Pace | None", now: float) -> "Pace":
        """Twice as slow while they keep coming; one that comes after as long again as the last pause is a first one."""
        again = previous is not None and now < previous.next_at + previous.pause_s
        pause_s = min(previous.pause_s * 2, LONGEST_PACE_S) if previous is not None and again else PACE_S
        return Pace(now + pause_s, pause_s)


class EventPoster:
    def __init__(self, create: Callable[[dict[str, Any]], Awaitable[None]], *, namespace: str, instance: str) -> None:
        self._create = create
        self._namespace = namespace
        self._instance = instance[:LONGEST_INSTANCE]
        self._waiting: dict[tuple[str, str], tuple[Event, int]] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._news = asyncio.Event()
        self._refused = False

    def tell(self, event: Event) -> None:
        """Have it sent, soon: alone, or counted by the next one of its source and action."""
        key = (event.source, event.action)
        before = self._waiting.get(key)
        self._waiting[key] = (event, 0 if before is None else before[1] + 1)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._waiting:
                await self._news.wait()
            self._news.clear()
            now = time.monotonic()
            for key in [key for key in self._waiting if key not in self._paces or self._paces[key].next_at <= now]:
                event, more = self._waiting.pop(key)
                self._paces[key] = Pace.after(self._paces.get(key), now)
                await self._send(event, more)
            await asyncio.sleep(PACE_S)

    async def _send(self, event: Event, more: int) -> None:
        name = f"{event.regarding['name']}.{secrets.token_hex(8)}"
        now = datetime.now(UTC)
        body = manifest(event, more=more, name=name, namespace=self._namespace, instance=self._instance, now=now)
        try:
            await self._create(body)
        except ApiServerError as exc:
            if not self._refused:  # said once, and no more until one is taken again
                log.warning("event not sent", regarding=event.regarding["name"], reason=event.reason, message=str(exc))
            self._refused = True
        except Exception:
            log.exception("event not sent by an unexpected error", regarding=event.regarding["name"])
        else:
            self._refused = False
