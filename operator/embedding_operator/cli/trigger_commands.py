"""`embedding-operator pause-triggers` and `resume-triggers`: for migrations and restores that the triggers would hinder.

Called by commands.py. The operator that runs notices both within ten seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import ValidationError

from embedding_operator.api_errors import ApiServerError
from embedding_operator.api_server import ApiServer
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.settings import Settings
from embedding_worker.errors import EmbeddingError, RowsLocked
from embedding_worker.rows import change_marks, pause
from embedding_worker.rows.database import Database
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.schema import configuration_on_record, prepare
from embedding_worker.source import SourceConfig, in_force

ATTEMPTS = 20
PAUSE_S = 0.5
"""The table may be in use: PostgreSQL is asked again and again for ten seconds, 100 ms each time."""
Result = TypeVar("Result")
Emit = Callable[[str], None]


class CommandFailed(Exception):
    """What is wrong, and what to do, in a sentence."""


async def run(settings: Settings, name: str, emit: Emit, *, resume: bool, dry_run: bool) -> int:
    """Pause or resume the triggers of this source, or emit the SQL that would do it. Returns the exit code."""
    try:
        source = await find_source(settings, name)
        async with Database(settings.database_url.get_secret_value(), max_connections=1) as database:
            command = resume_triggers if resume else pause_triggers
            await command(database, source, emit, dry_run=dry_run)
    except (CommandFailed, ApiServerError, EmbeddingError) as exc:
        emit(f"✗ {exc}")
        return 1
    return 0


async def find_source(settings: Settings, name: str) -> EmbeddingSource:
    """The source of this name in the operator's namespace. Raises CommandFailed and ApiServerError."""
    async with await ApiServer.connected(settings) as server:
        bodies = {body["metadata"]["name"]: body for body in await server.sources()}
        if name not in bodies:
            known = ", ".join(sorted(bodies)) or "none"
            raise CommandFailed(f"namespace {server.namespace} has no EmbeddingSource {name}: there is {known}")
    try:
        return parse_source(bodies[name])
    except ValidationError as exc:
        raise CommandFailed(f"EmbeddingSource {name} can't be understood, its CRD is of another version") from exc


async def pause_triggers(database: Database, source: EmbeddingSource, emit: Emit, *, dry_run: bool) -> None:
    at = source.spec.config().at
    if dry_run:
        emit(script(pause.pause_statements(at)))
        return
    since = await _patiently(lambda: pause.pause_triggers(database, at))
    emit(
        f"✓ the triggers of {at} are paused since {since.isoformat(timespec='seconds')}: edits are found by the audit only, "
        f"until embedding-operator resume-triggers {source.name}"
    )


async def resume_triggers(database: Database, source: EmbeddingSource, emit: Emit, *, dry_run: bool) -> None:
    at = source.spec.config().at
    config = await _config_in_force(database, source)
    if dry_run:
        statements, read = await inspect_table(database, config)
        trigger = change_marks.trigger(statements, read)
        always = trigger.enable_always if statements.layout.owned else ()
        emit(script((pause.resume_statement(at), *trigger.create, *always)))
        return
    await _patiently(lambda: pause.record_resumed(database, at))
    await _patiently(lambda: prepare(database, config))
    emit(f"✓ the triggers of {at} are in force again, and an audit of the whole table finds what was not recorded")


async def _config_in_force(database: Database, source: EmbeddingSource) -> SourceConfig:
    wanted = source.spec.config()
    record = await configuration_on_record(database, wanted.at)
    return in_force(wanted, record, approved=source.spec.approved_fingerprint)[0]


async def _patiently(change: Callable[[], Awaitable[Result]]) -> Result:
    for _ in range(ATTEMPTS):
        try:
            return await change()
        except RowsLocked:
            await asyncio.sleep(PAUSE_S)
    raise CommandFailed(
        "the table is in use, and its lock was not free for ten seconds: try again when no long transaction runs"
    )


def script(statements: tuple[str, ...]) -> str:
    return "\n".join(["BEGIN;", *(f"{statement};" for statement in statements), "COMMIT;"])
