"""Drops the triggers of sources that were deleted, so that nothing of theirs stays at the user's tables.

Called by sources.py at the deletion, and by a task of the process every minute, because a source may be deleted while the
operator or the database is away. Book-keeping and vectors stay.
"""

from collections.abc import Callable

import structlog

from embedding_operator.api_errors import ApiServerError
from embedding_operator.api_server import ApiServer
from embedding_operator.event_poster import EventPoster
from embedding_operator.lifecycle import events
from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError, RowsLocked
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Owner
from embedding_worker.rows.release import drop_triggers_of, release_owner, unseen_owners

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
ATTEMPTS = 5
PAUSE_S = 0.5
"""A table in use is given up after a few attempts, and is tried again within a minute."""


class DeletedSources:
    def __init__(
        self,
        database: Database,
        server: ApiServer,
        events: EventPoster,
        *,
        clock: Clock,
        may_work: Callable[[], bool] = lambda: True,
    ) -> None:
        """`may_work`: whether this process leads, and so may drop triggers of sources that it does not see."""
        self._may_work = may_work
        self._database = database
        self._server = server
        self._events = events
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._may_work():
                    await self.release_unseen()
            except Exception:  # a bug, which must not end the task
                log.exception("deleted sources not looked for by an unexpected error")
            await self._clock.sleep(LOOK_EVERY_S)

    async def release_unseen(self) -> None:
        """Release what belongs to sources of this cluster and namespace that no longer exist.

        Sources of another cluster with a namespace of the same name do not exist here either, and may well be in use there.
        Errors are logged, and it is tried again.
        """
        try:
            existing = {body["metadata"].get("uid") for body in await self._server.sources()}
            owners = await unseen_owners(self._database)
        except (ApiServerError, EmbeddingError) as exc:
            log.info("deleted sources not looked for", message=str(exc))
            return
        here = (self._server.cluster, self._server.namespace)
        for owner in owners:
            if (owner.cluster, owner.namespace) == here and owner.uid not in existing:
                await self.release(owner.name, owner.uid)

    async def release(self, name: str, uid: str) -> None:
        """Free the book-keeping of a deleted source, and drop its triggers. Errors are logged, and it is tried again."""
        owner = Owner(self._server.namespace, name, uid, self._server.cluster)
        try:
            for bookkeeping in await release_owner(self._database, owner):
                await self._drop(bookkeeping, owner)
        except EmbeddingError as exc:
            log.warning("triggers of a deleted source not dropped yet", source=name, message=str(exc))

    async def _drop(self, bookkeeping: str, owner: Owner) -> None:
        for left in reversed(range(ATTEMPTS)):
            try:
                sql = await drop_triggers_of(self._database, bookkeeping, owner)
            except RowsLocked:
                if not left:
                    raise
                await self._clock.sleep(PAUSE_S)
                continue
            if sql is not None:
                log.error(
                    "triggers of a deleted source not dropped", source=owner.name, run_as_owner_of_the_function=sql
                )
                self._events.emit(events.triggers_left(owner.name, owner.uid, sql))
            return
