"""Decides whether a failed call counts as an attempt of the row. Pure; called by calls.py for each failed call.

A failure counts as a row's attempt only if the row failed in a call of its own and nothing shows that the provider as a
whole fails. The evidence is the calls of the same batch: a row without neighbours has none, and its failure counts.
"""

from collections.abc import Sequence

from embedding_worker.batching.bisect import AttemptRecord
from embedding_worker.errors import DayLimitReached, InputRejected, ProviderMisconfigured, ProviderThrottled

OF_THE_PROVIDER = (ProviderThrottled, ProviderMisconfigured, DayLimitReached)
"""Errors of the whole provider, not of a text: every other text of the batch would fail in the same way."""
CALLS_WITHOUT_SUCCESS = 7
"""A batch, then two and then four parts of it. If all of them fail, the provider fails, and bisecting further would cost
a call for each text."""
LONE_FAILURES_WITHOUT_SUCCESS = 2


def is_shared_failure(history: Sequence[AttemptRecord]) -> bool:
    """Whether the last of these calls failed because of the provider, so that no row's attempt counts.

    A text that was rejected shows that the provider works, so InputRejected counts neither for nor against it.
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
