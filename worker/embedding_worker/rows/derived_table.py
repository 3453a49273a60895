"""The names of a source's tables, and the derived table through which every statement reads the user's rows. Pure.

statements.py builds the statements on it. The alias of the derived table is x.
"""

from dataclasses import dataclass
from functools import cached_property

from embedding_worker.rows.expression import row_text
from embedding_worker.rows.table import TableLayout, binary_form, quoted
from embedding_worker.source import SourceConfig

SCHEMA = "embedding_operator"
# The counterparts of text.content_hash and text.is_blank. Most texts show within a few characters that they are not blank, and
# trimming 11 MB takes a third of a second. The schema is named, because the application's search_path may put others before it.
HASH = "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(x.eo_text, 'UTF8')), 'hex')"
WHITESPACE = r"E' \t\n\r\f\x0b'"
BLANK = (
    f"(CASE WHEN pg_catalog.btrim(pg_catalog.left(x.eo_text, 64), {WHITESPACE}) <> '' THEN false "
    f"ELSE pg_catalog.btrim(x.eo_text, {WHITESPACE}) = '' END)"
)
TOOK_S = "extract(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.statement_timestamp())::float8"
"""Since the server had received the statement with all of its parameters: before, it holds no locks."""
HASHED_BY = "hash_record_extended"
"""How `binary_hash` identifies vectors."""
COLLATED = ("text", "bpchar")
SAME_DIRECTION = 0.0001
"""A cosine distance that is larger than the rounding of float and half precision, and smaller than between different texts."""


def binary_hash(form: str) -> str:
    """8 bytes of a vector's binary form. Where PostgreSQL is built without OpenSSL, SHA-256 takes ten times as long.

    PostgreSQL keeps the results of this function from version to version, because hash partitions depend on them.
    """
    return f"pg_catalog.int8send(pg_catalog.{HASHED_BY}(ROW({form}), 0))"


@dataclass(frozen=True)
class DerivedTable:
    """One table and column, in one configuration."""

    config: SourceConfig
    layout: TableLayout

    @property
    def table(self) -> str:
        return f"{quoted(self.config.at.schema)}.{quoted(self.config.at.table)}"

    @property
    def own_rows(self) -> str:
        """The table without the rows of child tables, which have ids of their own."""
        return f"ONLY {self.table}" if self.layout.only else self.table

    @property
    def marks(self) -> str:
        return f"{SCHEMA}.{quoted(self.config.at.bookkeeping_name + '_marks')}"

    @property
    def state(self) -> str:
        return f"{SCHEMA}.{quoted(self.config.at.bookkeeping_name + '_state')}"

    @property
    def ids(self) -> str:
        return f"::text[]::{self.layout.id_type}[]"

    def state_id(self, row_id: str) -> str:
        """A row's id, to be compared with one in the state: its index has no other collation than the database's."""
        return f'{row_id} COLLATE pg_catalog."default"' if self.layout.id_type in COLLATED else row_id

    @cached_property
    def x(self) -> str:
        id_column, embedding = quoted(self.config.at.id_column), quoted(self.config.at.embedding_column)
        text = row_text(self.config)
        vector = "NULL::real[]" if self.layout.column_missing else embedding
        return f"(SELECT {id_column} AS eo_id, {text} AS eo_text, {vector} AS eo_vector FROM {self.own_rows})"

    def evaluated(self, ids: str) -> str:
        """As `x`, of the rows with these ids: each text is evaluated once, however often the statement names it."""
        return f"{self.x[:-1]} WHERE {quoted(self.config.at.id_column)} = ANY({ids}{self.ids}) OFFSET 0)"

    def vector_hash(self, vector: str) -> str:
        """8 bytes that identify a stored vector: a vector that anything else has written is not taken for the row's own."""
        form = binary_form("real[]" if self.layout.column_missing else self.layout.vector_type)
        return f"CASE WHEN {vector} IS NOT NULL THEN {binary_hash(f'{form}({vector})')} END"

    @property
    def hashed_as(self) -> str:
        """What the hashes of vectors depend on: after a change they are computed again, and the vectors are trusted."""
        return f"{self.layout.vector_type} by {HASHED_BY}"

    def differs(self, vector: str, other: str) -> str:
        """Whether two vectors point in different directions. A trigger of the application may normalise what is written."""
        kind = self.layout.vector_type
        if kind.endswith("[]"):
            return "true"
        return f"coalesce({vector} OPERATOR({kind.rpartition('.')[0]}.<=>) {other} > {SAME_DIRECTION}, true)"

    def is_kept(self, written: str, previous: str, given: str) -> str:
        """Whether a trigger has kept the previous vector. The hashes are computed only if another one was written than given."""
        kind = self.layout.vector_type
        equals = f"OPERATOR({'pg_catalog' if kind.endswith('[]') else kind.rpartition('.')[0]}.=)"
        kept = f"{self.vector_hash(written)} = {self.vector_hash(previous)} AND {self.differs(written, given)}"
        return f"CASE WHEN {written} {equals} {given} THEN false ELSE coalesce({kept}, false) END"

    def up_to_date(self, fingerprint: str) -> str:
        """Whether the book-keeping says that this very vector is the one of the row's present text and this model.

        A row without text is up to date without a vector. The text is evaluated once more only where an earlier version has
        recorded neither a hash of the vector nor that the text is blank.
        """
        return (
            f"coalesce(s.content_hash = {HASH} AND s.fingerprint = {fingerprint} AND CASE "
            f"WHEN s.vector_hash IS NOT NULL THEN s.vector_hash = {self.vector_hash('x.eo_vector')} "
            f"WHEN s.blank OR {BLANK} THEN x.eo_vector IS NULL ELSE x.eo_vector IS NOT NULL END, false)"
        )

    def right_marks(self, marks: str, fingerprint: str) -> str:
        """Selects the places of those of these marks (a query with `id` and `eo_place`) whose rows are up to date, or gone."""
        # OFFSET 0 makes it a lookup for each mark: in a join, the texts of all rows of a small table would be computed.
        return f"""SELECT k.eo_place FROM {marks} k LEFT JOIN LATERAL (SELECT {self.up_to_date(fingerprint)} AS eo_right
    FROM {self.x} x LEFT JOIN {self.state} s ON s.id = {self.state_id("x.eo_id")}
    WHERE x.eo_id = k.id::{self.layout.id_type} OFFSET 0) f ON true WHERE coalesce(f.eo_right, true)"""
