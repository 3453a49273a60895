"""The named SQL statements of the row store, for one table and column. store.py runs them; `$n` are their parameters, in order.

Every statement reads rows through the same derived table, with the alias x, so that the user's expression can't refer to a column
of the operator's tables. For the same reason, WITH queries that the expression could see have names that begin with eo_. Ids are
passed as text and cast to the type of the id column, so that the same code works for bigint, integer, uuid and text.
"""

from dataclasses import dataclass
from functools import cached_property

from embedding_worker.rows.expression import row_text
from embedding_worker.rows.table import TableLayout, quoted
from embedding_worker.source import SourceConfig

SCHEMA = "embedding_operator"
# The counterparts of text.content_hash and text.is_blank.
HASH = "encode(sha256(convert_to(x.eo_text, 'UTF8')), 'hex')"
BLANK = r"(btrim(x.eo_text, E' \t\n\r\f\x0b') = '')"
COUNTED_EXACTLY = 10_000
"""Above this many rows a count is an estimate, because counting millions of rows every few seconds would be too expensive."""


@dataclass(frozen=True)
class Statements:
    config: SourceConfig
    layout: TableLayout

    @property
    def table(self) -> str:
        return f"{quoted(self.config.at.schema)}.{quoted(self.config.at.table)}"

    @property
    def due(self) -> str:
        return f"{SCHEMA}.{quoted(self.config.at.bookkeeping_name + '_due')}"

    @property
    def state(self) -> str:
        return f"{SCHEMA}.{quoted(self.config.at.bookkeeping_name + '_state')}"

    @property
    def _ids(self) -> str:
        return f"::text[]::{self.layout.id_type}[]"

    @cached_property
    def _x(self) -> str:
        id_column, embedding = quoted(self.config.at.id_column), quoted(self.config.at.embedding_column)
        text = row_text(self.config)
        null = "true" if self.layout.column_missing else f"{embedding} IS NULL"
        return f"(SELECT {id_column} AS eo_id, {text} AS eo_text, {null} AS eo_null FROM {self.table})"

    def _recorded(self, fingerprint: str) -> str:
        """Whether the row has the vector of its text and this model by the book-keeping, or a null vector for a blank text."""
        return f"coalesce(s.content_hash = {HASH} AND s.fingerprint = {fingerprint} AND x.eo_null = {BLANK}, false)"

    def _up_to_date(self, fingerprint: str) -> str:
        """Whether a row is up to date: it is by the book-keeping, and its id has not changed since that was written."""
        return (
            f"({self._recorded(fingerprint)} AND NOT EXISTS (SELECT FROM {self.due} eo_moved "
            "WHERE eo_moved.id = x.eo_id AND eo_moved.moved))"
        )

    @cached_property
    def sweep(self) -> str:
        """$1 ids left out, $2 newest edits, $3 oldest marks, $4 fingerprint → id, seq, edited, hash, blank, up to date, gone.

        Two index scans, from both ends of the change marks, so the cost depends on the window and not on the size of the table.
        A row that is up to date, or gone, is returned too: its marks must be deleted, or every sweep would return it again.
        """
        return f"""
WITH eo_newest AS MATERIALIZED (SELECT d.id, d.seq, true AS edit, true AS newest FROM {self.due} d
    WHERE d.edited AND d.id <> ALL($1{self._ids}) ORDER BY d.seq DESC LIMIT $2::bigint),
eo_oldest AS MATERIALIZED (SELECT d.id, d.seq, d.edited AS edit, false AS newest FROM {self.due} d
    WHERE d.id <> ALL($1{self._ids}) ORDER BY d.seq LIMIT $3::bigint),
eo_picked AS (SELECT p.id, max(p.seq) AS seq, bool_or(p.edit) AS edit, bool_or(p.newest) AS newest
    FROM (SELECT * FROM eo_newest UNION ALL SELECT * FROM eo_oldest) p GROUP BY p.id)
SELECT p.id::text, p.seq, p.edit, {HASH}, {BLANK}, {self._up_to_date("$4::text")}, x.eo_id IS NULL
FROM eo_picked p LEFT JOIN {self._x} x ON x.eo_id = p.id LEFT JOIN {self.state} s ON s.id = p.id
ORDER BY p.newest DESC, p.seq"""

    @cached_property
    def newer_marks(self) -> str:
        """$1 ids, $2 the newest mark known of each → id, newest mark, hash of the present text (null: the row is gone), for
        each id with a newer mark.

        One index lookup for each open job and dead letter, of which there are few.
        """
        return f"""
SELECT n.id::text, n.seq, {HASH} FROM (
    SELECT o.id, max(d.seq) AS seq FROM unnest($1{self._ids}, $2::bigint[]) o(id, seq)
    JOIN {self.due} d ON d.id = o.id AND d.seq > o.seq GROUP BY o.id) n
LEFT JOIN {self._x} x ON x.eo_id = n.id"""

    @cached_property
    def read(self) -> str:
        """$1 ids, $2 fingerprint → id, text, up to date: the rows as they are now, by their unique index."""
        return f"""
SELECT x.eo_id::text, x.eo_text, {self._up_to_date("$2::text")}
FROM {self._x} x LEFT JOIN {self.state} s ON s.id = x.eo_id WHERE x.eo_id = ANY($1{self._ids})"""

    @cached_property
    def write(self) -> str:
        """$1 ids, $2 hashes, $3 vectors (null for a blank text), $4 fingerprint → ids written.

        The hash is compared under the row's lock. An edited row is left out and keeps its mark; a locked row is left out and
        is tried again later. Rows are locked in the order of their ids, so that two writers never deadlock.
        """
        embedding = quoted(self.config.at.embedding_column)
        id_column = quoted(self.config.at.id_column)
        return f"""
WITH eo_given AS (SELECT * FROM unnest($1{self._ids}, $2::text[], $3::text[]) v(id, h, e)),
locked AS MATERIALIZED (SELECT x.eo_id, x.eo_null, v.h, v.e FROM eo_given v JOIN {self._x} x ON x.eo_id = v.id
    WHERE {HASH} = v.h ORDER BY x.eo_id FOR NO KEY UPDATE OF x SKIP LOCKED),
written AS (UPDATE {self.table} t SET {embedding} = l.e::{self.layout.vector_type} FROM locked l
    WHERE t.{id_column} = l.eo_id AND NOT (l.eo_null AND l.e IS NULL) RETURNING t.{id_column} AS id, l.h),
fresh AS (SELECT id, h FROM written UNION SELECT eo_id, h FROM locked WHERE eo_null AND e IS NULL),
done AS (DELETE FROM {self.due} d USING fresh f WHERE d.id = f.id)
INSERT INTO {self.state} AS s (id, content_hash, fingerprint, embedded_at) SELECT f.id, f.h, $4::text, now() FROM fresh f
ON CONFLICT (id) DO UPDATE SET content_hash = excluded.content_hash, fingerprint = excluded.fingerprint,
    embedded_at = excluded.embedded_at
RETURNING s.id::text"""

    @cached_property
    def clear(self) -> str:
        """$1 ids, $2 fingerprint: deletes the marks of rows that are up to date, or gone. Does not write to the user's row.

        Only marks that this statement can see are deleted. An edit that commits meanwhile has appended another mark.
        """
        return f"""
WITH eo_marks AS MATERIALIZED (SELECT d.seq, d.id FROM {self.due} d WHERE d.id = ANY($1{self._ids}) FOR UPDATE SKIP LOCKED)
DELETE FROM {self.due} d USING eo_marks k LEFT JOIN {self._x} x ON x.eo_id = k.id LEFT JOIN {self.state} s ON s.id = k.id
WHERE d.seq = k.seq AND (x.eo_id IS NULL OR {self._up_to_date("$2::text")})"""

    @cached_property
    def audit(self) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page, $3 fingerprint → last id, rows, marked.

        Reads one page by the index of the id column, and appends a mark for each row that is not up to date and has no mark.
        """
        return f"""
