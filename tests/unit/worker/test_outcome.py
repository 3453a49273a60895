"""What a row needs, decided from the row as it is now and the text that its job was created for."""

from datetime import UTC, datetime, timedelta

import pytest

from embedding_worker.errors import InputRejected, ProviderUnavailable, RowsRefused, StatementTimedOut
from embedding_worker.outcome import (
    NeedsEmbedding,
    OutcomeKind,
    RowRequest,
    Settled,
    WriteNull,
    decide_need,
    failed,
    id_invalid,
    row_locked,
)
from embedding_worker.rows.records import PresentRow, VectorWrite
from embedding_worker.source import TooLong
from embedding_worker.text import content_hash, is_blank
from tests.support.embedding_system import request


def present(text: str, *, up_to_date: bool = False) -> PresentRow:
    return PresentRow(
        "1",
        content_hash(text),
        blank=is_blank(text),
        up_to_date=up_to_date,
        text=text,
        text_bytes=len(text.encode()),
    )


def need(row: PresentRow | None, *, text: str = "one", too_long: TooLong = TooLong.TRUNCATE) -> object:
    return decide_need(request("1", text), row, max_text_bytes=1_000, too_long=too_long)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (None, OutcomeKind.ROW_DELETED),
        (present("one", up_to_date=True), OutcomeKind.ALREADY_FRESH),
        (present("edited", up_to_date=True), OutcomeKind.ALREADY_FRESH),
        (present("edited"), OutcomeKind.TEXT_CHANGED),
        (present(""), OutcomeKind.TEXT_CHANGED),
    ],
)
def test_a_row_that_needs_nothing_more_has_its_outcome(row: PresentRow | None, kind: OutcomeKind) -> None:
    settled = need(row)
    assert isinstance(settled, Settled)
    assert (settled.outcome.kind, settled.outcome.reason) == (kind, kind.value)
    assert settled.outcome.message


def test_a_row_with_the_text_of_its_job_needs_an_embedding() -> None:
    assert need(present("one")) == NeedsEmbedding("one", content_hash("one"))


def test_a_request_without_a_hash_stands_for_the_present_text() -> None:
    whatever = RowRequest("1")
    assert decide_need(whatever, present("edited"), max_text_bytes=1_000, too_long=TooLong.TRUNCATE) == NeedsEmbedding(
        "edited", content_hash("edited")
    )
    blank = decide_need(whatever, present(""), max_text_bytes=1_000, too_long=TooLong.TRUNCATE)
    assert blank == WriteNull(VectorWrite("1", content_hash(""), None))


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_row_whose_text_is_blank_needs_a_null_vector(text: str) -> None:
    row = present(text)
    assert need(row, text=text) == WriteNull(VectorWrite("1", content_hash(text), None))


def test_a_text_that_is_too_long_is_cut_or_refused_as_the_source_says() -> None:
    row = present("x" * 1_001)
    assert need(row, text=row.text) == NeedsEmbedding("x" * 1_000, content_hash(row.text), is_cut=True)
    refused = need(row, text=row.text, too_long=TooLong.REFUSE)
    assert isinstance(refused, Settled)
    assert (refused.outcome.kind, refused.outcome.reason) == (OutcomeKind.INPUT_REJECTED, "TextTooLong")


def test_a_row_whose_text_fails_is_a_failure_of_its_own() -> None:
    error = RowsRefused("DatabaseRefused", "PostgreSQL refuses the statement: DivisionByZero (22012)", sqlstate="22012")
    settled = need(PresentRow("1", None, failure=error))
    assert isinstance(settled, Settled)
    assert (settled.outcome.kind, settled.outcome.reason, settled.outcome.code) == (
        OutcomeKind.TEXT_EXPRESSION_FAILED,
        "TextExpressionFailed",
        "22012",
    )
    assert "DivisionByZero" in settled.outcome.message
    assert "correct the row, or spec.text" in settled.outcome.message


def test_a_text_that_takes_too_long_is_tried_again() -> None:
    settled = need(PresentRow("1", None, failure=StatementTimedOut("StatementTimeout", "too long")))
    assert isinstance(settled, Settled)
    assert (settled.outcome.kind, settled.outcome.reason) == (OutcomeKind.FAILED, "TextExpressionFailed")


def test_a_locked_row_says_since_when() -> None:
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    locked = row_locked(since, since)
    assert (locked.kind, locked.reason) == (OutcomeKind.ROW_LOCKED, "RowLocked")
    assert "since 2026-03-01T12:00:00Z" in locked.message


@pytest.mark.parametrize(("locked_s", "pause_s"), [(0, 15), (20, 15), (40, 20), (240, 60), (86_400, 60)])
def test_the_longer_a_row_is_locked_the_longer_is_the_pause(locked_s: int, pause_s: float) -> None:
    since = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert row_locked(since, since + timedelta(seconds=locked_s)).retry_after_s == pause_s


def test_a_failure_keeps_the_providers_code() -> None:
    away = failed(ProviderUnavailable("away", code="503 UNAVAILABLE"))
    assert (away.kind, away.reason, away.message, away.code) == (
        OutcomeKind.FAILED,
        "ProviderUnavailable",
        "away",
        "503 UNAVAILABLE",
    )
    rejected = failed(InputRejected("Blocked", "rejected", code="400 INVALID_ARGUMENT"))
    assert (rejected.kind, rejected.reason, rejected.code) == (
        OutcomeKind.INPUT_REJECTED,
        "Blocked",
        "400 INVALID_ARGUMENT",
    )
    assert failed(RowsRefused("DatabaseRefused", "refused")).reason == "DatabaseRefused"


def test_an_id_that_no_row_can_have_names_the_id_its_column_and_the_remedy() -> None:
    outcome = id_invalid("no-number", "can't be one of public.businesses.id, which is bigint")
    assert (outcome.kind, outcome.reason) == (OutcomeKind.ID_INVALID, "IdInvalid")
    assert outcome.message == (
        "the id 'no-number' can't be one of public.businesses.id, which is bigint: delete this job"
    )
