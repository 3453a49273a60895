"""Inspects a source's table: whether it can be served, and which columns its text reads. Creates nothing.

Called by schema.py before it creates anything, by readiness.py for the checks, and for a configuration that waits for approval.
"""

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.database import Database, Transaction
from embedding_worker.rows.expression import (
    EXPRESSION_FACTS,
    FUNCTION_FACTS,
    GENERATED_READS,
    ExpressionFacts,
    FunctionFacts,
    columns_read,
    function_oids,
    probe_view_sql,
    reads_other_rows,
)
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import (
    COLUMN_FACTS,
    TABLE_FACTS,
    VECTOR_SCHEMA,
    ColumnFacts,
    TableFacts,
    TableLayout,
    accept_table,
    quoted,
)
from embedding_worker.source import SourceConfig


def search_path(config: SourceConfig) -> tuple[str, ...]:
    """Where a text expression finds functions: the table's own schema, then public. PostgreSQL searches pg_catalog first."""
    return tuple(dict.fromkeys((quoted(config.at.schema), "public")))


async def inspect_table(database: Database, config: SourceConfig) -> tuple[Statements, tuple[str, ...]]:
    """The statements for a configuration, and the columns that its text reads. Creates nothing.

    Raises SourceRefused if it can't be served, RowsLocked or DatabaseUnavailable.
    """
    async with database.transaction(search_path=search_path(config), quoting=True) as transaction:
        layout, columns = await _read_facts(transaction, config)
        read = await _find_columns_read(transaction, config, layout, columns)
        await transaction.undo()
    return Statements(config, layout), read


async def _read_facts(transaction: Transaction, config: SourceConfig) -> tuple[TableLayout, dict[str, ColumnFacts]]:
    at = config.at
    found = await transaction.fetch(TABLE_FACTS, at.schema, at.table)
    table = TableFacts(*found[0]) if found else None
    rows = await transaction.fetch(COLUMN_FACTS, table.oid) if table else []
    columns = {row[0]: ColumnFacts(*row) for row in rows}
    vector_schema = await transaction.fetch(VECTOR_SCHEMA)
    layout = accept_table(at, config.model.dimensions, table, columns, vector_schema[0][0] if vector_schema else None)
    return layout, columns


async def _find_columns_read(
    transaction: Transaction, config: SourceConfig, layout: TableLayout, columns: dict[str, ColumnFacts]
) -> tuple[str, ...]:
    try:
        await transaction.fetch(probe_view_sql(config))
    except SourceRefused as exc:
        raise SourceRefused(
            "TextRefused", f"spec.text is no expression over a row of {config.at}: {exc.message}"
        ) from exc
    tree, numbers, others = (await transaction.fetch(EXPRESSION_FACTS, layout.oid))[0]
    functions = [FunctionFacts(*row) for row in await transaction.fetch(FUNCTION_FACTS, function_oids(tree))]
    generated = {column.number for column in columns.values() if column.generated}
    reads: dict[int, frozenset[int]] = {}
    for number, source in await transaction.fetch(GENERATED_READS, layout.oid):
        if number in generated:  # a plain default may read nothing of the row, a generated column does
            reads[number] = reads.get(number, frozenset()) | {source}
    if reads_other_rows(tree, layout.oid):
        others = [*others, f"other rows of {config.at}"]
    facts = ExpressionFacts(tree, frozenset(numbers), tuple(others))
    return columns_read(config, facts, functions, columns, reads)
