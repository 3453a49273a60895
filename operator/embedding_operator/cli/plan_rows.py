"""Reads the rows of a source that are due, page by page, for `embedding-operator plan`. Called by plan_facts.py."""

from collections.abc import Iterable

from embedding_operator.cli.plan_values import DueRows
from embedding_worker.rows.distinct import DistinctTexts
from embedding_worker.rows.records import DuePreview
from embedding_worker.rows.store import PREVIEW_PAGE, RowStore
from embedding_worker.source import TooLong


class DueCount:
    """Adds up what is known of rows."""

    def __init__(self, *, most_bytes: int, too_long: TooLong) -> None:
        self._most_bytes = most_bytes
        self._refuses = too_long is TooLong.REFUSE
        self._due, self._texts, self._bytes, self._too_long, self._blank, self._failing = 0, 0, 0, 0, 0, 0
        self._distinct = DistinctTexts()

    def add(self, rows: Iterable[DuePreview]) -> None:
        for row in rows:
            self._due += 1
            if row.content_hash is None:
                self._failing += 1
            elif row.blank:
                self._blank += 1
            else:
                self._add_text(row.content_hash, row.text_bytes)

    def _add_text(self, content_hash: str, text_bytes: int) -> None:
        is_too_long = text_bytes > self._most_bytes
        self._too_long += is_too_long
        if not (is_too_long and self._refuses):
            self._texts += 1
            self._bytes += min(text_bytes, self._most_bytes)
            self._distinct.add(content_hash)

    @property
    def rows(self) -> DueRows:
        """As if these were all rows of the table, and no edit had made them due."""
        return DueRows(
            self._due,
            self._due,
            self._texts,
            self._bytes,
            too_long=self._too_long,
            distinct=min(self._distinct.number, self._texts),
            distinct_estimated=self._distinct.is_estimated,
            blank=self._blank,
            failing=self._failing,
        )


async def read_due_rows(store: RowStore, *, most_bytes: int, too_long: TooLong) -> DueRows:
    """The rows that are not up to date, of the whole table."""
    count, after = DueCount(most_bytes=most_bytes, too_long=too_long), None
    while True:
        page = await store.preview_due(after_id=after, limit=PREVIEW_PAGE)
        count.add(page.due)
        if (after := page.last_id) is None:
            return count.rows
