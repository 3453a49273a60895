"""kopf, set up for us: which handlers it calls, how it connects, how patient it is. Called by the process.

Each setting that differs from kopf's own is here because of something that was seen to go wrong without it.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import kopf

from embedding_operator.api_server import ApiServer
from embedding_operator.handlers import embedding_job, embedding_source
from embedding_operator.handlers.context import Context
from embedding_operator.handlers.kopf_storage import NoDiffBase, StatusIsTheProgress
from embedding_operator.resources import GROUP, JOBS
from embedding_operator.resources.embedding_job import OPEN_SELECTOR

CONNECTIONS = 32


def registry(server: ApiServer, context: Context) -> kopf.OperatorRegistry:
    result = kopf.OperatorRegistry()

    @kopf.on.login(registry=result)
    async def login(**_: Any) -> kopf.AiohttpSession:
        # kopf closes the session that it was given, so it has one of its own; and a limit, which its own would not have.
        return kopf.AiohttpSession(
            server=server.host,
            default_namespace=server.namespace,
            aiohttp_session=server.new_session(limit=CONNECTIONS),
        )

    embedding_source.register(result, context)
    embedding_job.register(result, context)
    return result


def settings() -> kopf.OperatorSettings:
    result = kopf.OperatorSettings()
    result.posting.enabled = False  # a line of its log for every object would become an Event
    result.scanning.disabled = True  # it asks for rights on the whole cluster
    result.persistence.diffbase_storage = NoDiffBase()
    result.persistence.progress_storage = StatusIsTheProgress()
    result.watching.field_selectors[GROUP, JOBS] = OPEN_SELECTOR  # what is finished is never sent to us
    # A watch can die without a word: no side may keep a silent one for longer than these.
    result.watching.server_timeout = 300
    result.watching.client_timeout = 330
    result.watching.connect_timeout = 10
    result.networking.request_timeout = 30
    result.networking.connect_timeout = 10
    result.networking.error_backoffs = Forever()
    result.queueing.idle_timeout = 0.5  # a task for each object stays for so long after its last event
    result.queueing.exit_timeout = 0.5  # one that sleeps out a backoff would use all of it
    return result


class Forever:
    """kopf's backoffs without an end: an API server that is away for an hour does not end the operator."""

    def __iter__(self) -> Iterator[float]:
        yield from itertools.chain((0.2, 1, 2, 5, 10, 20), itertools.repeat(30))
