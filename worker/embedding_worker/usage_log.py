"""Gathers what is known of calls after they have succeeded, and has it recorded together (see later_log.py).

Created by pipeline.py for each source; filled by providers/calls.py with the tokens that the provider has reported, and by
embedding.py with the number of texts that were cut. If the process dies before that, the estimate of the tokens stays.
"""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from embedding_worker.clock import Clock
from embedding_worker.later_log import LaterLog
from embedding_worker.rows.records import UsageNote

log = structlog.get_logger(__name__)

RecordAll = Callable[[Sequence[UsageNote]], Awaitable[None]]


class UsageLog(LaterLog[UsageNote]):
    """The calls of one source."""

    def __init__(self, record: RecordAll, *, source: str, clock: Clock) -> None:
        """`source` is its name in the log."""
        super().__init__(record, what="usage", again=False, clock=clock)
        self._now = clock
        self._source = source
        self._told_on = ""

    def add_reported(self, counted_at: float, *, estimated: int, reported: int) -> None:
        """The provider has reported the tokens of a call that was counted at this moment (monotonic clock)."""
        self.add_item(UsageNote(counted_at, more_tokens=reported - estimated, reported=reported))

    def add_cut(self, texts: int) -> None:
        """So many texts were embedded of which only the beginning was sent. The first ones of a day (UTC) are logged."""
        self.add_item(UsageNote(self._now.monotonic(), cut=texts))
        today = f"{self._now.now():%Y-%m-%d}"
        if today != self._told_on:
            self._told_on = today
            log.warning(
                "texts are longer than the model accepts, and only their beginning is embedded: shorten spec.text, or set "
                "spec.model.tooLong to Refuse",
                source=self._source,
                texts=texts,
            )
