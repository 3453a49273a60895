"""How many dead letters there may be, and when their rows are looked at again."""

import pytest

from embedding_operator.reconciler.dead_letters import (
    DeadLetterReview,
    DeadLetters,
    dead_letter_limit,
    room_for_dead_letters,
)
from embedding_operator.resources.embedding_job import Phase
from tests.support.operator_parts import SOURCE, Parts, job_of


@pytest.mark.parametrize(("own", "in_all"), [(0, 0), (1, 1), (499, 499), (0, 500), (49, 600)])
def test_below_five_hundred_dead_letters_or_with_few_of_its_own_a_source_creates_jobs(own: int, in_all: int) -> None:
    assert dead_letter_limit(own, costly_in_all=in_all) is None


@pytest.mark.parametrize(("dead_letters", "in_all"), [(500, 500), (542, 600), (50, 500), (499, 520)])
def test_from_five_hundred_on_no_job_is_created_and_the_message_says_what_to_do(dead_letters: int, in_all: int) -> None:
    assert dead_letter_limit(dead_letters, costly_in_all=in_all) == (
        "DeadLetterLimit",
        f"there are {dead_letters} dead letters: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected",
    )


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


def test_the_first_review_is_due_at_once() -> None:
    assert DeadLetterReview().is_due(1_000.0)


def test_a_review_is_due_again_after_a_minute() -> None:
    review = DeadLetterReview()
    review.record(1_000.0)
    assert not review.is_due(1_059.9)
    assert review.is_due(1_060.0)