WITH page AS MATERIALIZED (SELECT x.* FROM {self._x} x
    WHERE $1::text IS NULL OR x.eo_id > $1::text::{self.layout.id_type} ORDER BY x.eo_id LIMIT $2::bigint),
marked AS (INSERT INTO {self.due} (id, edited) SELECT x.eo_id, false FROM page x LEFT JOIN {self.state} s ON s.id = x.eo_id
    WHERE NOT {self._recorded("$3::text")} AND NOT EXISTS (SELECT FROM {self.due} d WHERE d.id = x.eo_id) RETURNING 1)
SELECT (SELECT eo_id::text FROM page ORDER BY eo_id DESC LIMIT 1), (SELECT count(*) FROM page), (SELECT count(*) FROM marked)"""

    def due_preview(self, *, with_state: bool) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page, $3 fingerprint → id, hash, blank, up to date.

        What the audit reads, without marking anything. `with_state` is false if the book-keeping does not exist yet, so that
        no row is up to date.
        """
        nothing = f"(SELECT NULL::{self.layout.id_type} AS id, NULL::text AS content_hash, NULL::text AS fingerprint WHERE false)"
        return f"""
SELECT x.eo_id::text, {HASH}, {BLANK}, {self._recorded("$3::text")}
FROM {self._x} x LEFT JOIN {self.state if with_state else nothing} s ON s.id = x.eo_id
WHERE $1::text IS NULL OR x.eo_id > $1::text::{self.layout.id_type} ORDER BY x.eo_id LIMIT $2::bigint"""

    @cached_property
    def orphans(self) -> str:
        """$1 after this id (null: from the first), $2 up to this id (null: to the last): deletes the state of rows that are gone.

        If a row is inserted again and written at the same time, READ COMMITTED checks the new age, and its state is kept.
        """
        id_type = self.layout.id_type
        return f"""
DELETE FROM {self.state} s WHERE ($1::text IS NULL OR s.id > $1::text::{id_type})
AND ($2::text IS NULL OR s.id <= $2::text::{id_type}) AND s.embedded_at < now() - interval '1 minute'
AND NOT EXISTS (SELECT FROM {self.table} t WHERE t.{quoted(self.config.at.id_column)} = s.id)"""

    @cached_property
    def would_embed(self) -> str:
        """$1 fingerprint → rows that are not up to date in this configuration, bytes of their texts. One pass over the table."""
        return f"""
SELECT count(*), coalesce(sum(octet_length(x.eo_text)), 0)::bigint
FROM {self._x} x LEFT JOIN {self.state} s ON s.id = x.eo_id WHERE NOT {BLANK} AND NOT {self._recorded("$1::text")}"""

    @cached_property
    def counts(self) -> str:
        """$1 ids with a dead letter → rows, due rows, whether rows without a dead letter are due, oldest mark's time, estimated.

        Counts are exact up to COUNTED_EXACTLY. Above that, they are the planner's estimates.
        """
        few = COUNTED_EXACTLY
        return f"""
WITH few_rows AS MATERIALIZED (SELECT count(*) AS n FROM (SELECT FROM {self.table} LIMIT {few + 1}) r),
few_due AS MATERIALIZED (SELECT count(*) AS marks, count(DISTINCT d.id) AS n FROM (SELECT id FROM {self.due} LIMIT {few + 1}) d)
SELECT CASE WHEN r.n <= {few} THEN r.n ELSE greatest(r.n, {self._estimate(self.table)}) END,
       CASE WHEN d.marks <= {few} THEN d.n ELSE greatest(d.n, {self._estimate(self.due)}) END,
       EXISTS (SELECT FROM {self.due} d WHERE d.id <> ALL($1{self._ids})),
       (SELECT since FROM {self.due} ORDER BY seq LIMIT 1), r.n > {few} OR d.marks > {few}
FROM few_rows r, few_due d"""

    @staticmethod
    def _estimate(table: str) -> str:
        literal = table.replace("'", "''")
        # A partitioned table itself holds no rows, its partitions do. A table that was never analysed has -1.
        return (
            f"(SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c WHERE c.relkind <> 'p' AND "
            f"(c.oid = '{literal}'::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree('{literal}'::regclass))))"
        )
