"""Creates the loop of a source from the objects of the context. Called by the sources, for each source and each change of one."""

from functools import partial

from embedding_operator.context import Context
from embedding_operator.reconciler.registers import Peeker, SharedParts
from embedding_operator.reconciler.source_loop import SourceLoop
from embedding_operator.reconciler.source_setup import SourceSetup
from embedding_operator.reconciler.status_report import StatusReport
from embedding_operator.reconciler.turn import LoopSettings
from embedding_operator.reconciler.workers_job import make_workers
from embedding_operator.resources.embedding_source import EmbeddingSource


class LoopFactory:
    def __init__(self, context: Context) -> None:
        self._context = context
        self.peeker = Peeker(context.database, clock=context.clock)
        """Of the loops of all sources."""

    def source_loop(self, source: EmbeddingSource) -> SourceLoop:
        context, settings = self._context, self._context.settings
        workers = partial(
            make_workers, server=context.server, template=settings.backfill_pod_template, clock=context.clock
        )
        leads = context.leadership.may_start
        shared = SharedParts(
            context.server,
            context.jobs,
            workers,
            settings.audit_rows_per_s,
            leads,
            self.peeker,
            context.clock,
            settings.price_per_million_tokens,
        )
        setup = SourceSetup(context.database, context.providers, catalog=context.catalog, shared=shared)
        report = StatusReport(
            source, server=context.server, events=context.events, table=context.jobs.table, clock=context.clock
        )
        return SourceLoop(
            source,
            setup,
            report=report,
            queues=context.queues,
            window=context.jobs.window,
            metrics=context.metrics,
            settings=LoopSettings(settings.interval_s, settings.price_per_million_tokens, leads),
            clock=context.clock,
        )
