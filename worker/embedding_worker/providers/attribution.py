"""Decides whether a failed call counts as an attempt of the row. Pure; called by the bisection for each failed call.

A failure counts as an attempt only if the call contained no other row, and if neither its error nor the other calls of the
same batch show that the provider as a whole fails. If the batch has one row only, there are no other calls, and the failure
counts.
"""

from collections.abc import Sequence

from embedding_worker.batching.bisect import AttemptRecord
from embedding_worker.errors import DayLimitReached, InputRejected, ProviderMisconfigured, ProviderThrottled

OF_THE_PROVIDER = (ProviderThrottled, ProviderMisconfigured, DayLimitReached)
"""Errors whose cause is the provider and not a text: every other text of the batch would fail in the same way."""
CALLS_WITHOUT_SUCCESS = 7
"""A batch, its two parts, and the four parts of these. If all of these calls fail, the cause is the provider, and bisecting
further would cost a call for each text."""
LONE_FAILURES_WITHOUT_SUCCESS = 2
"""If two calls with one text each fail, and no call has succeeded, the cause is the provider."""


def is_shared_failure(history: Sequence[AttemptRecord]) -> bool:
    """Whether the last of these calls failed because of the provider, so that it counts as an attempt of no row.

    InputRejected is an error of a text, so such a call is neither a failure nor a success of the provider.
    """
    if isinstance(history[-1].error, OF_THE_PROVIDER):
        return True
    failures = [record for record in history if record.error and not isinstance(record.error, InputRejected)]
    any_success = any(record.error is None for record in history)
    if not any_success and sum(record.items == 1 for record in failures) >= LONE_FAILURES_WITHOUT_SUCCESS:
        return True
    return _failures_since_success(history) >= CALLS_WITHOUT_SUCCESS


def _failures_since_success(history: Sequence[AttemptRecord]) -> int:
    count = 0
    for record in reversed(history):
        if record.error is None:
            break
        count += not isinstance(record.error, InputRejected)
    return count
