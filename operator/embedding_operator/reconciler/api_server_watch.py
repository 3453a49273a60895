"""Asks every few seconds whether the API server answers, so that an outage and its end are noticed without other requests.

A request that was sent into an outage may wait for its answer for half a minute, and a watch for a minute. So at the end of an
outage without answers all connections are ended, and all work goes on at once. Started by the process.
"""

from collections.abc import Callable

import structlog

from embedding_operator.api_errors import ApiServerError, ApiServerUnreachable
from embedding_operator.api_server import ApiServer
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

ASK_EVERY_S = 5.0
ASK_AGAIN_AFTER_S = 1.0
"""While it is away: all work goes on within ten seconds after its return."""
ANSWERS_WITHIN_S = 3.0
UNANSWERED = 2
"""A server that is only slow answers one of so many questions in time, and keeps its connections."""


class ApiServerWatch:
    """`on_return` is called when the API server answers again."""

    def __init__(self, server: ApiServer, *, on_return: Callable[[], None], clock: Clock) -> None:
        self._server = server
        self._on_return = on_return
        self._clock = clock
        self._unanswered = 0
        self._away_since = 0.0
        self.waiting_for: str | None = None
        """Why the last question failed, in a sentence; None while the server answers."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._clock.sleep(ASK_AGAIN_AFTER_S if self.waiting_for else ASK_EVERY_S)
            await self.ask()

    async def ask(self) -> None:
        """Ask once. Never raises: the watch must not end before the process does."""
        try:
            await self._server.answer(within_s=ANSWERS_WITHIN_S)
        except ApiServerError as exc:
            self._record_failure(exc)
        except Exception as exc:
            log.exception("API server not asked because of an unexpected error")
            self.waiting_for = f"the API server could not be asked ({type(exc).__name__}): see the log, and report it"
        else:
            self._record_answer()

    def _record_failure(self, error: ApiServerError) -> None:
        if self.waiting_for is None:
            self._away_since = self._clock.monotonic()
            log.warning("the API server does not answer as usual", message=str(error))
        self.waiting_for = str(error)
        self._unanswered += isinstance(error, ApiServerUnreachable)

    def _record_answer(self) -> None:
        was_away, silent = self.waiting_for is not None, self._unanswered >= UNANSWERED
        self.waiting_for, self._unanswered = None, 0
        if silent:
            self._server.abort_connections()
        if was_away:
            log.info("the API server answers again", away_s=round(self._clock.monotonic() - self._away_since, 1))
            self._on_return()
