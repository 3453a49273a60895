"""Holds the Lease of the release while this process works, and waits for it before: one process leads, the others stand by.

Created by the process. A standby watches the Lease, which costs two requests a minute. Everything that starts work asks
`may_start`, which is false before the Lease could expire for others.
"""

import asyncio
from collections.abc import Callable

import structlog

from embedding_operator.api_errors import AlreadyExists, ApiServerError, ApiServerUnavailable, Gone
from embedding_operator.api_server import ApiServer
from embedding_operator.lifecycle.lease import (
    DURATION_S,
    LEASE,
    MARGIN_S,
    LeaseState,
    expires_in_s,
    held_by,
    parse_lease,
    released,
)
from embedding_operator.tasks import cancel_and_wait
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

RENEW_EVERY_S = 3.0
RENEW_AGAIN_AFTER_S = 1.0
ASK_AGAIN_AFTER_S = 2.0
WATCH_S = 50.0
"""How long a watch lasts. The next one begins with a read, so that a watch that has died silently is noticed."""


class Leadership:
    def __init__(
        self, server: ApiServer, *, identity: str, clock: Clock, changed: Callable[[bool], None] = lambda leads: None
    ) -> None:
        """`changed` is called when this process begins or ceases to lead."""
        self.identity = identity
        self.lost = asyncio.Event()
        """Another process has taken the Lease: this one is to end."""
        self.problem: str | None = None
        """Why the Lease cannot be read or written at the moment, in a sentence; None if it can."""
        self._server = server
        self._clock = clock
        self._changed = changed
        self._lease: LeaseState | None = None
        self._seen_at = clock.monotonic()
        self._change = asyncio.Event()
        self._valid_until = float("-inf")
        self._held = False

    def may_start(self) -> bool:
        """Whether this process may start work: it holds the Lease, and nobody else can have taken it yet."""
        return self._clock.monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Return when this process holds the Lease."""
        watching = asyncio.create_task(self._watch(), name="watch of the Lease")
        try:
            await self._acquire()
        finally:
            await cancel_and_wait(watching)
        self._held = True
        log.info("leading", holder=self.identity, lease=LEASE)
        self._changed(True)

    async def _acquire(self) -> None:
        await self._change.wait()  # it was read for the first time
        while True:
            self._change.clear()
            unchanged_for_s = self._clock.monotonic() - self._seen_at
            left_s = expires_in_s(self._lease, self.identity, unchanged_for_s=unchanged_for_s)
            if left_s <= 0 and await self._take():
                return
            pause_s = left_s or ASK_AGAIN_AFTER_S
            await self._clock.wait_for(self._change, within_s=pause_s)

    async def _watch(self) -> None:
        """Keep what is known of the Lease current, until cancelled."""
        while True:
            try:
                await self._read()
                version = self._lease.version if self._lease is not None else ""
                async for body in self._server.watch_lease(LEASE, version, within_s=WATCH_S):
                    self._observe(parse_lease(body))
            except ApiServerError as exc:
                self._fail(exc)
                await self._clock.sleep(ASK_AGAIN_AFTER_S)

    async def _read(self) -> None:
        try:
            self._observe(parse_lease(await self._server.lease(LEASE)))
        except Gone:
            self._observe(None)

    def _observe(self, lease: LeaseState | None) -> None:
        self.problem = None
        if self._lease is None or lease is None or self._lease.version != lease.version:
            self._seen_at = self._clock.monotonic()
            if lease is not None and (self._lease is None or lease.holder != self._lease.holder):
                log.info("standing by" if lease.holder else "the Lease is free", holder=lease.holder or None)
        self._lease = lease
        self._change.set()

    async def _take(self) -> bool:
        """Try to take the Lease. Returns False if another process was faster, or the API server did not answer."""
        try:
            await self._write()
        except ApiServerError as exc:
            self._fail(exc)
            return False
        return True

    async def _write(self) -> None:
        """Write that this process holds the Lease. Raises ApiServerError; AlreadyExists if it has changed meanwhile."""
        before, sent_at = self._lease, self._clock.monotonic()
        spec = held_by(self.identity, before, self._clock.now())
        body = await self._server.put_lease(LEASE, spec, version=before.version if before is not None else None)
        self._lease, self._seen_at, self.problem = parse_lease(body), sent_at, None
        self._valid_until = sent_at + DURATION_S - MARGIN_S

    def _fail(self, error: ApiServerError) -> None:
        if isinstance(error, AlreadyExists):
            return
        problem = f"the Lease {LEASE} cannot be read or written: {error}"
        if problem != self.problem:
            log.warning("Lease not available", message=str(error))
        self.problem = problem

    async def run(self) -> None:
        """Renew the Lease until cancelled, or until another process has taken it."""
        while not self.lost.is_set():
            renewed = await self._renew()
            if self._held and not self.may_start():
                self._cease("it could not be renewed in time: no work is started until it is")
            await self._clock.sleep(RENEW_EVERY_S if renewed else RENEW_AGAIN_AFTER_S)

    async def _renew(self) -> bool:
        try:
            try:
                await self._write()
            except (AlreadyExists, Gone):  # somebody has written it, perhaps this process, whose answer was lost
                await self._read()
                if self._lease is not None and self._lease.holder not in ("", self.identity):
                    self._valid_until = float("-inf")
                    self._cease(f"{self._lease.holder} has taken it")
                    self.lost.set()
                    return False
                await self._write()
        except (ApiServerError, ApiServerUnavailable) as exc:
            self._fail(exc)
            return False
        if not self._held:
            self._held = True
            log.info("leading again", holder=self.identity)
            self._changed(True)
        return True

    def _cease(self, why: str) -> None:
        if self._held:
            log.warning("not leading", holder=self.identity, why=why)
            self._held = False
            self._changed(False)

    async def release(self) -> None:
        """Give the Lease up, so that a standby takes it at once. Nothing may be started any more."""
        before, held, self._valid_until = self._lease, self.may_start(), float("-inf")
        self._held = False
        self._changed(False)
        if before is None or not held:
            return
        try:
            await self._server.put_lease(LEASE, released(before, self._clock.now()), version=before.version)
        except ApiServerError as exc:
            log.info("Lease not released: it expires by itself", message=str(exc))
