"""Pauses and resumes the triggers of a source, for migrations and restores that they would hinder.

Called by `embedding-operator pause-triggers` and `resume-triggers`. While they are paused, only the audit finds edits.
"""

from datetime import datetime

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.triggers import schema_change
from embedding_worker.source import TableColumn

PAUSE = f"""
UPDATE {SCHEMA}.sources SET triggers_paused_at = coalesce(triggers_paused_at, now()), trigger_definition = '',
       adoptable = false
WHERE bookkeeping = $1 RETURNING triggers_paused_at
"""
RESUME = f"UPDATE {SCHEMA}.sources SET triggers_paused_at = NULL, filled_for = NULL WHERE bookkeeping = $1"


def pause_statements(at: TableColumn) -> tuple[str, str]:
    """What `pause_triggers` runs, with the name of the book-keeping in place."""
    named = PAUSE.replace("$1", change_marks.literal(at.bookkeeping_name)).split(" RETURNING")[0]
    drop = change_marks.drop_triggers(change_marks.marking_function(at.bookkeeping_name))
    return " ".join(named.split()), drop


def resume_statement(at: TableColumn) -> str:
    return RESUME.replace("$1", change_marks.literal(at.bookkeeping_name))


async def pause_triggers(database: Database, at: TableColumn) -> datetime:
    """Drop the triggers, and record that they are not to be created again. Returns since when they are paused.

    Raises SourceRefused if the table has no book-keeping yet, or if the function belongs to another role; RowsLocked.
    """
    async with schema_change(database) as transaction:
        paused = await transaction.fetch(PAUSE, at.bookkeeping_name)
        if not paused:
            raise never_set_up(at)
        _, drop = pause_statements(at)
        await transaction.fetch(drop)
    since: datetime = paused[0][0]
    return since


def never_set_up(at: TableColumn) -> SourceRefused:
    return SourceRefused(
        "NotSetUp", f"no operator has set up {at}.{at.embedding_column} in this database: check DATABASE_URL"
    )


async def record_resumed(database: Database, at: TableColumn) -> None:
    """The triggers are to be created by the next set-up, and a full audit is to follow."""
    async with schema_change(database) as transaction:
        await transaction.fetch(RESUME, at.bookkeeping_name)
