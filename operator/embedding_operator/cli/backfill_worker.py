"""`embedding-operator backfill-worker`: embeds a share of the backlog of one source, beside other such processes.

Called by commands.py, in the pods of a Job or by hand. It needs the database and the provider only. It never asks the API server,
so that its pod needs no service account.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

import structlog

from embedding_operator.rotation import Rotation, make_rotation
from embedding_operator.settings import DATABASE_URL, Settings, pod_namespace
from embedding_operator.tasks import cancel_and_wait, end_process_after, unless_set
from embedding_worker.backfill_worker import BackfillWorker
from embedding_worker.clock import Clock, SystemClock
from embedding_worker.errors import SourceRefused
from embedding_worker.patience import until_answered
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import ProviderRegistry
from embedding_worker.rows.backfills import BackfillRecords, BackfillRun, BackfillSettings
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.database import Database

log = structlog.get_logger(__name__)

DONE, FAILED, UNUSABLE, STOPPED = 0, 1, 2, 143
"""Exit codes. After SIGTERM it must not be 0, which would tell Kubernetes that the share is done."""
EXIT_WITHIN_S = 19.5
"""From the signal to the exit, also where a task or a thread does not end. Less than a pod's grace period (25 s or more)."""


@dataclass(frozen=True)
class Wanted:
    """What the arguments say."""

    source: str
    index: int | None
    workers: int | None = None
    """How many shares there are; None: as many as the backfill has on record."""
    run: str = ""
    """The only backfill to work on; empty: the active one."""


class ArgumentRefused(Exception):
    """What is wrong, and what to do, in a sentence."""


def full_name(source: str, namespace: str | None) -> str:
    """The source as `namespace/name`. Raises ArgumentRefused."""
    given, _, name = source.rpartition("/")
    if not name or "/" in given:
        raise ArgumentRefused(f"SOURCE is {source!r}: write it as NAMESPACE/NAME")
    if not (namespace := given or namespace or ""):
        raise ArgumentRefused(f"SOURCE is {source!r}, without a namespace: write it as NAMESPACE/{name}")
    return f"{namespace}/{name}"


def share_of(wanted: Wanted, settings: BackfillSettings) -> Share:
    """The share to work on. Raises ArgumentRefused."""
    if not settings.are_of_this_version:
        raise ArgumentRefused(
            f"the backfill was begun by a version that hashes vectors in another way ({settings.hashed_by or 'an earlier one'}): "
            "run the operator and its workers from one image"
        )
    workers = wanted.workers or settings.workers
    if not workers:
        raise ArgumentRefused("this backfill runs in the operator itself: set spec.backfill.workers of the source")
    if wanted.index is None:
        raise ArgumentRefused("--index is missing, and JOB_COMPLETION_INDEX is not set: say which share to work on")
    if wanted.index >= workers:
        raise ArgumentRefused(f"--index is {wanted.index}, but there are {workers} shares, from 0 to {workers - 1}")
    return Share(wanted.index, workers)


async def run(settings: Settings, wanted: Wanted, stop: asyncio.Event) -> int:
    """Work until nothing is left to do, or until told to stop. Returns the exit code."""
    guard = asyncio.create_task(end_process_after(stop, seconds=EXIT_WITHIN_S, code=STOPPED), name="guard of the exit")
    clock = SystemClock()
    try:
        source = full_name(wanted.source, settings.namespace or pod_namespace())
        structlog.contextvars.bind_contextvars(source=source)
        async with Database(settings.database_url.get_secret_value()) as database:
            return await _run(settings, database, wanted, source, stop=stop, clock=clock)
    except ArgumentRefused as exc:
        log.error("backfill worker not started", message=str(exc))
        return UNUSABLE
    except SourceRefused as exc:
        log.error("backfill worker has failed", reason=exc.reason, message=exc.message)
        return FAILED
    except Exception as exc:
        log.error("backfill worker has failed", exc_info=exc)
        return FAILED
    finally:
        guard.cancel()


async def _run(
    settings: Settings, database: Database, wanted: Wanted, source: str, *, stop: asyncio.Event, clock: Clock
) -> int:
    found = await unless_set(stop, _find_run(database, source, clock))
    if stop.is_set():
        return STOPPED
    if found is None or wanted.run not in ("", found.run):
        log.info("there is nothing to do: no such backfill is active", run=wanted.run)
        return DONE
    share = share_of(wanted, found.settings)
    structlog.contextvars.bind_contextvars(worker=share.index, run=found.run)
    providers = ProviderRegistry(settings.credentials(), clock=clock, observer=NoObserver())
    worker = BackfillWorker(database, providers, found, share, clock=clock)
    rotating = asyncio.create_task(_rotation(settings, database, providers, clock).run(), name="rotation")
    log.info("backfill worker started", workers=share.of, table=str(found.settings.config.at))
    try:
        await worker.run(stop)
    finally:
        await cancel_and_wait(rotating)
    progress = worker.progress
    log.info("backfill worker ended", over=worker.is_over, done=progress.done, failed=progress.failed)
    return DONE if worker.is_over else STOPPED


async def _find_run(database: Database, source: str, clock: Clock) -> BackfillRun | None:
    finding = partial(BackfillRecords(database).of_source, source)
    return await until_answered("read which backfill is active", finding, clock=clock)


def _rotation(settings: Settings, database: Database, providers: ProviderRegistry, clock: Clock) -> Rotation:
    """Puts a new value of a secret that is mounted as a file in force, as in the operator."""

    async def rotate(variable: str, value: str) -> None:
        if variable == DATABASE_URL:
            await database.move_to(value)
        else:
            await providers.rotate(variable, value)

    secrets, keys = settings.mounted_secrets(), settings.mounted_keys(providers.keys)
    return make_rotation(secrets, keys, rotate=rotate, rotate_key=providers.rotate_key, clock=clock)
