"""The named SQL statements of the row store, for one table and column. store.py runs them; `$n` are their parameters, in order.

Every statement reads rows through the same derived table, with the alias x, so that the user's expression can't refer to a column
of the operator's tables. For the same reason, WITH queries that the expression could see have names that begin with eo_. Ids are
passed as text and cast to the type of the id column; change marks contain them as text.
"""

from functools import cached_property

from embedding_worker.rows.derived_table import BLANK, HASH, SCHEMA, TOOK_S, DerivedTable
from embedding_worker.rows.table import quoted

COUNTED_EXACTLY = 10_000
"""Above this many rows a count is an estimate, because counting millions of rows every few seconds would be too expensive."""


class Statements(DerivedTable):
    """The statements of one source. Each is built once."""

    @staticmethod
    def _is_left(left_out: str) -> str:
        """A mark of another row than those left out. No constraint keeps out a mark without an id, which is no row's."""
        return f"d.id IS NOT NULL AND d.id <> ALL({left_out}::text[])"

    @cached_property
    def pick(self) -> str:
        """$1 ids left out, $2 newest edits, $3 oldest marks → id, newest mark, edited, seconds since that mark, in the order in
        which they get jobs.

        Two index scans, from both ends of the change marks, so the cost depends on the window and not on the size of the table.
        """
        return self._pick(oldest_of="true")

    @cached_property
    def pick_edits(self) -> str:
        """As `pick`, of the marks of edits only: each of the scans uses the index of these."""
        return self._pick(oldest_of="d.edited")

    def _pick(self, *, oldest_of: str) -> str:
        return f"""
WITH newest AS MATERIALIZED (SELECT d.id, d.seq, d.since, true AS edit, true AS is_newest FROM {self.marks} d
    WHERE d.edited AND {self._is_left("$1")} ORDER BY d.seq DESC LIMIT $2::bigint),
oldest AS MATERIALIZED (SELECT d.id, d.seq, d.since, d.edited AS edit, false AS is_newest FROM {self.marks} d
    WHERE {oldest_of} AND {self._is_left("$1")} ORDER BY d.seq LIMIT $3::bigint)
SELECT p.id, max(p.seq), bool_or(p.edit), extract(epoch FROM now() - max(p.since))::float8
FROM (SELECT * FROM newest UNION ALL SELECT * FROM oldest) p
GROUP BY p.id ORDER BY bool_or(p.is_newest) DESC, max(p.seq)"""

    @cached_property
    def look(self) -> str:
        """$1 ids, $2 fingerprint → id, hash, blank, up to date: the rows as they are now, by their unique index."""
        return f"""
SELECT x.eo_id::text, {HASH}, {BLANK}, {self.up_to_date("$2::text")}
FROM {self.x} x LEFT JOIN {self.state} s ON s.id = {self.state_id("x.eo_id")} WHERE x.eo_id = ANY($1{self.ids})"""

    @cached_property
    def evaluate(self) -> str:
        """$1 ids → how many of their rows have a text. Fails if a text fails. See failing_texts.py."""
        return f"SELECT count({HASH}) FROM {self.x} x WHERE x.eo_id = ANY($1{self.ids})"

    @cached_property
    def newest_marks(self) -> str:
        """$1 ids, $2 the newest mark known of each → id, newest mark, for each id with a newer mark: one index lookup each."""
        return f"""
SELECT o.id, max(d.seq) FROM unnest($1::text[], $2::bigint[]) o(id, seq)
JOIN {self.marks} d ON d.id = o.id AND d.seq > o.seq GROUP BY o.id"""

    @cached_property
    def read(self) -> str:
        """$1 ids, $2 fingerprint, $3 characters → id, hash, blank, up to date, the text's beginning, its bytes in UTF-8."""
        return f"""
SELECT x.eo_id::text, {HASH}, {BLANK}, {self.up_to_date("$2::text")}, pg_catalog.left(x.eo_text, $3::int),
    pg_catalog.octet_length(pg_catalog.convert_to(x.eo_text, 'UTF8'))
FROM {self.evaluated("$1")} x LEFT JOIN {self.state} s ON s.id = {self.state_id("x.eo_id")}"""

    @cached_property
    def write(self) -> str:
        """$1 ids, $2 hashes, $3 vectors (null for a blank text), $4 fingerprint → id, whether it was written, seconds needed.

        The hash is compared under the row's lock. A row that was edited, or is locked by another session, is not returned, and
        keeps its marks. A row that is returned as not written was locked by this statement, but its update was suppressed, or a
        trigger has kept the previous vector. Rows are locked in the order of their ids, so that two writers never deadlock.
        """
        # The last condition is always true. It makes PostgreSQL delete and record before it looks at the clock.
        # CASE: as a condition of the join, the hash would be computed for each row of a small table, and fail for some of them.
        embedding = quoted(self.config.at.embedding_column)
        id_column, kind = quoted(self.config.at.id_column), self.layout.vector_type
        vectors = "text" if kind.endswith("[]") else kind
        return f"""
WITH eo_given AS (SELECT * FROM unnest($1{self.ids}, $2::text[], $3::{vectors}[]) v(id, h, e)),
locked AS MATERIALIZED (SELECT x.eo_id, x.eo_vector AS old, v.h, v.e::{kind} AS e
    FROM eo_given v JOIN {self.x} x ON x.eo_id = v.id
    WHERE CASE WHEN x.eo_id = v.id THEN {HASH} = v.h END
    AND NOT EXISTS (SELECT FROM {self.own_rows} o WHERE o.{id_column} = v.id OFFSET 1)
    ORDER BY x.eo_id FOR NO KEY UPDATE OF x SKIP LOCKED),
written AS (UPDATE {self.own_rows} t SET {embedding} = l.e FROM locked l
    WHERE t.{id_column} = l.eo_id AND NOT (l.old IS NULL AND l.e IS NULL)
    RETURNING t.{id_column} AS id, l.h, {self.vector_hash(f"t.{embedding}")} AS v, l.e IS NULL AS blank,
        {self.is_kept(f"t.{embedding}", "l.old", "l.e")} AS kept),
done AS (SELECT id, h, v, blank FROM written WHERE (v IS NULL) = blank AND NOT kept
    UNION SELECT eo_id, h, NULL, true FROM locked WHERE old IS NULL AND e IS NULL),
unmarked AS (DELETE FROM {self.marks} d USING done f WHERE d.id = f.id::text COLLATE pg_catalog."default" RETURNING 1),
recorded AS (INSERT INTO {self.state} AS s (id, content_hash, fingerprint, embedded_at, vector_hash, blank)
    SELECT f.id, f.h, $4::text, now(), f.v, f.blank FROM done f
    ON CONFLICT (id) DO UPDATE SET content_hash = excluded.content_hash, fingerprint = excluded.fingerprint,
        embedded_at = excluded.embedded_at, vector_hash = excluded.vector_hash, blank = excluded.blank RETURNING 1)
SELECT l.eo_id::text, EXISTS (SELECT FROM done f WHERE f.id = l.eo_id), {TOOK_S} FROM locked l
WHERE (SELECT count(*) FROM unmarked) + (SELECT count(*) FROM recorded) >= 0"""

    @cached_property
    def try_write(self) -> str:
        """$1 ids, $2 a vector (null: that of each row) → id, whether its update is not suppressed. To be rolled back.

        Rows that another session has locked are not returned. The vector is another one than the row's, because a trigger of the
        application may look whether anything changes.
        """
        embedding, id_column = quoted(self.config.at.embedding_column), quoted(self.config.at.id_column)
        return f"""
WITH free AS MATERIALIZED (SELECT t.{id_column} AS id FROM {self.own_rows} t WHERE t.{id_column} = ANY($1{self.ids})
    ORDER BY t.{id_column} FOR NO KEY UPDATE OF t SKIP LOCKED),
tried AS (UPDATE {self.own_rows} t SET {embedding} = coalesce($2::text::{self.layout.vector_type}, t.{embedding})
    FROM free f WHERE t.{id_column} = f.id RETURNING f.id)
SELECT f.id::text, EXISTS (SELECT FROM tried r WHERE r.id = f.id) FROM free f"""

    @cached_property
    def locked_rows(self) -> str:
        """$1 ids → ids of the rows that another session has locked. Locks the others; to be rolled back."""
        id_column = quoted(self.config.at.id_column)
        return f"""
WITH free AS MATERIALIZED (SELECT t.{id_column} AS id FROM {self.own_rows} t WHERE t.{id_column} = ANY($1{self.ids})
    FOR NO KEY UPDATE OF t SKIP LOCKED)
SELECT t.{id_column}::text FROM {self.own_rows} t WHERE t.{id_column} = ANY($1{self.ids})
    AND NOT EXISTS (SELECT FROM free f WHERE f.id = t.{id_column})"""

    @cached_property
    def rows_to_compare(self) -> str:
        """$1 ids left out, $2 percentage of the table's pages → other ids: of rows written or edited, and of any others."""
        id_column, left_out = quoted(self.config.at.id_column), f"<> ALL($1{self.ids})"
        exists = f"EXISTS (SELECT FROM {self.own_rows} t WHERE t.{id_column} = s.id)"
        return f"""
(SELECT s.id::text FROM {self.state} s WHERE s.id {left_out} AND s.vector_hash IS NOT NULL AND {exists} LIMIT 3)
UNION ALL (SELECT d.id FROM {self.marks} d WHERE d.id <> ALL($1::text[]) AND d.id IS NOT NULL ORDER BY d.seq DESC LIMIT 5)
UNION ALL (SELECT r.id::text FROM (SELECT t.{id_column} AS id FROM {self.own_rows} t TABLESAMPLE SYSTEM ($2::real)) r
    WHERE r.id {left_out} ORDER BY random() LIMIT 12)"""

    @cached_property
    def pages(self) -> str:
        """→ the pages of the table, as of the last VACUUM or ANALYZE."""
        literal = self.table.replace("'", "''")
        return (
            "SELECT coalesce(sum(c.relpages), 0)::bigint FROM pg_class c WHERE c.oid = "
            f"'{literal}'::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree('{literal}'::regclass))"
        )

    @cached_property
    def clear(self) -> str:
        """$1 ids, $2 fingerprint: deletes the marks of rows that are up to date, or gone. Does not write to the user's row.

        Only marks that this statement can see are deleted. An edit that commits meanwhile has appended another mark.
        """
        return f"""
WITH eo_marks AS MATERIALIZED (SELECT d.ctid AS eo_place, d.id FROM {self.marks} d WHERE d.id = ANY($1::text[])
    FOR UPDATE SKIP LOCKED)
DELETE FROM {self.marks} d WHERE d.ctid = ANY(ARRAY({self.right_marks("eo_marks", "$2::text")}))"""

    @cached_property
    def clear_impossible(self) -> str:
        """$1 ids that no row can have: deletes their marks, which are from a time when the id column had another type."""
        return f"DELETE FROM {self.marks} d WHERE d.id = ANY($1::text[])"

    def _from_page(self, *, state: str) -> str:
        """One page by the index of the id column: $1 the last id of the page before (null: begin), $2 rows of a page."""
        # OFFSET 0 makes it a lookup for each row of the page: a merge would read the state from its first row on.
        known = f"SELECT * FROM {state} o WHERE o.id = {self.state_id('x.eo_id')} OFFSET 0"
        return f"""FROM {self.x} x LEFT JOIN LATERAL ({known}) s ON true
    WHERE $1::text IS NULL OR x.eo_id > $1::text::{self.layout.id_type} ORDER BY x.eo_id LIMIT $2::bigint"""

    @property
    def _unmarked(self) -> str:
        return f'NOT EXISTS (SELECT FROM {self.marks} d WHERE d.id = p.eo_id::text COLLATE pg_catalog."default")'

    @cached_property
    def audit(self) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page, $3 fingerprint → last id, rows, marked.

        Reads one page, and appends a mark for each row that is not up to date and has no mark. What an earlier version has not
        recorded of a row that is right is added: the hash of its vector, or that its text is blank.
        """
        added = f"CASE WHEN s.vector_hash IS NULL AND NOT s.blank THEN {self.vector_hash('x.eo_vector')} END"
        return f"""
