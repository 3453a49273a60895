"""Which jobs are open, from memory: noted before they are made, dropped when the API server says so, corrected by lists."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from embedding_operator.reconciler.open_jobs import MOST_A_MINUTE, OpenJob, OpenJobs

from embedding_operator.resources.embedding_job import EmbeddingJob, Phase, parsed_job


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(clock: Clock) -> OpenJobs:
    return OpenJobs(clock)


def noted(business: str, *, source: str = "shops", text: str = "1" * 64, at: float = 0.0) -> OpenJob:
    return OpenJob(f"{source}-{business}-{text[:8]}", source, business, text, "cohort-1", noted_at=at)


def shown(business: str, phase: Phase = Phase.PENDING, *, source: str = "shops", text: str = "1" * 64) -> EmbeddingJob:
    """The same job as the API server has it."""
    return parsed_job(
        {
            "metadata": {
                "name": noted(business, source=source, text=text).name,
                "labels": {"embeddings.yellowbook.dev/cohort": "cohort-1"},
            },
            "spec": {
                "sourceRef": {"name": source},
                "businessId": business,
                "contentHash": text,
                "fingerprint": "any@8",
            },
            "status": {"phase": phase},
        }
    )


def test_a_business_is_taken_from_before_its_job_is_made(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    assert jobs.taken("shops") == ["1"]
    assert (len(jobs), jobs.count("shops")) == (1, 1)


def test_each_source_has_its_own_businesses(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.note(noted("1", source="others"))
    assert jobs.taken("shops") == jobs.taken("others") == ["1"]
    assert (len(jobs), jobs.count("shops")) == (2, 1)
    assert jobs.of("shops") == {"1": noted("1")}


def test_the_watch_changes_nothing_of_what_was_noted(jobs: OpenJobs) -> None:
    jobs.note(noted("1", at=5.0))
    jobs.answers(noted("1", at=5.0), 7)
    jobs.seen(shown("1"), now=9.0)
    (job,) = jobs.of("shops").values()
    assert (job.noted_at, job.newest_mark) == (5.0, 7)


def test_a_job_of_an_earlier_process_is_known_once_it_is_seen(jobs: OpenJobs) -> None:
    jobs.seen(shown("1"), now=9.0)
    assert jobs.of("shops") == {"1": noted("1", at=9.0)}


def test_a_job_that_left_gives_its_business_free(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    assert jobs.left(noted("1").name) == noted("1")
    assert jobs.taken("shops") == []
    assert len(jobs) == 0


def test_a_job_that_nobody_knows_leaves_without_a_trace(jobs: OpenJobs) -> None:
    assert jobs.left("unknown") is None


def test_a_job_leaves_once(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.left(noted("1").name)
    assert jobs.left(noted("1").name) is None


def test_the_end_of_a_superseded_job_leaves_its_successor_open(jobs: OpenJobs) -> None:
    jobs.note(noted("1", text="1" * 64))
    jobs.note(noted("1", text="2" * 64))
    jobs.left(noted("1", text="1" * 64).name)
    assert jobs.of("shops") == {"1": noted("1", text="2" * 64)}


def test_a_dead_letter_keeps_its_business_taken_after_the_job_has_left(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.left(noted("1").name)
    assert set(jobs.dead_letters("shops")) == {"1"}
    assert jobs.taken("shops") == ["1"]
    assert len(jobs) == 0


def test_a_dead_letter_is_still_open_until_the_api_server_says_so(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    assert jobs.count("shops") == 1


def test_a_replayed_dead_letter_is_an_open_job_again(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.seen(shown("1"), now=9.0)
    assert jobs.dead_letters("shops") == {}
    assert jobs.count("shops") == 1


def test_a_dead_letter_keeps_what_was_known_of_its_job(jobs: OpenJobs) -> None:
    jobs.note(replace(noted("1", at=5.0), newest_mark=7, edited=True, in_flight=True))
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    dead = replace(noted("1", at=5.0), newest_mark=7, edited=True)
    assert jobs.dead_letters("shops") == {"1": dead}


def test_dead_letters_are_counted_over_all_sources(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.died(shown("1", Phase.DEAD_LETTERED, source="others"))
    assert jobs.count_dead_letters() == 2
    assert set(jobs.dead_letters("shops")) == {"1"}


def test_a_dead_letter_that_is_buried_gives_its_business_free(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.buried("shops", "1")
    jobs.buried("shops", "1")
    assert (jobs.taken("shops"), jobs.count_dead_letters()) == ([], 0)


def test_a_job_for_an_edited_row_takes_the_place_of_the_dead_letter(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.note(noted("1", text="2" * 64))
    assert jobs.dead_letters("shops") == {}
    assert jobs.taken("shops") == ["1"]


def test_only_the_very_job_that_died_is_the_dead_letter(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    assert jobs.is_dead_letter(shown("1", Phase.DEAD_LETTERED))
    assert not jobs.is_dead_letter(shown("1", text="2" * 64))
    assert not jobs.is_dead_letter(shown("2"))


def test_what_a_caller_does_with_the_dead_letters_it_was_given_changes_none(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.dead_letters("shops").clear()
    assert set(jobs.dead_letters("shops")) == {"1"}


def test_an_open_job_answers_the_newest_mark_that_is_known(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.answers(noted("1"), 7)
    assert jobs.of("shops")["1"].newest_mark == 7


def test_a_dead_letter_answers_the_newest_mark_that_is_known(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.answers(jobs.dead_letters("shops")["1"], 7)
    assert jobs.dead_letters("shops")["1"].newest_mark == 7
    assert jobs.count("shops") == 0


def test_a_dead_letter_that_is_not_the_one_of_now_answers_nothing(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.answers(noted("1", text="2" * 64), 7)
    assert jobs.dead_letters("shops")["1"].newest_mark == 0


def test_a_list_keeps_what_is_known_of_a_dead_letter(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.answers(jobs.dead_letters("shops")["1"], 7)
    jobs.corrected([shown("1", Phase.DEAD_LETTERED)], listed_at=100.0)
    assert jobs.dead_letters("shops")["1"].newest_mark == 7


def test_a_list_that_shows_another_dead_letter_knows_nothing_of_its_marks(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.answers(jobs.dead_letters("shops")["1"], 7)
    jobs.corrected([shown("1", Phase.DEAD_LETTERED, text="2" * 64)], listed_at=100.0)
    assert jobs.dead_letters("shops")["1"] == noted("1", text="2" * 64, at=100.0)


def test_no_open_job_is_unseen_by_the_watch_where_there_is_none(jobs: OpenJobs) -> None:
    assert jobs.oldest_unseen_s() is None


def test_a_job_is_unseen_from_its_noting_until_the_watch_shows_it(jobs: OpenJobs, clock: Clock) -> None:
    jobs.note(noted("1", at=50.0))
    clock.now = 57.0
    assert jobs.oldest_unseen_s() == 7.0
    jobs.watched(shown("1"))
    assert jobs.oldest_unseen_s() is None


def test_of_several_unseen_jobs_the_oldest_counts(jobs: OpenJobs, clock: Clock) -> None:
    jobs.note(noted("1", at=50.0))
    jobs.note(noted("2", at=52.0))
    clock.now = 60.0
    assert jobs.oldest_unseen_s() == 10.0
    jobs.watched(shown("1"))
    assert jobs.oldest_unseen_s() == 8.0


def test_a_handler_that_shows_a_job_is_no_event_of_the_watch(jobs: OpenJobs, clock: Clock) -> None:
    jobs.seen(shown("1"), now=50.0)
    clock.now = 51.0
    assert jobs.oldest_unseen_s() == 1.0


def test_the_watch_brings_a_job_that_somebody_else_has_made(jobs: OpenJobs) -> None:
    jobs.watched(shown("1"))
    assert set(jobs.of("shops")) == {"1"}
    assert jobs.oldest_unseen_s() is None


def test_what_a_handler_is_at_work_on_is_in_hand_until_it_is_put_down(jobs: OpenJobs) -> None:
    for business in ("1", "2"):
        jobs.note(noted(business))
        jobs.in_hand(noted(business).name, True)
    assert jobs.names_in_hand() == {noted("1").name, noted("2").name}
    jobs.in_hand(noted("1").name, False)
    assert (set(jobs.names_in_hand()), jobs.in_flight()) == ({noted("2").name}, 1)


def test_a_job_in_a_backoff_is_open_and_neither_active_nor_in_hand(jobs: OpenJobs) -> None:
    for business in ("1", "2"):
        jobs.note(noted(business))
        jobs.in_hand(noted(business).name, True)
    jobs.note(noted("1", source="others"))
    jobs.backs_off(noted("1").name)
    assert (jobs.count("shops"), jobs.active("shops"), jobs.active(), jobs.in_flight()) == (2, 1, 2, 1)


def test_a_job_is_active_again_when_its_next_attempt_begins(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.backs_off(noted("1").name)
    jobs.in_hand(noted("1").name, True)
    assert jobs.active("shops") == 1


@pytest.mark.parametrize(("phase", "active"), [(Phase.PENDING, 1), (Phase.RETRYING, 0)])
def test_of_a_job_of_an_earlier_process_the_phase_tells_whether_it_backs_off(
    jobs: OpenJobs, phase: Phase, active: int
) -> None:
    jobs.seen(shown("1", phase), now=9.0)
    assert (jobs.count("shops"), jobs.active("shops")) == (1, active)


@pytest.mark.parametrize("edited", [True, False])
def test_a_job_is_an_edit_where_an_application_has_changed_its_row(jobs: OpenJobs, edited: bool) -> None:
    jobs.note(replace(noted("1"), edited=edited))
    assert jobs.is_edit(noted("1").name) is edited


def test_a_job_that_is_not_known_is_no_edit(jobs: OpenJobs) -> None:
    jobs.seen(shown("1"), now=9.0)
    assert not jobs.is_edit(noted("1").name)
    assert not jobs.is_edit("unknown")


def test_dead_letters_are_no_open_jobs(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    assert (len(jobs), jobs.count("shops"), jobs.of("shops")) == (0, 0, {})


def test_a_list_brings_what_the_watch_has_missed(jobs: OpenJobs) -> None:
    listed = [shown("1"), shown("2", Phase.RETRYING), shown("3", Phase.DEAD_LETTERED), shown("4", Phase.SUCCEEDED)]
    jobs.corrected(listed, listed_at=100.0)
    assert set(jobs.of("shops")) == {"1", "2"}
    assert set(jobs.dead_letters("shops")) == {"3"}


def test_a_list_drops_what_has_left_unseen(jobs: OpenJobs) -> None:
    jobs.note(noted("1", at=99.0))
    jobs.note(noted("2", at=99.0))
    jobs.corrected([shown("1", Phase.SUCCEEDED)], listed_at=100.0)
    assert jobs.taken("shops") == []


def test_a_list_keeps_what_was_noted_after_it_began(jobs: OpenJobs, clock: Clock) -> None:
    clock.now = 100.0
    jobs.note(noted("1", at=100.0))
    jobs.note(noted("2", at=101.0))
    jobs.corrected([], listed_at=100.0)
    assert set(jobs.of("shops")) == {"1", "2"}


def test_a_list_does_not_bring_back_what_left_while_it_was_read(jobs: OpenJobs, clock: Clock) -> None:
    jobs.note(noted("1", at=99.0))
    clock.now = 101.0
    jobs.left(noted("1").name)
    jobs.corrected([shown("1")], listed_at=100.0)
    assert jobs.taken("shops") == []


def test_a_list_does_not_lose_what_died_while_it_was_read(jobs: OpenJobs, clock: Clock) -> None:
    jobs.note(noted("1", at=99.0))
    clock.now = 101.0
    jobs.died(shown("1"))
    jobs.left(noted("1").name)
    jobs.corrected([shown("1")], listed_at=100.0)
    assert (set(jobs.dead_letters("shops")), jobs.count("shops")) == ({"1"}, 0)


def test_a_list_does_not_bury_again_what_was_replayed_while_it_was_read(jobs: OpenJobs, clock: Clock) -> None:
    jobs.died(shown("1"))
    clock.now = 101.0
    jobs.seen(shown("1"), now=101.0)
    jobs.left(noted("1").name)
    jobs.corrected([shown("1", Phase.DEAD_LETTERED)], listed_at=100.0)
    assert jobs.taken("shops") == []


def test_a_list_drops_what_has_left_unseen_even_if_a_handler_had_it_in_hand(jobs: OpenJobs) -> None:
    jobs.note(noted("1", at=99.0))
    jobs.in_hand(noted("1").name, True)
    jobs.corrected([shown("1", Phase.SUCCEEDED)], listed_at=100.0)
    assert (jobs.in_flight(), jobs.taken("shops")) == (0, [])


def test_jobs_of_idle_sources_can_be_left_out_of_the_count(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.note(noted("1", source="others"))
    assert (jobs.active(but={"others"}), jobs.open_but({"others"}), jobs.active()) == (1, 1, 2)


async def test_waiting_for_the_last_job_ends_when_it_backs_off_or_is_put_down(jobs: OpenJobs) -> None:
    ways: tuple[Callable[[str], None], ...] = (jobs.backs_off, lambda name: jobs.in_hand(name, False))
    for put_down in ways:
        jobs.note(noted("1"))
        jobs.in_hand(noted("1").name, True)
        waiting = asyncio.create_task(jobs.landed(within_s=600))
        await asyncio.sleep(0)
        put_down(noted("1").name)
        async with asyncio.timeout(10):
            await waiting


def test_a_list_keeps_what_is_known_of_an_open_job(jobs: OpenJobs) -> None:
    jobs.note(noted("1", at=99.0))
    jobs.answers(noted("1", at=99.0), 7)
    jobs.corrected([shown("1")], listed_at=100.0)
    assert jobs.of("shops")["1"].newest_mark == 7


def test_a_list_forgets_dead_letters_that_were_deleted(jobs: OpenJobs) -> None:
    jobs.died(shown("1", Phase.DEAD_LETTERED))
    jobs.corrected([], listed_at=100.0)
    assert jobs.taken("shops") == []


def test_a_list_keeps_count_of_what_each_business_had_within_a_minute(jobs: OpenJobs) -> None:
    for moment in range(MOST_A_MINUTE):
        jobs.began("shops", "1", float(moment))
    jobs.corrected([], listed_at=30.0)
    assert not jobs.may_begin("shops", "1", 30.0)


def test_five_jobs_a_minute_are_enough_for_a_business(jobs: OpenJobs) -> None:
    for moment in range(MOST_A_MINUTE):
        assert jobs.may_begin("shops", "1", 100.0 + moment)
        jobs.began("shops", "1", 100.0 + moment)
    assert not jobs.may_begin("shops", "1", 105.0)
    assert not jobs.may_begin("shops", "1", 159.9)
    assert jobs.may_begin("shops", "1", 160.1)


def test_one_business_at_its_limit_stops_no_other(jobs: OpenJobs) -> None:
    for _ in range(MOST_A_MINUTE):
        jobs.began("shops", "1", 100.0)
    assert jobs.may_begin("shops", "2", 100.0)
    assert jobs.may_begin("others", "1", 100.0)


def test_the_jobs_of_a_source_that_is_gone_are_forgotten(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.note(noted("1", source="others"))
    jobs.died(shown("2", Phase.DEAD_LETTERED))
    jobs.forget("shops")
    assert jobs.taken("shops") == []
    assert len(jobs) == 1
    assert jobs.left(noted("1").name) is None


def test_what_is_said_of_an_unknown_job_or_source_changes_nothing(jobs: OpenJobs) -> None:
    jobs.in_hand("unknown", True)
    jobs.answers(noted("unknown"), 1)
    jobs.forget("unknown")
    assert (len(jobs), jobs.in_flight()) == (0, 0)


async def test_landing_with_nothing_in_flight_takes_no_time(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    async with asyncio.timeout(1):
        await jobs.landed(within_s=600)


async def test_landing_waits_for_the_last_job_in_flight(jobs: OpenJobs) -> None:
    for business in ("1", "2"):
        jobs.note(noted(business))
        jobs.in_hand(noted(business).name, True)
    landing = asyncio.create_task(jobs.landed(within_s=600))
    jobs.left(noted("1").name)
    for _ in range(10):
        await asyncio.sleep(0)  # every task that can go on does
    assert not landing.done()
    jobs.left(noted("2").name)
    async with asyncio.timeout(1):
        await landing


async def test_landing_ends_with_its_time(jobs: OpenJobs) -> None:
    jobs.note(noted("1"))
    jobs.in_hand(noted("1").name, True)
    async with asyncio.timeout(1):
        await jobs.landed(within_s=0.01)
    assert jobs.in_flight() == 1
