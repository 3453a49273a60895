"""How long the process goes on trying: for ever, at a bounded pace."""

import itertools

from embedding_operator.handlers.kopf_setup import Forever

FIRST_HOUR = 200


def test_backoffs_grow_to_half_a_minute_and_never_end() -> None:
    pauses = list(itertools.islice(Forever(), FIRST_HOUR))
    assert len(pauses) == FIRST_HOUR
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (0.2, 30)


def test_each_outage_begins_with_the_short_pauses_again() -> None:
    backoffs = Forever()
    first = list(itertools.islice(backoffs, FIRST_HOUR))
    assert list(itertools.islice(backoffs, FIRST_HOUR)) == first
