"""The handler of an open EmbeddingJob: parses it and has the job runner take its next step.

kopf calls it for every job that is open: new, found at a restart, replayed, touched, or at the end of a pause. The runner
sends the status itself, so kopf's own patch stays empty.
"""

from typing import Any

import kopf
import structlog
from pydantic import ValidationError

from embedding_operator.reconciler.job_runner import JobRunner
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN, Phase, parse_job

log = structlog.get_logger(__name__)


def register(registry: kopf.OperatorRegistry, runner: JobRunner) -> None:
    def is_open(body: kopf.Body, **_: Any) -> bool:
        return body.get("status", {}).get("phase", Phase.PENDING) in OPEN

    @kopf.on.create(GROUP, VERSION, JOBS, registry=registry, id="embed", when=is_open)
    async def embed(body: kopf.Body, name: str, **_: Any) -> None:
        try:
            job = parse_job(body)
        except ValidationError as exc:  # a CRD older or newer than this operator
            log.error("job not understood", job=name, problems=exc.error_count())
            return
        await runner.run(job)
