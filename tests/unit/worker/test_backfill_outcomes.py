"""How soon a backfill reads the marks again after a pass that has left rows."""

from datetime import UTC, datetime

import pytest

from embedding_worker.backfill import PASS_PAUSE_S, PAUSED_PASS_S, Outcomes, Progress
from embedding_worker.errors import Interrupted, Postponed
from embedding_worker.outcome import OutcomeKind, RowOutcome, RowRequest, outcome, row_locked

NOW = datetime.now(UTC)
PAUSED = Postponed("the rate limits that are set for the provider are reached")
UNDECIDED = Postponed("the server is away", pause_s=12.0)
LOCKED = row_locked(NOW, NOW)
EMBEDDED = outcome(OutcomeKind.EMBEDDED)


@pytest.mark.parametrize(
    ("results", "pause_s"),
    [
        ([EMBEDDED, PAUSED], PAUSED_PASS_S),
        ([PAUSED, PAUSED], PAUSED_PASS_S),
        ([EMBEDDED], PASS_PAUSE_S),
        ([PAUSED, UNDECIDED], PASS_PAUSE_S),
        ([UNDECIDED, PAUSED], PASS_PAUSE_S),
        ([PAUSED, LOCKED], PASS_PAUSE_S),
        ([PAUSED, Interrupted("the batch was cancelled")], PASS_PAUSE_S),
        ([PAUSED, ZeroDivisionError()], PASS_PAUSE_S),
    ],
)
def test_the_next_pass_follows_soon_where_rows_only_wait_until_the_provider_may_be_called(
    results: list[RowOutcome | Exception], pause_s: float
) -> None:
    outcomes = Outcomes(Progress(), lambda row_id, result: None)
    for number, result in enumerate(results):
        outcomes.add(RowRequest(str(number)), result)
    assert outcomes.pass_pause_s == pause_s
