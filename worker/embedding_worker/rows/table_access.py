"""The access to one user's table: transactions with its settings, and the ids that its rows can have.

Called by store.py. What was found out about the table at the set-up is checked again where a wrong answer would lose marks.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from embedding_worker.errors import TableRefused
from embedding_worker.rows.database import Database, Row, Transaction
from embedding_worker.rows.derived_table import COLLATED
from embedding_worker.rows.each_row import separate
from embedding_worker.rows.failing_texts import BEGIN_SEARCH, FOUND, SEARCH
from embedding_worker.rows.inspection import inspect_table
from embedding_worker.rows.session import STATEMENT_TIMEOUT_S, Given
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import can_be_id
from embedding_worker.rows.table_facts import POLICIES
from embedding_worker.source import SourceConfig

READ_TIMEOUT_S = 10.0
"""For statements that evaluate texts: if one takes longer, it is repeated with fewer rows."""
BY_INDEX = (
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("plan_cache_mode", "force_custom_plan"),
)
"""The change marks may be analysed when there are none, and be millions a minute later: then PostgreSQL expects one, and would
read all of them for each page. The application's functions, which such a statement may call, are not compiled because of it (up
to PostgreSQL 17 a scan that is off costs 10,000,000,000), and keep no plan of it for others with the same connection."""
SEARCHED_AT_ONCE = 500
"""Some 0.2 s for each search, if all texts fail."""
REPRESENTS_EVERYTHING = ("UTF8", "SQL_ASCII")  # encodings of the server


def plain_array(items: Iterable[str]) -> str:
    """PostgreSQL's text form of an array of items without special characters: psycopg looks for these in each item of a list."""
    return f"{{{','.join(items)}}}"


class TableAccess:
    def __init__(self, database: Database, statements: Statements) -> None:
        self._database = database
        self._statements = statements

    @property
    def encoding(self) -> str:
        """The database's, known from the first transaction on."""
        return self._database.encoding

    def id_problem(self, row_id: str) -> str | None:
        """Why no row of the table can have this id, in a few words; None if a row can have it."""
        at, id_type = self._statements.config.at, self._statements.layout.id_type
        return None if can_be_id(id_type, row_id) else f"can't be one of {at}.{at.id_column}, which is {id_type}"

    async def possible(self, ids: Iterable[str]) -> list[str]:
        return await self._representable(
            [row_id for row_id in ids if can_be_id(self._statements.layout.id_type, row_id)]
        )

    def array(self, possible_ids: list[str]) -> str | list[str]:
        """The parameter for an array of ids that can be those of rows."""
        return possible_ids if self._statements.layout.id_type in COLLATED else plain_array(possible_ids)

    async def as_text(self, ids: Iterable[str]) -> list[str]:
        """The ids that PostgreSQL can represent as text: the others are no row's, and are in no change mark."""
        return await self._representable([row_id for row_id in ids if can_be_id("text", row_id)])

    async def _representable(self, ids: list[str]) -> list[str]:
        """Those whose characters the database's encoding has: a job that was made by hand may name any id."""
        if self._database.encoding in REPRESENTS_EVERYTHING or all(map(str.isascii, ids)):
            return ids

        async def echo(part: Sequence[str]) -> list[Row]:
            return await self.fetch("SELECT id FROM unnest($1::text[]) AS id", part)

        found = await separate(ids, echo)
        return [row_id for row_id in ids if row_id in found.rows]

    @asynccontextmanager
    async def transaction(
        self, *, timeout_s: float = STATEMENT_TIMEOUT_S, by_index: bool = False
    ) -> AsyncIterator[Transaction]:
        """`by_index`: for statements that read rows by an index, however many rows PostgreSQL expects (see BY_INDEX)."""
        layout = self._statements.layout
        async with self._database.transaction(**self._settings(timeout_s, by_index)) as transaction:
            if layout.row_security:  # rows that a policy hides would be taken for deleted ones
                await transaction.fetch(f"LOCK TABLE {self._statements.own_rows} IN ACCESS SHARE MODE")
                if (await transaction.fetch(POLICIES, layout.oid))[0][0] != layout.policies:
                    raise table_changed(self._statements.config)
            yield transaction

    def _settings(self, timeout_s: float, by_index: bool) -> Given:
        layout = self._statements.layout
        return {
            "search_path": (layout.search_path,),
            "statement_timeout_s": timeout_s,
            "row_security": layout.row_security,
            "planner": BY_INDEX if by_index else (),
        }

    async def fetch(
        self, sql: str, *params: object, timeout_s: float = STATEMENT_TIMEOUT_S, by_index: bool = False
    ) -> list[Row]:
        """Run one statement in a transaction of its own, with one round trip. It is to be one that may be run twice: see
        Database.fetch. With policies, more round trips are needed, to check them before.
        """
        if not self._statements.layout.row_security:
            return await self._database.fetch(sql, *params, **self._settings(timeout_s, by_index))
        async with self.transaction(timeout_s=timeout_s, by_index=by_index) as transaction:
            return await transaction.fetch_and_commit(sql, *params)

    async def fetch_by_index(self, sql: str, *params: object) -> list[Row]:
        return await self.fetch(sql, *params, by_index=True)

    async def read_texts(self, sql: str, *params: object) -> list[Row]:
        return await self.fetch(sql, *params, timeout_s=READ_TIMEOUT_S, by_index=True)

    async def find_failing(self, ids: Sequence[str]) -> dict[str, str]:
        """The rows whose text fails: id → kind of the failure. Raises StatementTimedOut if a text takes too long."""
        failing: dict[str, str] = {}
        async with self.transaction(timeout_s=READ_TIMEOUT_S) as transaction:
            for start in range(0, len(ids), SEARCHED_AT_ONCE):
                part = ids[start : start + SEARCHED_AT_ONCE]
                await transaction.fetch(BEGIN_SEARCH, part, self._statements.evaluate)
                await transaction.fetch(SEARCH)
                failing |= dict(await transaction.fetch(FOUND))
        return failing

    async def refuse_changed_table(self) -> None:
        """Raises TableRefused if the table is not the one that was set up: its ids may be possible now."""
        present, _ = await inspect_table(self._database, self._statements.config)
        if present.layout != self._statements.layout:
            raise table_changed(self._statements.config)


def table_changed(config: SourceConfig) -> TableRefused:
    return TableRefused("TableChanged", f"{config.at} or its policies have changed: the source is set up again")
