"""Holds the Lease of the release while this process works, and waits for it before: one process leads, the others stand by.

Created by the process. A standby watches the Lease, which costs two requests a minute. Everything that starts work asks
`may_start`, which is false before the Lease could expire for others.
"""

import asyncio
from collections.abc import Callable

import structlog

from embedding_operator.api_errors import AlreadyExists, ApiServerError, Gone
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
    taken_from,
)
from embedding_operator.tasks import cancel_and_wait
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

RENEW_EVERY_S = 3.0
RENEW_AGAIN_AFTER_S = 1.0
ASK_AGAIN_AFTER_S = 2.0
WATCH_AGAIN_AFTER_S = 0.5
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
        self._was_read = False
        self._was_away = False
        """Whether the Lease could not be read when it was last tried."""
        self._seen_at = clock.monotonic()
        """When the Lease was last seen to change."""
        self._change = asyncio.Event()
        self._valid_until = float("-inf")
        self._held = False

    @property
    def holder(self) -> str:
        """Who holds the Lease, as it was last read; empty if nobody does, or if it was not read yet."""
        return self._lease.holder if self._lease is not None else ""

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
                await self._clock.sleep(WATCH_AGAIN_AFTER_S)
            except Exception as exc:
                self._fail(exc)
                await self._clock.sleep(ASK_AGAIN_AFTER_S)

    async def _read(self) -> None:
        try:
            lease = parse_lease(await self._server.lease(LEASE))
        except Gone:
            lease = None
        except ApiServerError:
            self._was_away = True
            raise
        if self._was_away:  # after an outage, the holder is given time to renew the Lease
            self._was_away, self._seen_at = False, self._clock.monotonic()
        self._observe(lease)

    def _observe(self, lease: LeaseState | None) -> None:
        self.problem = None
        if self._was_read and lease == self._lease:
            return
        before, self._lease, self._was_read = self._lease, lease, True
        self._seen_at = self._clock.monotonic()
        if lease is not None and lease.holder != self.identity and (before is None or lease.holder != before.holder):
            log.info("standing by" if lease.holder else "the Lease is free", holder=lease.holder or None)
        self._change.set()

    async def _take(self) -> bool:
        """Try to take the Lease. Returns False if it was renewed unseen, another was faster, or an outage has just ended."""
        seen = self._lease, self._seen_at
        try:
            await self._read()  # a watch may have died silently
            if (self._lease, self._seen_at) == seen or self._lease is None or not self._lease.holder:
                await self._write()
                return True
        except Exception as exc:
            self._fail(exc)
        return False

    async def _write(self) -> None:
        """Write that this process holds the Lease. Raises ApiServerError; AlreadyExists if it has changed meanwhile."""
        before, sent_at = self._lease, self._clock.monotonic()
        spec = held_by(self.identity, before, self._clock.now())
        body = await self._server.put_lease(LEASE, spec, version=before.version if before is not None else None)
        self._lease, self._seen_at, self.problem = parse_lease(body), sent_at, None
        self._valid_until = sent_at + DURATION_S - MARGIN_S

    def _fail(self, error: Exception) -> None:
        """Whatever the error, it is tried again: a task that ended would leave a release of which no process works."""
        if isinstance(error, AlreadyExists):
            return
        if not isinstance(error, ApiServerError):
            log.error("Lease not read or written because of an unexpected error", exc_info=error)
        problem = f"the Lease {LEASE} cannot be read or written: {error}"
        if problem != self.problem:
            log.warning("waiting for the API server, to read or write the Lease", message=str(error))
        self.problem = problem

    async def run(self) -> None:
        """Renew the Lease until cancelled, or until another process has taken it."""
        ceasing = asyncio.create_task(self._cease_in_time(), name="end of the leadership")
        try:
            while not self.lost.is_set():
                renewed = await self._renew()
                await self._clock.sleep(RENEW_EVERY_S if renewed else RENEW_AGAIN_AFTER_S)
        finally:
            await cancel_and_wait(ceasing)

    async def _cease_in_time(self) -> None:
        """Cease to lead when nothing may be started any more, although an attempt to renew may not be answered for seconds."""
        while True:
            left_s = self._valid_until - self._clock.monotonic()
            if left_s <= 0:
                self._cease("it could not be renewed in time: no work is started until it is")
            await self._clock.sleep(left_s if left_s > 0 else RENEW_AGAIN_AFTER_S)

    async def _renew(self) -> bool:
        try:
            try:
                await self._write()
            except (AlreadyExists, Gone):  # somebody has written it, perhaps this process, whose answer was lost
                before = self._lease
                await self._read()
                if taken_from(self.identity, before, self._lease):
                    self._valid_until = float("-inf")
                    self._cease("another process has taken it")
                    self.lost.set()
                    return False
                await self._write()
        except Exception as exc:
            self._fail(exc)
            return False
        if not self._held and self.may_start():
            self._held = True
            log.info("leading again", holder=self.identity)
            self._changed(True)
        return self.may_start()

    def _cease(self, why: str) -> None:
        if self._held:
            log.info("not leading", holder=self.identity, why=why)
            self._held = False
            self._changed(False)

    async def release(self) -> None:
        """Give the Lease up, so that a standby takes it at once. Nothing may be started any more."""
        may_release, self._valid_until = self.may_start(), float("-inf")
        self._cease("the process ends")
        if not may_release:
            return
        try:
            try:
                await self._write_released()
            except AlreadyExists:  # a renewal was written, and its answer was not waited for
                await self._read()
                await self._write_released()
        except ApiServerError as exc:
            log.info("Lease not released: it expires by itself", message=str(exc))

    async def _write_released(self) -> None:
        before = self._lease
        if before is not None and before.holder == self.identity:
            await self._server.put_lease(LEASE, released(before, self._clock.now()), version=before.version)
