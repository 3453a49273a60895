"""The SQL that takes over the vectors which a source's column already held when the source was created.

Called by pages.py in the first audit of a source whose spec.existingVectors is Adopt. Recorded is what would be recorded if the
operator had just written these vectors. The statements make no call, and write nothing to the user's table.
"""

from functools import cached_property

from embedding_worker.rows.derived_table import BLANK, HASH, SCHEMA, binary_hash
from embedding_worker.rows.statements import Statements
from embedding_worker.rows.table import binary_form

ADOPTABLE = f"SELECT s.adoptable FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1"
# An earlier version has not created the column.
IN_FORCE_AND_ADOPTABLE = f"""
SELECT s.in_force, coalesce((to_jsonb(s) ->> 'adoptable')::boolean, false) FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1
"""


class AdoptingStatements(Statements):
    """The statements of one source, and in addition those that adopt vectors.

    Each takes its texts, vectors and marks from one snapshot. An edit that it does not see has appended a mark, so its row is
    looked at again, and found to have another text than the one on record.
    """

    @property
    def _binary(self) -> str:
        """The binary form of the vector of a row without a state, if the row has a text. Read once, because it may be long."""
        form = f"{binary_form(self.layout.vector_type)}(x.eo_vector)"
        usable = f"x.eo_vector IS NOT NULL AND NOT {BLANK} AND {self._is_usable_array}"
        return f"CASE WHEN s.id IS NULL THEN CASE WHEN {usable} THEN {form} END END"

    @property
    def _is_usable_array(self) -> str:
        """Whether an array can be a vector of the model: it has its dimensions, no null, NaN or infinity, and not only zeros."""
        if not self.layout.vector_type.endswith("[]"):
            return "true"
        dimensions = self.config.model.dimensions
        numbers = "SELECT count(e) AS n, sum(e::float8 * e) AS squares FROM pg_catalog.unnest(x.eo_vector) e"
        finite = "q.squares > 0 AND q.squares < 'Infinity'::float8"  # NaN is greater than any number
        return (
            f"(pg_catalog.array_ndims(x.eo_vector) = 1 AND pg_catalog.array_length(x.eo_vector, 1) = {dimensions} "
            f"AND (SELECT q.n = {dimensions} AND {finite} FROM ({numbers}) q))"
        )

    @property
    def _is_usable(self) -> str:
        """Whether a binary form is that of a vector with the model's dimensions, and not of zeros, which have no cosine.

        pgvector's binary forms begin with the dimensions in two bytes, and two bytes without a meaning. The bytes of zero are 00,
        and 80 for the sign.
        """
        if self.layout.vector_type.endswith("[]"):
            return "true"
        high, low = (f"pg_catalog.get_byte(v.eo_binary, {place})" for place in (0, 1))
        numbers = "pg_catalog.btrim(pg_catalog.substring(v.eo_binary, 5), pg_catalog.decode('0080', 'hex'))"
        return f"{high} * 256 + {low} = {self.config.model.dimensions} AND pg_catalog.octet_length({numbers}) > 0"

    def _page(self, rows: str) -> str:
        """The query of `page`. `rows` reads them, as x and s; a row can be adopted if it has a hash of its vector.

        The hashes are those of vector_hash.
        """
        return f"""
WITH page AS MATERIALIZED (SELECT v.eo_id, v.eo_hash, v.eo_right, CASE WHEN v.eo_binary IS NOT NULL AND {self._is_usable}
    THEN {binary_hash("v.eo_binary")} END AS eo_vector_hash
    FROM (SELECT x.eo_id, CASE WHEN s.id IS NULL THEN {HASH} END AS eo_hash, {self._binary} AS eo_binary,
        CASE WHEN s.id IS NULL THEN false ELSE {self.up_to_date("$3::text")} END AS eo_right {rows}) v),"""

    @property
    def _record(self) -> str:
        """WITH queries that record the states of those rows of `page` that can be adopted and have no mark.

        The source's record is read again here, because another process may have completed the first audit.
        """
        at_record = f"r.bookkeeping = '{self.config.at.bookkeeping_name}'"
        return f"""
adopted AS (INSERT INTO {self.state} (id, content_hash, fingerprint, embedded_at, vector_hash)
    SELECT p.eo_id, p.eo_hash, $3::text, now(), p.eo_vector_hash FROM page p
    WHERE p.eo_vector_hash IS NOT NULL AND {self._unmarked} AND (SELECT r.adoptable FROM {SCHEMA}.sources r WHERE {at_record})
    ON CONFLICT (id) DO NOTHING RETURNING id),
counted AS (UPDATE {SCHEMA}.sources r SET adopted = r.adopted + n.number FROM (SELECT count(*) AS number FROM adopted) n
    WHERE {at_record} AND n.number > 0)"""

    @cached_property
    def adopting_audit(self) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page, $3 fingerprint → last id, rows, marked.

        As Statements.audit, but a row with a vector that has neither a state nor a mark gets a state instead of a mark.
        """
        return f"""{self._page(self._from_page(state=self.state))}
{self._record},
marked AS (INSERT INTO {self.marks} (id, edited) SELECT p.eo_id::text, false FROM page p
    WHERE NOT p.eo_right AND {self._unmarked} AND NOT EXISTS (SELECT FROM adopted a WHERE a.id = {self.state_id("p.eo_id")})
    RETURNING 1)
SELECT (SELECT p.eo_id::text FROM page p ORDER BY p.eo_id DESC LIMIT 1), (SELECT count(*) FROM page),
    (SELECT count(*) FROM marked)"""

    @cached_property
    def adopt(self) -> str:
        """$1 ids, $2 how many they are, $3 fingerprint → the ids of the rows whose vectors it has taken over."""
        rows = f"FROM {self.x} x LEFT JOIN {self.state} s ON s.id = {self.state_id('x.eo_id')} WHERE x.eo_id = ANY($1{self.ids})"
        return f"""{self._page(f"{rows} LIMIT $2::bigint")}
{self._record}
SELECT a.id::text FROM adopted a"""

    def _preview(self, fingerprint: str) -> str:
        """As in Statements, but a row that the first audit would adopt counts as up to date, whatever marks it has."""
        adopted = (
            f"SELECT v.eo_binary IS NOT NULL AND {self._is_usable} FROM (SELECT {self._binary} AS eo_binary OFFSET 0) v"
        )
        right = f"CASE WHEN s.id IS NULL THEN ({adopted}) ELSE {self.up_to_date(f'{fingerprint}::text')} END"
        return f"x.eo_id::text, {HASH}, {BLANK}, {right}, pg_catalog.octet_length(x.eo_text)"
