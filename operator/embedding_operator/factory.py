"""Creates sources, job runner, housekeeping and rotation from the objects of the context. Called by process.py."""

from embedding_operator.context import Context
from embedding_operator.loop_factory import LoopFactory
from embedding_operator.reconciler.api_server_watch import ApiServerWatch
from embedding_operator.reconciler.deleted_sources import DeletedSources
from embedding_operator.reconciler.housekeeping import Expiry, Housekeeping
from embedding_operator.reconciler.job_records import JobRecords
from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.reconciler.job_statuses import JobStatuses
from embedding_operator.reconciler.row_explainer import Lead, RowExplainer
from embedding_operator.reconciler.sources import Sources
from embedding_operator.rotation import Rotation, make_rotation
from embedding_operator.settings import DATABASE_URL


class Factory:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._loops = LoopFactory(context)
        self.peeker = self._loops.peeker

    def sources(self) -> Sources:
        context = self._context
        return Sources(
            self._loops.source_loop,
            catalog=context.catalog,
            queues=context.queues,
            jobs=context.jobs,
            metrics=context.metrics,
            server=context.server,
            deleted=self.deleted_sources(),
        )

    def deleted_sources(self) -> DeletedSources:
        context = self._context
        return DeletedSources(
            context.database,
            context.server,
            context.events,
            clock=context.clock,
            may_work=context.leadership.may_start,
        )

    def job_runner(self, sources: Sources) -> JobRunner:
        context = self._context
        table = context.jobs.table
        return JobRunner(
            table,
            JobStatuses(context.server, table, clock=context.clock),
            context.queues,
            context.catalog,
            records=JobRecords(context.metrics, context.events, job_done=sources.job_done, clock=context.clock),
            clock=context.clock,
            may_work=context.leadership.may_start,
        )

    def housekeeping(self, sources: Sources) -> Housekeeping:
        context, settings = self._context, self._context.settings
        return Housekeeping(
            context.server,
            sources,
            catalog=context.catalog,
            jobs=context.jobs,
            expiry=Expiry(settings.max_finished_jobs, settings.finished_job_age_s),
            clock=context.clock,
            may_work=context.leadership.may_start,
        )

    def api_server_watch(self, sources: Sources, housekeeping: Housekeeping) -> ApiServerWatch:
        def go_on() -> None:
            housekeeping.resync_soon()
            sources.retry_all()

        return ApiServerWatch(self._context.server, on_return=go_on, clock=self._context.clock)

    def row_explainer(self, sources: Sources) -> RowExplainer:
        context, leadership = self._context, self._context.leadership
        lead = Lead(leadership.may_start, lambda: leadership.holder)
        return RowExplainer(sources, server=context.server, jobs=context.jobs, lead=lead, clock=context.clock)

    def rotation(self, sources: Sources) -> Rotation:
        """The rotation of the secrets that are mounted as files, which puts a new value in force without a restart."""
        context = self._context

        async def rotate(variable: str, value: str) -> None:
            if variable == DATABASE_URL:
                await context.database.move_to(value)
                return
            await context.providers.rotate(variable, value)
            sources.retry_all()

        async def rotate_key(ref: str, value: str) -> None:
            await context.providers.rotate_key(ref, value)
            sources.retry_all()

        secrets, keys = context.settings.mounted_secrets(), context.settings.mounted_keys(context.providers.keys)
        return make_rotation(secrets, keys, rotate=rotate, rotate_key=rotate_key, clock=context.clock)
