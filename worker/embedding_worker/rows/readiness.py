"""Checks from the catalog whether a database, and a source's table in it, meet what preparation needs. Creates nothing.

Called by `embedding-operator check`. The decisions are pure functions of facts; two small functions read the facts.
"""

from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.schema import (
    refuse_another_id_type,
    schema_not_creatable,
    trigger_not_creatable,
    trigger_not_droppable,
)
from embedding_worker.rows.statements import SCHEMA, Statements
from embedding_worker.source import SourceConfig

OLDEST_POSTGRESQL = 14
"""The first version with CREATE OR REPLACE TRIGGER."""
OLDEST_PGVECTOR = (0, 7)
"""The first version with halfvec."""

MAY_CREATE = f"""
CASE WHEN to_regnamespace('{SCHEMA}') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
     ELSE has_schema_privilege('{SCHEMA}', 'USAGE') AND has_schema_privilege('{SCHEMA}', 'CREATE') END
"""
DATABASE_FACTS = f"""
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database()::text,
       current_user::text,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'),
       EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = 'vector'),
       to_regnamespace('{SCHEMA}') IS NOT NULL,
       {MAY_CREATE}"""
BOOKKEEPING_USABLE = """
SELECT bool_and(has_table_privilege(t.name, p.privilege))
FROM unnest($1::text[], $2::text[]) t(name, privileges), unnest(string_to_array(t.privileges, ' ')) p(privilege)
WHERE to_regclass(t.name) IS NOT NULL
"""


@dataclass(frozen=True)
class DatabaseFacts:
    version_number: int
    """server_version_num: 160004 for 16.4."""
    version: str
    name: str
    role: str
    vector: str | None
    """The version of pgvector in this database; None if it is not installed there."""
    vector_available: bool
    """The server has it, so that CREATE EXTENSION would succeed."""
    schema_exists: bool
    may_create: bool
    """The role may create the schema, or tables in it if it exists."""


async def database_facts(database: Database) -> DatabaseFacts:
    """Raises DatabaseUnavailable."""
    async with database.transaction(quoting=True) as transaction:
        return DatabaseFacts(*(await transaction.fetch(DATABASE_FACTS))[0])


def supported_server(facts: DatabaseFacts) -> str:
    """The server and the role, in words. Raises SourceRefused if the server is too old."""
    if facts.version_number < OLDEST_POSTGRESQL * 10_000:
        raise SourceRefused(
            "PostgresTooOld",
            f"PostgreSQL {facts.version} is older than {OLDEST_POSTGRESQL}, which is needed: upgrade the server",
        )
    return f"PostgreSQL {facts.version}, as role {facts.role!r} in database {facts.name!r}"


def usable_vector(facts: DatabaseFacts) -> str:
    """pgvector's version. Raises SourceRefused if there is none, or it is too old."""
    if facts.vector is None:
        remedy = (
            f"CREATE EXTENSION vector in database {facts.name!r}, as a superuser"
            if facts.vector_available
            else f"install pgvector on the server, then CREATE EXTENSION vector in database {facts.name!r}"
        )
        raise SourceRefused("VectorMissing", f"the extension is not in the database: {remedy}")
    oldest = ".".join(map(str, OLDEST_PGVECTOR))
    if tuple(int(part) for part in facts.vector.split(".")[:2]) < OLDEST_PGVECTOR:
        raise SourceRefused(
            "VectorTooOld",
            f"version {facts.vector} is older than {oldest}, which is needed: ALTER EXTENSION vector UPDATE",
        )
    return facts.vector


def creatable_schema(facts: DatabaseFacts) -> str:
    """Whether the operator's schema exists, in words. Raises SourceRefused if it can't be created.

    If it exists but nothing can be created in it, the check of a source whose tables are missing says so.
    """
    if facts.schema_exists:
        return "is there" if facts.may_create else "is there, and the role may create no table in it"
    if not facts.may_create:
        raise schema_not_creatable(f"it has no CREATE on database {facts.name!r}")
    return "is not there yet, and the role may create it"


async def ready_for(database: Database, config: SourceConfig) -> str:
    """What preparation would do with the source's table, in words. Creates nothing.

    Raises SourceRefused where preparation would, as far as the catalog shows; RowsLocked or DatabaseUnavailable.
    """
    statements, read = await inspect_table(database, config)
    trigger, layout, at = change_marks.trigger(statements, read), statements.layout, config.at
    async with database.transaction(quoting=True) as transaction:
        known = await _bookkeeping_usable(transaction, statements)
        record = await transaction.fetch(change_marks.SOURCE_RECORD, at.bookkeeping_name) if known else []
        rows = await transaction.fetch(change_marks.TRIGGERS_PRESENT, layout.oid, list(trigger.names))
    present = {name for name, _ in rows}
    definition = record[0][0] if record else None
    refuse_triggers_beyond_rights(statements, trigger, present=present, definition=definition)
    column = "is to be added" if layout.column_missing else "is there"
    return f"{at} can be kept fresh, column {at.embedding_column} {column}"


async def _bookkeeping_usable(transaction: Transaction, statements: Statements) -> bool:
    """Whether the shared tables exist. Raises SourceRefused if this role can't use what exists, or can't create what is
    missing.
    """
    (schema_exists,) = (await transaction.fetch(change_marks.SCHEMA_EXISTS))[0]
    known, own, id_type = False, False, None
    if schema_exists:
        facts = await transaction.fetch(change_marks.BOOKKEEPING_EXISTS, statements.marks, statements.state)
        known, own, id_type = facts[0]
    refuse_another_id_type(statements, id_type)
    (may_create,) = (await transaction.fetch(f"SELECT {MAY_CREATE}"))[0]
    if not (known and own) and not may_create:
        raise schema_not_creatable(f"its tables for {statements.config.at} are missing, and it has no CREATE")
    written, emptied = "SELECT INSERT UPDATE", "SELECT INSERT UPDATE DELETE"
    needed = {
        f"{SCHEMA}.sources": written,
        f"{SCHEMA}.usage": written,
        statements.marks: emptied,
        statements.state: emptied,
    }
    asked = (
        await transaction.fetch(BOOKKEEPING_USABLE, list(needed), list(needed.values())) if schema_exists else [(None,)]
    )
    (usable,) = asked[0]
    if usable is False:  # null: there are none yet
        raise SourceRefused(
            "Forbidden",
            f"the operator's role may not use the tables in schema {SCHEMA}, which another role has created: "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {SCHEMA} TO it",
        )
    return bool(known)


def refuse_triggers_beyond_rights(
    statements: Statements, trigger: change_marks.Trigger, *, present: set[str], definition: str | None
) -> None:
    """Raises SourceRefused if triggers would have to be created or dropped, and the role may not do that."""
    at, layout = statements.config.at, statements.layout
    if change_marks.wants_trigger(statements):
        as_wanted = present == set(trigger.names) and definition == trigger.definition
        if not as_wanted and not layout.may_trigger:
            raise trigger_not_creatable(at, f"it has no TRIGGER on {at}")
    elif present and not layout.owned:
        raise trigger_not_droppable(at, trigger, f"it does not own {at}")
