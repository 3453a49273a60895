"""How many dead letters there may be, and when their rows are looked at again."""

import pytest

from embedding_operator.reconciler.dead_letters import (
    DeadLetterReview,
    DeadLetters,
    dead_letter_limit,
    most_open_jobs,
    room_for_dead_letters,
)
from embedding_operator.resources.embedding_job import Phase
from tests.support.operator_parts import SOURCE, Parts, job_of


@pytest.mark.parametrize(("own", "in_all"), [(0, 0), (1, 1), (499, 499), (0, 500), (49, 600)])
def test_below_five_hundred_dead_letters_or_with_few_of_its_own_a_source_creates_jobs(own: int, in_all: int) -> None:
    assert dead_letter_limit(own, costly_in_all=in_all) is None


@pytest.mark.parametrize(
    ("own", "in_all", "numbers"),
    [
        (500, 500, "500 dead letters, and"),
        (542, 600, "542 dead letters, and"),
        (50, 500, "50 dead letters, and 500 in all sources, and"),
        (499, 520, "499 dead letters, and 520 in all sources, and"),
    ],
)
def test_from_five_hundred_on_no_job_is_created_and_the_message_says_what_to_do(
    own: int, in_all: int, numbers: str
) -> None:
    assert dead_letter_limit(own, costly_in_all=in_all) == (
        "DeadLetterLimit",
        f"there are {numbers} the limit is 500: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected",
    )


@pytest.mark.parametrize(
    ("own", "in_all", "sharing", "most"),
    [
        (0, 0, 0, 500),
        (1, 1, 0, 499),
        (499, 499, 1, 1),
        (500, 500, 1, 0),
        (100, 300, 2, 100),
        (100, 499, 3, 1),
        (0, 300, 2, 200),
        (0, 480, 2, 50),
        (30, 600, 2, 20),
        (49, 600, 2, 1),
        (50, 600, 2, 0),
    ],
)
def test_no_more_jobs_may_be_open_than_there_is_room_for_dead_letters(
    own: int, in_all: int, sharing: int, most: int
) -> None:
    assert most_open_jobs(own, costly_in_all=in_all, sharing=sharing) == most


@pytest.mark.parametrize("good_each", [0, 1, 7])
def test_however_many_of_the_open_jobs_fail_the_limit_is_reached_and_never_exceeded(good_each: int) -> None:
    dead = 0
    while opened := most_open_jobs(dead, costly_in_all=dead, sharing=1):
        dead += max(1, opened - good_each)
        assert dead <= 500
    assert dead == 500


@pytest.mark.parametrize(
    ("existing", "own", "room"), [(0, 0, 500), (450, 450, 50), (500, 500, 0), (600, 0, 50), (600, 40, 10), (600, 60, 0)]
)
def test_rows_that_fail_without_a_call_are_shown_while_there_is_room(existing: int, own: int, room: int) -> None:
    assert room_for_dead_letters(existing, own) == room


def test_dead_letters_that_cost_no_call_stop_no_source() -> None:
    parts = Parts()
    for n in range(600):
        job = job_of(str(n), "any", Phase.DEAD_LETTERED)
        job["status"]["reason"] = "TextExpressionFailed" if n % 2 else "UpdateSuppressed"
        parts.track(job)
    letters = DeadLetters(SOURCE, parts.table)
    assert (letters.limit, letters.room, letters.any_suppressed) == (None, 0, True)
    assert DeadLetters("others", parts.table).room == 50
    assert not DeadLetters("others", parts.table).any_suppressed


def test_open_jobs_are_counted_as_dead_letters_to_come_but_not_those_of_locked_rows() -> None:
    parts = Parts()
    for n in range(100):
        parts.track(job_of(f"dead {n}", "any", Phase.DEAD_LETTERED))
        parts.track(job_of(f"open {n}", "any"))
    for n in range(50):
        locked = job_of(f"locked {n}", "any", Phase.RETRYING)
        locked["status"]["reason"] = "RowLocked"
        parts.track(locked)
    assert DeadLetters(SOURCE, parts.table).may_be_opened == 300


def test_the_open_jobs_of_a_source_take_no_room_of_others_and_sources_with_many_dead_letters_share_the_room() -> None:
    parts = Parts()
    for n in range(100):
        parts.track(job_of(f"open {n}", "any"))
        parts.track(job_of(f"dead {n}", "any", Phase.DEAD_LETTERED))
        other = job_of(f"others {n}", "any", Phase.DEAD_LETTERED)
        other["spec"]["sourceRef"]["name"] = "others"
        parts.track(other)
    assert DeadLetters(SOURCE, parts.table).may_be_opened == 50
    assert DeadLetters("others", parts.table).may_be_opened == 150
    assert DeadLetters("healthy", parts.table).may_be_opened == 300


def test_the_first_review_is_due_at_once() -> None:
    assert DeadLetterReview().is_due(1_000.0)


def test_a_review_is_due_again_after_a_minute() -> None:
    review = DeadLetterReview()
    review.record(1_000.0)
    assert not review.is_due(1_059.9)
    assert review.is_due(1_060.0)
