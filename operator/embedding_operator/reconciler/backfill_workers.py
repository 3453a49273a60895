"""What a backfill asks of the worker processes that run it elsewhere. Implemented where the chart enables them."""

from typing import Protocol

from embedding_worker.rows.backfills import BackfillRun


class Workers(Protocol):
    """The worker processes of one source."""

    async def ensure(self, run: BackfillRun) -> None:
        """Have them run for this backfill, and none for an earlier one. What prevents it is `problem` afterwards."""
        ...

    async def remove(self) -> None:
        """Have none run. What prevents it is `problem` afterwards."""
        ...

    @property
    def problem(self) -> tuple[str, str] | None:
        """Reason and sentence, where they do not run as they should; None otherwise."""
        ...


class WorkersNotEnabled:
    """Where the chart has not enabled them: a source that asks for them says so, and waits."""

    def __init__(self) -> None:
        self.problem: tuple[str, str] | None = None

    async def ensure(self, run: BackfillRun) -> None:
        self.problem = (
            "WorkersNotEnabled",
            f"spec.backfill.workers is {run.settings.workers}, and this release may not create worker pods: set "
            "backfill.workers.enabled in the chart's values, or spec.backfill.workers to 0",
        )

    async def remove(self) -> None:
        self.problem = None