WITH page AS MATERIALIZED (SELECT x.eo_id, {self.up_to_date("$3::text")} AS eo_right, {added} AS eo_added,
    s.vector_hash IS NULL AND NOT s.blank AS eo_incomplete {self._from_page(state=self.state)}),
completed AS (UPDATE {self.state} s SET vector_hash = p.eo_added, blank = p.eo_added IS NULL FROM page p
    WHERE s.id = p.eo_id AND p.eo_right AND p.eo_incomplete),
marked AS (INSERT INTO {self.marks} (id, edited) SELECT p.eo_id::text, false FROM page p
    WHERE NOT p.eo_right AND {self._unmarked} RETURNING 1)
SELECT (SELECT p.eo_id::text FROM page p ORDER BY p.eo_id DESC LIMIT 1), (SELECT count(*) FROM page),
    (SELECT count(*) FROM marked)"""

    @cached_property
    def page_ids(self) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page → ids of the page, in order. Evaluates no text."""
        return f"SELECT x.eo_id::text {self._from_page(state=self._no_state)}"

    @cached_property
    def unmarked(self) -> str:
        """$1 ids → the ids of those that have no mark."""
        return f"SELECT p.eo_id FROM unnest($1::text[]) p(eo_id) WHERE {self._unmarked}"

    @cached_property
    def mark(self) -> str:
        """$1 ids → the ids of those that got a mark: each that has none yet, as the audit marks rows."""
        return f"""
INSERT INTO {self.marks} (id, edited) SELECT p.eo_id, false FROM unnest($1::text[]) p(eo_id) WHERE {self._unmarked}
RETURNING id"""

    @property
    def _no_state(self) -> str:
        columns = "NULL::text AS content_hash, NULL::text AS fingerprint, NULL::bytea AS vector_hash, false AS blank"
        return f"(SELECT NULL::{self.layout.id_type} AS id, {columns} WHERE false)"

    def due_preview(self, *, with_state: bool) -> str:
        """$1 the last id of the page before (null: begin), $2 rows, $3 fingerprint → id, hash, blank, up to date, bytes of text.

        What the audit reads, without marking anything. `with_state` is false if the book-keeping does not exist yet, so that
        no row is up to date.
        """
        return f"SELECT {self._preview('$3')} {self._from_page(state=self.state if with_state else self._no_state)}"

    def preview(self, *, with_state: bool) -> str:
        """$1 ids, $2 fingerprint → id, hash, blank, up to date, bytes of text: for a few rows."""
        state = self.state if with_state else self._no_state
        return (
            f"SELECT {self._preview('$2')} FROM {self.x} x LEFT JOIN {state} s ON s.id = {self.state_id('x.eo_id')} "
            f"WHERE x.eo_id = ANY($1{self.ids})"
        )

    def _preview(self, fingerprint: str) -> str:
        return f"x.eo_id::text, {HASH}, {BLANK}, {self.up_to_date(f'{fingerprint}::text')}, pg_catalog.octet_length(x.eo_text)"

    @cached_property
    def orphans(self) -> str:
        """$1 after this id (null: from the first), $2 up to this id (null: to the last), $3 at most so many → how many.

        Deletes the state of rows that are gone. If a row is inserted again and written at the same time, READ COMMITTED checks
        the new age, and its state is kept.
        """
        id_type = self.layout.id_type
        return f"""
WITH gone AS MATERIALIZED (SELECT s.id FROM {self.state} s WHERE ($1::text IS NULL OR s.id > $1::text::{id_type})
    AND ($2::text IS NULL OR s.id <= $2::text::{id_type}) AND s.embedded_at < now() - interval '1 minute'
    AND NOT EXISTS (SELECT FROM {self.own_rows} t WHERE t.{quoted(self.config.at.id_column)} = s.id) LIMIT $3::bigint),
deleted AS (DELETE FROM {self.state} s USING gone g WHERE s.id = g.id AND s.embedded_at < now() - interval '1 minute' RETURNING 1)
SELECT count(*) FROM deleted"""

    @cached_property
    def counts(self) -> str:
        """$1 ids with a dead letter → rows, due rows, whether rows without a dead letter are due, the time of their oldest mark,
        estimated, blank rows, marks.

        Counts are exact up to COUNTED_EXACTLY. Above that, they are the planner's estimates.
        """
        few, blank_index = COUNTED_EXACTLY, f"{SCHEMA}.{quoted(self.config.at.bookkeeping_name + '_state_blank')}"
        return f"""
WITH few_rows AS MATERIALIZED (SELECT count(*) AS n FROM (SELECT FROM {self.own_rows} LIMIT {few + 1}) r),
few_due AS MATERIALIZED (SELECT count(*) AS marks, count(DISTINCT d.id) AS n
    FROM (SELECT id FROM {self.marks} LIMIT {few + 1}) d),
few_blank AS MATERIALIZED (SELECT count(*) AS n FROM (SELECT FROM {self.state} WHERE blank LIMIT {few + 1}) b)
SELECT CASE WHEN r.n <= {few} THEN r.n ELSE greatest(r.n, {self._estimate(self.table)}) END,
       CASE WHEN d.marks <= {few} THEN d.n ELSE greatest(d.n, {self._estimate(self.marks)}) END,
       EXISTS (SELECT FROM {self.marks} d WHERE {self._is_left("$1")}),
       (SELECT d.since FROM {self.marks} d WHERE {self._is_left("$1")} ORDER BY d.seq LIMIT 1), r.n > {few} OR d.marks > {few},
       CASE WHEN b.n <= {few} THEN b.n ELSE greatest(b.n, {self._estimate(blank_index)}) END,
       CASE WHEN d.marks <= {few} THEN d.marks ELSE greatest(d.marks, {self._estimate(self.marks)}) END
FROM few_rows r, few_due d, few_blank b"""

    @staticmethod
    def _estimate(table: str) -> str:
        literal = table.replace("'", "''")
        # A partitioned table itself holds no rows, its partitions do. A table that was never analysed has -1.
        return (
            f"(SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c WHERE c.relkind <> 'p' AND "
            f"(c.oid = '{literal}'::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree('{literal}'::regclass))))"
        )
