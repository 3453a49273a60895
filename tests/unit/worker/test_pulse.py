"""The pulse notices that this process was stopped for a while."""

import pytest

from embedding_worker.providers.pulse import BEAT_EVERY_S, STOPPED_AFTER_S, Pulse


def beating(*moments: float) -> Pulse:
    pulse = Pulse()
    for moment in moments:
        pulse.beat(moment)
    return pulse


REGULAR = [10.0 + n * BEAT_EVERY_S for n in range(20)]
"""Until 19.5."""


@pytest.mark.parametrize(
    ("moments", "since", "now", "expected"),
    [
        ([], 0.0, 1_000.0, False),
        (REGULAR, 10.0, 19.5, False),
        (REGULAR, 10.0, 19.5 + STOPPED_AFTER_S, False),
        (REGULAR, 10.0, 19.6 + STOPPED_AFTER_S, True),
        ([*REGULAR, 30.0], 15.0, 30.0, True),
        ([*REGULAR, 30.0], 29.9, 30.0, True),
        ([*REGULAR, 30.0, 30.5], 15.0, 30.5, True),
        ([*REGULAR, 30.0, 30.5, 31.0], 30.2, 31.0, False),
        ([*REGULAR, 30.0, 30.5, 40.0, 40.5], 30.2, 40.5, True),
    ],
    ids=[
        "it has not begun to beat",
        "it beats",
        "a beat is late",
        "no beat came since",
        "a beat came late during the call",
        "the call began while it was stopped",
        "it beats again",
        "the call began afterwards",
        "it was stopped twice",
    ],
)
def test_a_process_was_stopped_if_its_beats_were_far_apart_during_the_call(
    moments: list[float], since: float, now: float, expected: bool
) -> None:
    assert beating(*moments).was_stopped(since=since, now=now) is expected
