"""How long the rows of a page of a backfill may wait until they are read again."""

from embedding_worker.backfill_pages import TEXTS_LAST_S, Page
from embedding_worker.rows.records import PresentRow

ROWS = {"1": PresentRow("1", "hash", text="one")}


def test_rows_are_used_as_they_were_read_a_moment_ago() -> None:
    assert Page(ids=["1"], rows=ROWS, read_at=100.0).present_rows(100.0 + TEXTS_LAST_S - 1) == ROWS


def test_rows_that_were_read_long_ago_are_read_again() -> None:
    assert Page(ids=["1"], rows=ROWS, read_at=100.0).present_rows(100.0 + TEXTS_LAST_S) is None
