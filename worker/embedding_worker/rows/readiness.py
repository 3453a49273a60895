"""Checks from the catalog whether a database, and a source's table in it, meet what preparation needs. Creates nothing.

Called by `embedding-operator check`. The decisions are pure functions of facts; two small functions read the facts.
"""

from dataclasses import dataclass

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.ownership import Claim
from embedding_worker.rows.schema import owner_on_record, refuse_foreign
from embedding_worker.rows.table import quoted
from embedding_worker.rows.triggers import find_triggers, trigger_not_droppable
from embedding_worker.source import SourceConfig, TableColumn

OLDEST_POSTGRESQL = 14
"""The first version with CREATE OR REPLACE TRIGGER."""
OLDEST_PGVECTOR = (0, 7)
"""The first version with halfvec."""

DATABASE_FACTS = f"""
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_database()::text,
       current_user::text,
       (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'vector'),
       EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = 'vector'),
       to_regnamespace('{SCHEMA}') IS NOT NULL,
       coalesce(has_schema_privilege(to_regnamespace('{SCHEMA}')::oid, 'USAGE'), false),
       CASE WHEN to_regnamespace('{SCHEMA}') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE has_schema_privilege(to_regnamespace('{SCHEMA}')::oid, 'CREATE') END"""
# Of a publication of all tables, the subscribers wait until they have the tables that the operator creates.
PUBLISHED = """
SELECT string_agg('publication ' || quote_ident(p.pubname), ', ') FROM pg_publication p
WHERE p.puballtables AND to_regclass($1) IS NULL
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
    may_enter: bool
    """The role has USAGE on the schema."""
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
    """Whether the operator's schema exists, in words. Raises SourceRefused if it can't be used, or can't be created.

    If it exists but nothing can be created in it, the check of a source whose tables are missing says so.
    """
    role = quoted(facts.role)
    if not facts.schema_exists:
        if facts.may_create:
            return "is not there yet, and the role may create it"
        grant = f"GRANT CREATE ON DATABASE {quoted(facts.name)} TO {role}"
        raise SourceRefused(
            "SchemaMissing",
            f"it is not there, and role {role} may not create it: {grant}, or CREATE SCHEMA {SCHEMA} AUTHORIZATION {role}",
        )
    if not facts.may_enter:
        raise SourceRefused(
            "Forbidden",
            f"it is there, and role {role} may not use it: GRANT USAGE, CREATE ON SCHEMA {SCHEMA} TO {role}",
        )
    return "is there" if facts.may_create else "is there, and the role may create no table in it"


async def is_owner(database: Database, at: TableColumn, claim: Claim) -> bool:
    """Whether the source is the one to which the book-keeping belongs already."""
    recorded = await owner_on_record(database, at)
    return recorded is not None and recorded.owner == claim.owner


async def ready_for(database: Database, config: SourceConfig, claim: Claim | None = None) -> str:
    """What preparation would do with the source's table, in words. Creates nothing.

    Raises SourceRefused where preparation would, as far as the catalog shows; RowsLocked or DatabaseUnavailable.
    """
    statements, read = await inspect_table(database, config)
    trigger, layout, at = change_marks.trigger(statements, read), statements.layout, config.at
    await refuse_foreign(database, at, claim)
    async with database.transaction(quoting=True) as transaction:
        published = (await transaction.fetch(PUBLISHED, statements.marks))[0][0]
        found = await find_triggers(transaction, statements, trigger)
    if found.present and not found.droppable and not change_marks.wants_trigger(statements):
        raise trigger_not_droppable(at, trigger, f"the role does not own function {trigger.function}")
    column = "is to be added" if layout.column_missing else "is there"
    copied = f"; {published} publishes all tables: copy schema {SCHEMA} to the subscribers when it has been created"
    return f"{at} can be kept fresh, column {at.embedding_column} {column}" + (copied if published else "")
