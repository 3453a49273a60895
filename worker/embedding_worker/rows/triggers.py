"""Creates and drops the triggers of a table, and finds out whether they are in force.

Called by schema.py when a source is set up, by watch.py while it runs, and by pause.py and release.py. Statements on the user's
table wait for its lock for 100 ms at most, because the application's statements queue up behind them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.change_marks import Trigger
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.session import LOCK_TIMEOUT
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import qualified
from embedding_worker.source import TableColumn

log = structlog.get_logger(__name__)

# Any constant that no other program uses in this database: the first 8 bytes of sha256("embedding-operator").
ADVISORY_LOCK = -0x45E1_AA4B_A7A3_9703
ADVISORY_LOCK_TIMEOUT = "2s"


@asynccontextmanager
async def schema_change(database: Database, *, timeout_s: float = 30.0) -> AsyncIterator[Transaction]:
    """A transaction that changes the schema. Of several replicas one does so at a time."""
    async with database.transaction(
        lock_timeout=ADVISORY_LOCK_TIMEOUT, statement_timeout_s=timeout_s, quoting=True
    ) as transaction:
        await transaction.fetch("SELECT pg_advisory_xact_lock($1::bigint)", ADVISORY_LOCK)
        await transaction.fetch("SELECT set_config('lock_timeout', $1, true)", LOCK_TIMEOUT)
        yield transaction


@dataclass(frozen=True)
class FoundTriggers:
    present: bool
    """At least one of the two exists."""
    in_force: bool
    """Both exist, are enabled, and call the function that this version creates."""
    replaceable: bool
    """The function is missing, or this role owns it."""
    droppable: bool
    """The same, or this role owns the schema."""


async def find_triggers(transaction: Transaction, statements: Statements, trigger: Trigger) -> FoundTriggers:
    found = await transaction.fetch(
        change_marks.TRIGGERS_FOUND, statements.layout.oid, list(trigger.names), trigger.body, trigger.function + "()"
    )
    return FoundTriggers(*found[0])


async def create_triggers(
    transaction: Transaction, statements: Statements, trigger: Trigger, found: FoundTriggers
) -> None:
    at = statements.config.at
    drop = () if found.replaceable else (trigger.drop,)
    for sql in (*drop, *trigger.create, *(trigger.enable_always if statements.layout.owned else ())):
        try:
            await transaction.fetch(sql)
        except SourceRefused as exc:
            raise trigger_not_creatable(at, exc.message) from exc
    log.info("trigger created", table=str(at))


async def drop_triggers(transaction: Transaction, at: TableColumn, trigger: Trigger) -> None:
    try:
        await transaction.fetch(trigger.drop)
    except SourceRefused as exc:
        raise trigger_not_droppable(at, trigger, exc.message) from exc
    log.info("trigger dropped", table=str(at))


def trigger_not_creatable(at: TableColumn, why: str) -> SourceRefused:
    return SourceRefused(
        "SchemaMissing",
        f"the trigger on {at} could not be created ({why}): GRANT TRIGGER ON {qualified(at)} to the operator's role, "
        "or set spec.changeDetection to Audit",
    )


def trigger_not_droppable(at: TableColumn, trigger: Trigger, why: str) -> SourceRefused:
    return SourceRefused(
        "Forbidden",
        f"the trigger on {at} could not be dropped ({why}): as the owner of the function {trigger.drop}, "
        "or set spec.changeDetection to Trigger",
    )
