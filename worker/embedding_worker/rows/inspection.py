"""Inspects a source's table: whether it can be served, and which columns its text reads. Creates nothing.

Called by schema.py before it creates anything, by readiness.py for the checks, and for a configuration that waits for approval.
So all of them find the same reasons against a table, and the same missing rights.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedding_worker.errors import SourceRefused
from embedding_worker.rows import change_marks
from embedding_worker.rows.adoption import IN_FORCE_AND_ADOPTABLE
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.expression import (
    EXPRESSION_FACTS,
    FUNCTION_FACTS,
    GENERATED_READS,
    OTHER_TABLES,
    TYPE_OF_VALUE,
    ExpressionFacts,
    FunctionFacts,
    OtherTable,
    columns_read,
    function_oids,
    no_expression,
    probe_view_sql,
    refuse_type,
    schema_denied,
    type_view_sql,
)
from embedding_worker.rows.rights import (
    LACKING,
    OWN_FACTS,
    OwnObjects,
    Right,
    own_tables,
    refuse_lacking,
    rights_in_own_schema,
    rights_on_table,
    rights_to_create_trigger,
)
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import accept_table, quoted
from embedding_worker.rows.table_facts import (
    APPLICATION_PATH,
    COLUMN_FACTS,
    DEFAULT_PATH,
    IS_IN_PATH,
    POLICIES,
    TABLE_FACTS,
    VECTOR_SCHEMA,
    ColumnFacts,
    TableFacts,
    VectorExtension,
)
from embedding_worker.source import ExistingVectors, SourceConfig, has_same_vectors

USE_PATH = "SELECT set_config('search_path', $1, true)"
PATH_ELEMENT = re.compile(r'"(?:[^"]|"")*"|[^\s",]+')


@dataclass(frozen=True)
class _Facts:
    """What the catalog says about a table that can be served."""

    table: TableFacts
    columns: dict[str, ColumnFacts]
    vector: VectorExtension | None
    statements: Statements
    own: OwnObjects


async def inspect_table(database: Database, config: SourceConfig) -> tuple[Statements, tuple[str, ...]]:
    """The statements for a configuration, and the columns that its text reads. Creates nothing.

    Raises SourceRefused if it can't be served or if rights are missing, then with all of them; RowsLocked or DatabaseUnavailable.
    """
    async with database.transaction(quoting=True) as transaction:
        facts = await _read_facts(transaction, config)
        missing = await _missing_rights(transaction, facts)
        read, of_text = await _find_columns_read(transaction, facts, missing)
        missing += of_text
        if facts.own.trigger_present and not missing:
            missing += await _missing_to_replace_trigger(transaction, facts, read)
        await transaction.undo()
    _refuse(facts, missing)
    return facts.statements, read


async def would_adopt(database: Database, config: SourceConfig) -> bool:
    """Whether the first audit in this configuration would adopt vectors, or is still to do so. Changes nothing."""
    if config.existing_vectors is not ExistingVectors.ADOPT:
        return False
    async with database.transaction() as transaction:
        (known,) = (await transaction.fetch(change_marks.SOURCES_EXIST))[0]
        record = await transaction.fetch(IN_FORCE_AND_ADOPTABLE, config.at.bookkeeping_name) if known else []
    return not record or (has_same_vectors(config, record[0][0]) and bool(record[0][1]))


def _refuse(facts: _Facts, missing: list[Right]) -> None:
    refuse_lacking(facts.statements, facts.table, missing, dimensions=facts.statements.config.model.dimensions)


async def _read_facts(transaction: Transaction, config: SourceConfig) -> _Facts:
    at = config.at
    found = await transaction.fetch(TABLE_FACTS, at.schema, at.table)
    table = TableFacts(*found[0]) if found else None
    rows = await transaction.fetch(COLUMN_FACTS, table.oid) if table else []
    columns = {row[0]: ColumnFacts(*row) for row in rows}
    extension = await transaction.fetch(VECTOR_SCHEMA)
    vector = VectorExtension(*extension[0]) if extension else None
    layout = accept_table(at, config.model.dimensions, table, columns, vector)
    policies = str((await transaction.fetch(POLICIES, layout.oid))[0][0]) if layout.row_security else ""
    assert table is not None  # otherwise accept_table has raised
    path = await _application_path(transaction, at.schema, table.role)
    statements = Statements(config, replace(layout, search_path=path, policies=policies))
    own = await _own_objects(transaction, statements, change_marks.trigger(statements, ()))
    return _Facts(table, columns, vector, statements, own)


async def _application_path(transaction: Transaction, schema: str, role: str) -> str:
    """The path of the application, followed by the table's schema if it is not in it."""
    await transaction.fetch(DEFAULT_PATH)
    (found,) = (await transaction.fetch(APPLICATION_PATH))[0]
    path = _without_own_schema(found, role)
    await transaction.fetch(USE_PATH, path)
    (is_in_path,) = (await transaction.fetch(IS_IN_PATH, schema))[0]
    await transaction.fetch(USE_PATH, "pg_catalog")
    return path if is_in_path else ", ".join(part for part in (path, quoted(schema)) if part)


