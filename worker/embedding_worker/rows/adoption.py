"""The SQL that takes over the vectors which a source's column already held when the source was created.

Called by pages.py in the first audit of a source whose spec.existingVectors is Adopt. Recorded is what would be recorded if the
operator had just written these vectors. The statements make no call, and write nothing to the user's table.
"""

from functools import cached_property

from embedding_worker.rows.derived_table import BLANK, HASH, SCHEMA
from embedding_worker.rows.statements import Statements

ADOPTABLE = f"SELECT s.adoptable FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1"


class AdoptingStatements(Statements):
    """The statements of one source, and in addition those that adopt vectors.

    Each takes its texts, vectors and marks from one snapshot. An edit that it does not see has appended a mark, so its row is
    looked at again, and found to have another text than the one on record.
    """

    @cached_property
    def usable(self) -> str:
        """Whether a vector can be of the model: it has its dimensions, and it is not all zeros, of which no cosine is defined."""
        kind, dimensions = self.layout.vector_type, self.config.model.dimensions
        if kind.endswith("[]"):
            numbers = "SELECT count(e) AS n, sum(e::float8 * e) AS squares FROM pg_catalog.unnest(x.eo_vector) e"
            finite = "q.squares > 0 AND q.squares < 'Infinity'::float8"  # NaN is greater than any number
            return (
                f"(pg_catalog.array_ndims(x.eo_vector) = 1 AND pg_catalog.array_length(x.eo_vector, 1) = {dimensions} "
                f"AND (SELECT q.n = {dimensions} AND {finite} FROM ({numbers}) q))"
            )
        schema = kind.rpartition(".")[0]
        return (
            f"({schema}.vector_dims(x.eo_vector) = {dimensions} "
            f"AND x.eo_vector OPERATOR({schema}.<=>) x.eo_vector <> 'NaN'::float8)"
        )

    @cached_property
    def _adoptable(self) -> str:
        """Whether the row's vector may be taken over: it has a text, and no state. In the order of what they cost."""
        usable = f"x.eo_vector IS NOT NULL AND CASE WHEN {BLANK} THEN false ELSE {self.usable} END"
        return f"CASE WHEN s.id IS NULL THEN coalesce({usable}, false) ELSE false END"

    def _record(self, fingerprint: str) -> str:
        """WITH queries that record the states of those rows of `page` that can be adopted and have no mark.

        The source's record is read again here, because another process may have completed the first audit.
        """
        at_record = f"r.bookkeeping = '{self.config.at.bookkeeping_name}'"
        return f"""
adopted AS (INSERT INTO {self.state} (id, content_hash, fingerprint, embedded_at, vector_hash)
    SELECT p.eo_id, p.eo_hash, {fingerprint}, now(), p.eo_vector_hash FROM page p
    WHERE p.eo_hash IS NOT NULL AND {self._unmarked} AND (SELECT r.adoptable FROM {SCHEMA}.sources r WHERE {at_record})
    ON CONFLICT (id) DO NOTHING RETURNING id),
counted AS (UPDATE {SCHEMA}.sources r SET adopted = r.adopted + n.number FROM (SELECT count(*) AS number FROM adopted) n
    WHERE {at_record} AND n.number > 0)"""

    @cached_property
    def _page(self) -> str:
        return (
            f"x.eo_id, CASE WHEN {self._adoptable} THEN {HASH} END AS eo_hash, "
            f"CASE WHEN {self._adoptable} THEN {self.vector_hash('x.eo_vector')} END AS eo_vector_hash"
        )

    @cached_property
    def adopting_audit(self) -> str:
        """$1 the last id of the page before (null: begin), $2 rows of a page, $3 fingerprint → last id, rows, marked.

        As Statements.audit, but a row with a vector that has neither a state nor a mark gets a state instead of a mark.
        """
        right = f"CASE WHEN s.id IS NULL THEN false ELSE {self.up_to_date('$3::text')} END"
        return f"""
WITH page AS MATERIALIZED (SELECT {self._page}, {right} AS eo_right {self._from_page(state=self.state)}),
{self._record("$3::text")},
marked AS (INSERT INTO {self.marks} (id, edited) SELECT p.eo_id::text, false FROM page p
    WHERE NOT p.eo_right AND {self._unmarked} AND NOT EXISTS (SELECT FROM adopted a WHERE a.id = {self._own("p.eo_id")})
    RETURNING 1)
SELECT (SELECT p.eo_id::text FROM page p ORDER BY p.eo_id DESC LIMIT 1), (SELECT count(*) FROM page),
    (SELECT count(*) FROM marked)"""

    @cached_property
    def adopt(self) -> str:
        """$1 ids, $2 fingerprint → the ids of the rows whose vectors it has taken over."""
        return f"""
WITH page AS MATERIALIZED (SELECT {self._page} FROM {self.x} x LEFT JOIN {self.state} s ON s.id = {self._own("x.eo_id")}
    WHERE x.eo_id = ANY($1{self.ids})),
{self._record("$2::text")}
SELECT a.id::text FROM adopted a"""
