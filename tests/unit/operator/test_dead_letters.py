"""How many dead letters there may be, and when their rows are looked at again."""

import pytest

from embedding_operator.reconciler.dead_letters import DeadLetterReview, dead_letter_limit


@pytest.mark.parametrize("dead_letters", [0, 1, 499])
def test_below_five_hundred_dead_letters_jobs_are_created(dead_letters: int) -> None:
    assert dead_letter_limit(dead_letters) is None


@pytest.mark.parametrize("dead_letters", [500, 542])
def test_from_five_hundred_on_no_job_is_created_and_the_message_says_what_to_do(dead_letters: int) -> None:
    assert dead_letter_limit(dead_letters) == (
        "DeadLetterLimit",
        f"there are {dead_letters} dead letters: no job is created until some of them are replayed or deleted, "
        "or their rows are corrected",
    )


def test_the_first_review_is_due_at_once() -> None:
    assert DeadLetterReview().is_due(1_000.0)


def test_a_review_is_due_again_after_a_minute() -> None:
    review = DeadLetterReview()
    review.record(1_000.0)
    assert not review.is_due(1_059.9)
    assert review.is_due(1_060.0)