def _without_own_schema(path: str, role: str) -> str:
    """A search_path in which no name of the application's means a table of the operator's, such as `usage`.

    The element "$user" is the schema with the name of the role, and the README gives the role the name of the operator's schema.
    """
    own = {SCHEMA, "$user"} if role == SCHEMA else {SCHEMA}
    return ", ".join(element for element in PATH_ELEMENT.findall(path) if _path_name(element) not in own)


def _path_name(element: str) -> str:
    return element[1:-1].replace('""', '"') if element.startswith('"') else element.lower()


async def _own_objects(transaction: Transaction, statements: Statements, trigger: change_marks.Trigger) -> OwnObjects:
    names = list(own_tables(statements.config.at))
    found = await transaction.fetch(OWN_FACTS, names, trigger.function_name, statements.layout.oid, list(trigger.names))
    database_oid, schema_oid, tables, oids, function_oid, triggers = found[0]
    present = triggers == len(trigger.names)
    return OwnObjects(database_oid, schema_oid, dict(zip(tables, oids, strict=True)), function_oid, present)


async def _lacking(transaction: Transaction, rights: Sequence[Right]) -> list[Right]:
    """Those of these rights that the role does not have."""
    found = await transaction.fetch(
        LACKING,
        [right.kind for right in rights],
        [right.oid for right in rights],
        [right.privilege for right in rights],
        [right.column for right in rights],
    )
    return [rights[number - 1] for (number,) in found]


async def _missing_rights(transaction: Transaction, facts: _Facts) -> list[Right]:
    """All that are missing whatever the text reads."""
    statements, table, own = facts.statements, facts.table, facts.own
    embedding = facts.columns.get(statements.config.at.embedding_column)
    needed = rights_on_table(statements, table, embedding, facts.vector, own)
    if not own.trigger_present:
        needed += rights_to_create_trigger(statements, table, own, change_marks.trigger(statements, ()))
    return await _lacking(transaction, [*needed, *rights_in_own_schema(statements, table, own)])


async def _missing_to_replace_trigger(transaction: Transaction, facts: _Facts, read: tuple[str, ...]) -> list[Right]:
    """What is missing if the trigger on record reads other columns than the text."""
    statements = facts.statements
    trigger = change_marks.trigger(statements, read)
    known = facts.own.tables.get("sources")
    record = await transaction.fetch(change_marks.SOURCE_RECORD, statements.config.at.bookkeeping_name) if known else []
    if record and record[0][0] == trigger.definition:
        return []
    return await _lacking(transaction, rights_to_create_trigger(statements, facts.table, facts.own, trigger))


async def _find_columns_read(
    transaction: Transaction, facts: _Facts, missing: list[Right]
) -> tuple[tuple[str, ...], list[Right]]:
    """The columns that the text reads, and the rights that it needs and the role does not have.

    Raises SourceRefused: if other rights are missing, with these, because they may be why the expression can't be parsed.
    """
    statements, config, oid = facts.statements, facts.statements.config, facts.table.oid
    await transaction.fetch(USE_PATH, statements.layout.search_path)
    try:
        await transaction.fetch(probe_view_sql(config))
    except SourceRefused as exc:
        if (schema := schema_denied(exc.message)) is not None:
            missing = [*missing, Right("schema", 0, quoted(schema), "USAGE")]
        _refuse(facts, missing)
        raise no_expression(config, exc.message, statements.layout.search_path) from exc
    await transaction.fetch(USE_PATH, "pg_catalog")
    tree, numbers = (await transaction.fetch(EXPRESSION_FACTS, oid))[0]
    functions = [FunctionFacts(*row) for row in await transaction.fetch(FUNCTION_FACTS, function_oids(tree))]
    others = [OtherTable(*row) for row in await transaction.fetch(OTHER_TABLES, oid)]
    expression = ExpressionFacts(tree, frozenset(numbers), tuple(others))
    generated = await _generated_reads(transaction, facts)
    read = columns_read(config, expression, functions, facts.columns, generated, table_oid=oid)
    await _refuse_type(transaction, statements)
    return read, await _lacking(transaction, _rights_of_text(functions, others))


async def _refuse_type(transaction: Transaction, statements: Statements) -> None:
    """Raises SourceRefused if no value of the expression is a text."""
    await transaction.fetch(USE_PATH, statements.layout.search_path)
    for sql in type_view_sql(statements.config):
        await transaction.fetch(sql)
    await transaction.fetch(USE_PATH, "pg_catalog")
    of_type, has_no_words = (await transaction.fetch(TYPE_OF_VALUE))[0]
    if has_no_words:
        raise refuse_type(of_type)


def _rights_of_text(functions: list[FunctionFacts], others: list[OtherTable]) -> list[Right]:
    execute = [Right("function", function.oid, function.signature, "EXECUTE") for function in functions]
    return [*execute, *(Right("table", other.oid, other.name, "SELECT") for other in others)]


async def _generated_reads(transaction: Transaction, facts: _Facts) -> dict[int, frozenset[int]]:
    generated = {column.number for column in facts.columns.values() if column.generated}
    reads: dict[int, frozenset[int]] = {}
    for number, source in await transaction.fetch(GENERATED_READS, facts.table.oid):
        if number in generated:  # a plain default may read nothing of the row, a generated column does
            reads[number] = reads.get(number, frozenset()) | {source}
    return reads
