"""Logs the errors of one source's loop: one that lasts is logged once, and again after all was well. Called by source_loop.py."""

from collections.abc import Callable

import structlog

from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused

log = structlog.get_logger(__name__)


class FailureLog:
    def __init__(self, source: str) -> None:
        self._source = source
        self._last: tuple[str, str] | None = None

    def forget(self) -> None:
        """All is well: the next error is logged, whatever it is."""
        self._last = None

    def unless_failing(self, call: Callable[[], None]) -> Callable[[], None]:
        """A function that makes this call only if the last turn was completed: after another one the pause has its reason."""

        def call_unless_failing() -> None:
            if self._last is None:
                call()

        return call_unless_failing

    def record_turn(self, error: Exception) -> None:
        """A turn was not completed, and the next one follows."""
        if self._is_new(error):
            log.warning("turn not completed", source=self._source, error=type(error).__name__, message=str(error))

    def record_stall(self, error: Exception) -> None:
        """The source could not be set up, or has to be set up again."""
        if not self._is_new(error):
            return
        match error:
            case SourceRefused(reason=reason, message=message):
                log.error("source stalled", source=self._source, reason=reason, message=message)
            case DatabaseUnavailable() | RowsLocked():
                log.warning("set-up not completed", source=self._source, error=type(error).__name__, message=str(error))
            case _:
                log.error("source stalled by an unexpected error", source=self._source, exc_info=error)

    def _is_new(self, error: Exception) -> bool:
        """Whether this error has another kind or message than the one before."""
        before, self._last = self._last, (type(error).__name__, str(error))
        return self._last != before
