"""How many dead letters there may be, and when their rows are looked at again."""

import pytest

from embedding_operator.reconciler.dead_letters import (
    AtRisk,
    DeadLetterReview,
    DeadLetters,
    dead_letter_limit,
    more_open_jobs,
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
    ("here", "in_all", "sharing", "more"),
    [
        (AtRisk(0, 0), AtRisk(0, 0), 1, 500),
        (AtRisk(1, 0), AtRisk(1, 0), 1, 499),
        (AtRisk(1, 50), AtRisk(1, 50), 1, 449),
        (AtRisk(499, 0), AtRisk(499, 0), 1, 1),
        (AtRisk(499, 1), AtRisk(499, 1), 1, 0),
        (AtRisk(500, 0), AtRisk(500, 0), 1, 0),
        (AtRisk(100, 0), AtRisk(300, 0), 2, 100),
        (AtRisk(100, 10), AtRisk(300, 100), 2, 50),
        (AtRisk(100, 0), AtRisk(499, 0), 3, 1),
        (AtRisk(100, 0), AtRisk(400, 100), 3, 1),
        (AtRisk(100, 1), AtRisk(400, 100), 3, 0),
        (AtRisk(0, 250), AtRisk(0, 500), 1, 0),
        (AtRisk(0, 0), AtRisk(300, 100), 2, 100),
        (AtRisk(0, 0), AtRisk(480, 500), 2, 50),
        (AtRisk(30, 5), AtRisk(600, 5), 2, 15),
        (AtRisk(49, 0), AtRisk(600, 0), 2, 1),
        (AtRisk(50, 0), AtRisk(600, 0), 2, 0),
    ],
)
def test_no_more_jobs_may_be_open_than_there_is_room_for_dead_letters(
    here: AtRisk, in_all: AtRisk, sharing: int, more: int
) -> None:
    assert more_open_jobs(here, in_all, sharing=sharing) == more


@pytest.mark.parametrize("good_each", [0, 1, 7])
def test_however_many_of_the_open_jobs_fail_the_limit_is_reached_and_never_exceeded(good_each: int) -> None:
    dead = 0
    while opened := more_open_jobs(AtRisk(dead, 0), AtRisk(dead, 0), sharing=1):
        dead += max(1, opened - good_each)
        assert dead <= 500
    assert dead == 500


def test_two_sources_that_open_jobs_in_turn_do_not_exceed_the_limit_together() -> None:
    opened = [0, 0]
    for turn in range(200):
        here = turn % 2
        room = more_open_jobs(AtRisk(0, opened[here]), AtRisk(0, sum(opened)), sharing=1)
        opened[here] += min(room, 50)
    assert sum(opened) == 500


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
    letters = DeadLetters(SOURCE, parts.table, parts.window)
    assert (letters.limit, letters.room, letters.any_suppressed) == (None, 0, True)
    assert DeadLetters("others", parts.table, parts.window).room == 50
    assert not DeadLetters("others", parts.table, parts.window).any_suppressed


def test_open_jobs_are_counted_as_dead_letters_to_come_but_not_those_of_locked_rows() -> None:
    parts = Parts()
    for n in range(100):
        parts.track(job_of(f"dead {n}", "any", Phase.DEAD_LETTERED))
        parts.track(job_of(f"open {n}", "any"))
    for n in range(50):
        locked = job_of(f"locked {n}", "any", Phase.RETRYING)
        locked["status"]["reason"] = "RowLocked"
        parts.track(locked)
    assert DeadLetters(SOURCE, parts.table, parts.window).may_be_opened == 300


def test_the_open_jobs_of_all_sources_take_room_and_sources_with_many_dead_letters_share_what_is_left() -> None:
    parts = Parts()
    for n in range(100):
        parts.track(job_of(f"open {n}", "any"))
        parts.track(job_of(f"dead {n}", "any", Phase.DEAD_LETTERED))
        other = job_of(f"others {n}", "any", Phase.DEAD_LETTERED)
        other["spec"]["sourceRef"]["name"] = "others"
        parts.track(other)
    assert DeadLetters(SOURCE, parts.table, parts.window).may_be_opened == 100
    assert DeadLetters("others", parts.table, parts.window).may_be_opened == 100
    assert DeadLetters("healthy", parts.table, parts.window).may_be_opened == 200


def test_the_first_review_is_due_at_once() -> None:
    assert DeadLetterReview().is_due(1_000.0)


def test_a_review_is_due_again_after_a_minute() -> None:
    review = DeadLetterReview()
    review.record(1_000.0)
    assert not review.is_due(1_059.9)
    assert review.is_due(1_060.0)


def test_the_open_jobs_of_a_source_that_cannot_be_worked_on_take_no_room_of_others() -> None:
    parts = Parts()
    for n in range(400):
        other = job_of(f"others {n}", "any")
        other["spec"]["sourceRef"]["name"] = "others"
        parts.track(other)
    assert DeadLetters(SOURCE, parts.table, parts.window).may_be_opened == 100
    parts.window.set_idle("others", True)
    assert DeadLetters(SOURCE, parts.table, parts.window).may_be_opened == 500
