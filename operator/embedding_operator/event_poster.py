"""Sends Kubernetes Events in a task of its own, so that emitting one never waits and never fails.

The first event of each source and action is sent at once. Those that follow are combined: the newest is sent after a pause that
grows from a second to five minutes, with the number of events that it stands for, so that many dead letters at once cause
few requests. Created by the process; used by the job runner and the sources' status reports.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from embedding_operator.api_errors import ApiServerError
from embedding_operator.lifecycle.events import Event, manifest
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

PACE_S = 1.0
LONGEST_PACE_S = 300.0
LONGEST_INSTANCE = 128


@dataclass(frozen=True)
class Pace:
    """When the next event of a source and action may be sent, by the monotonic clock."""

    next_at: float
    pause_s: float

    @staticmethod
    def after(previous: "Pace | None", now: float) -> "Pace":
        """The pause doubles while events keep coming; after a silence as long as the last pause it starts again."""
        again = previous is not None and now < previous.next_at + previous.pause_s
        pause_s = min(previous.pause_s * 2, LONGEST_PACE_S) if previous is not None and again else PACE_S
        return Pace(now + pause_s, pause_s)


class EventPoster:
    def __init__(
        self, create: Callable[[dict[str, Any]], Awaitable[None]], *, namespace: str, instance: str, clock: Clock
    ) -> None:
        self._create = create
        self._clock = clock
        self._namespace = namespace
        self._instance = instance[:LONGEST_INSTANCE]
        self._waiting: dict[tuple[str, str], tuple[Event, int]] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._pending = asyncio.Event()
        self._refused = False

    def emit(self, event: Event) -> None:
        """Have the event sent soon: by itself, or counted by the next event of its source and action."""
        key = (event.source, event.action)
        before = self._waiting.get(key)
        self._waiting[key] = (event, 0 if before is None else before[1] + 1)
        self._pending.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._waiting:
                await self._pending.wait()
            self._pending.clear()
            now = self._clock.monotonic()
            for key in [key for key in self._waiting if key not in self._paces or self._paces[key].next_at <= now]:
                event, more = self._waiting.pop(key)
                self._paces[key] = Pace.after(self._paces.get(key), now)
                await self._send(event, more)
            await self._clock.sleep(PACE_S)

    async def _send(self, event: Event, more: int) -> None:
        name = f"{event.regarding['name']}.{secrets.token_hex(8)}"
        now = self._clock.now()
        body = manifest(event, more=more, name=name, namespace=self._namespace, instance=self._instance, now=now)
        try:
            await self._create(body)
        except ApiServerError as exc:
            if not self._refused:  # logged once, until an event is accepted again
                log.warning("event not sent", regarding=event.regarding["name"], reason=event.reason, message=str(exc))
            self._refused = True
        except Exception:
            log.exception("event not sent by an unexpected error", regarding=event.regarding["name"])
        else:
            self._refused = False
