"""What refused creates of jobs mean: a row's own refusal, or one that all rows share, and when the next ones are sent."""

from collections.abc import Iterable

import pytest

from embedding_operator.api_errors import ApiServerError, ApiServerUnavailable, Invalid, RequestRefused
from embedding_operator.reconciler.refusals import (
    LONGEST_ROW_PAUSE_S,
    MOST_ROWS_LEFT_OUT,
    MOST_ROWS_PASSED,
    TOLERATED,
    Refusals,
    Refused,
    alike,
)

NOW = 1_000.0
DENIED = Invalid("denied by the policy")
QUOTA = RequestRefused("exceeded quota")
NO_RIGHT = RequestRefused('User "operator" cannot create resource "embeddingjobs" in API group ""')
FREE = 50


def refused(rows: Iterable[object], error: ApiServerError = DENIED) -> list[Refused]:
    return [Refused(str(row), f"job-{row}", error) for row in rows]


@pytest.mark.parametrize(
    ("accepted", "refusals", "shared", "limit", "left_out"),
    [
        (["1"], [], False, FREE, set()),
        (["1"], refused("2"), False, FREE, {"2"}),
        ([], refused("2"), False, FREE, {"2"}),
        (["1"], refused("23"), False, FREE, {"2", "3"}),
        (["1"], refused("234"), False, FREE, {"2", "3", "4"}),
        ([], refused("234"), True, 0, {"2", "3", "4"}),
        ([], [*refused("2"), *refused("3", Invalid("another cause"))], False, FREE, {"2", "3"}),
        ([], refused("2", QUOTA), True, 0, set()),
        (["1"], refused("2", QUOTA), True, FREE, set()),
        ([], refused("2", NO_RIGHT), True, 0, set()),
        ([], refused("2", RequestRefused("the request is too large")), False, FREE, {"2"}),
        ([], refused("2", RequestRefused("a webhook denied the request")), False, FREE, {"2"}),
        ([], refused("234", RequestRefused("a webhook denied the request")), True, 0, {"2", "3", "4"}),
        ([], refused("2", ApiServerUnavailable("too many requests")), False, 0, set()),
    ],
)
def test_what_a_sweep_shows(
    accepted: list[str], refusals: list[Refused], shared: bool, limit: int, left_out: set[str]
) -> None:
    state = Refusals()
    state.record(accepted, refusals, NOW)
    assert (state.shared(NOW) is not None, state.limit(FREE, NOW), state.left_out(NOW)) == (shared, limit, left_out)


def test_messages_that_differ_only_in_names_and_numbers_are_alike() -> None:
    state = Refusals()
    for n in (11, 12, 13):
        state.record([], [Refused(f"row {n}", f"job-{n}", Invalid(f'"job-{n}" of row {n} is denied, {n} in all'))], NOW)
    assert state.shared(NOW) == (
        "JobsRefused",
        "the API server refuses to create jobs: change the policy, quota, webhook or right that its message names: "
        '"…" of row 11 is denied, 11 in all',
    )


def test_an_id_that_is_a_part_of_another_word_of_the_message_makes_no_difference() -> None:
    message = "ValidatingAdmissionPolicy 'deny-b0690c60' denied request"
    state = Refusals()
    state.record([], refused(["0", "6", "e", "x-1"], Invalid(message)), NOW)
    assert len({alike(one) for one in refused(["0", "6", "e", "x-1"], Invalid(message))}) == 1
    assert state.limit(FREE, NOW) == 0


def test_after_a_hold_rows_that_were_refused_with_other_messages_are_tried_again() -> None:
    state = Refusals()
    state.record([], [*refused("123"), *refused("4", Invalid("at 12:00 by proxy a")), *refused("5", DENIED)], NOW)
    assert len(state.left_out(NOW + 5)) == 5
    state.record(["6"], [], NOW + 5)
    assert len(state.left_out(NOW + 5)) == 4 - 1
    assert "4" not in state.left_out(NOW + 5)


def test_probes_of_rows_that_are_left_out_hold_no_jobs_of_other_rows() -> None:
    state = Refusals()
    state.record(["1"], refused("2345"), NOW)
    state.record([], refused("2"), NOW + 8)
    assert state.limit(FREE, NOW + 8) == FREE
    state.record(["6"], [], NOW + 9)
    assert state.left_out(NOW + 9) == {"2", "3", "4", "5"}
    assert state.shared(NOW + 9) is None


def test_a_row_whose_job_is_invalid_is_left_out_for_a_minute() -> None:
    state = Refusals()
    state.record(["1"], refused("2"), NOW)
    assert (state.left_out(NOW + 59.9), state.left_out(NOW + 60)) == ({"2"}, set())


def test_a_lone_row_that_is_refused_again_and_again_never_stalls_its_source() -> None:
    state = Refusals()
    for minute in range(10):
        state.record([], refused("2"), NOW + 60 * minute)
        assert (state.shared(NOW + 60 * minute), state.limit(FREE, NOW + 60 * minute)) == (None, FREE)


def test_the_pause_of_a_row_that_is_refused_again_grows_to_ten_minutes() -> None:
    state, now, pauses = Refusals(), NOW, []
    for _ in range(6):
        state.record([], refused("2"), now)
        before = now
        while state.left_out(now):
            now += 1
            state.record([], [], now)
        pauses.append(now - before)
    assert pauses == [60, 120, 240, 480, LONGEST_ROW_PAUSE_S, LONGEST_ROW_PAUSE_S]


def test_rows_that_are_refused_after_others_were_accepted_are_reported_when_none_is_accepted_for_a_minute() -> None:
    state = Refusals()
    state.record(["1"], refused("2"), NOW)
    state.record([], refused("345"), NOW + 1)
    assert (state.shared(NOW + 59), state.limit(FREE, NOW + 59)) == (None, FREE)
    assert state.shared(NOW + 60) is not None
    state.record(["6"], [], NOW + 61)
    assert state.shared(NOW + 61) is None


def test_probes_are_rows_that_the_ones_before_have_not_passed_over() -> None:
    state = Refusals(choose=lambda rows, number: list(rows)[-number:])
    state.record([], refused("123"), NOW)
    assert state.choose("4567", FREE, NOW + 5) == ["6", "7"]
    state.record([], refused("67"), NOW + 5)
    assert state.left_out(NOW + 5) >= {"4", "5", "6", "7"}
    assert state.choose("89", FREE, NOW + 6) == []
    assert "8" not in state.left_out(NOW + 6)


def test_when_all_due_rows_were_passed_over_the_probes_begin_again() -> None:
    state = Refusals()
    state.record([], refused("123"), NOW)
    chosen = state.choose("4567", FREE, NOW + 5)
    state.record([], refused(chosen), NOW + 5)
    assert state.choose("", FREE, NOW + 13) == []
    assert state.left_out(NOW + 13.5).isdisjoint(set("4567") - set(chosen))


def test_the_rows_that_probes_have_passed_over_are_bounded() -> None:
    state = Refusals()
    state.record([], refused("123"), NOW)
    for begin in range(0, 3 * MOST_ROWS_PASSED, 500):
        state.choose([str(n) for n in range(begin, begin + 500)], FREE, NOW + 5)
        assert len(state.left_out(NOW + 5)) <= MOST_ROWS_PASSED + 3


def test_an_accepted_probe_has_the_passed_rows_tried_and_the_refused_ones_left_out() -> None:
    state = Refusals()
    state.record([], refused("123"), NOW)
    state.choose("4567", FREE, NOW + 5)
    state.record(["4"], refused("5"), NOW + 5)
    assert (state.limit(FREE, NOW + 5), state.shared(NOW + 5)) == (FREE, None)
    assert len(state.left_out(NOW + 5) & set("1235")) == 3
    assert state.left_out(NOW + 5) <= set("1235")


def test_after_an_accepted_probe_hundreds_of_refused_rows_hold_no_other_job() -> None:
    state = Refusals()
    state.record([], refused("123"), NOW)
    state.record(["good"], [], NOW + 5)
    for sweep in range(TOLERATED // 50 - 1):
        state.record([], refused(range(1_000 + sweep * 50, 1_050 + sweep * 50)), NOW + 6 + sweep)
        assert state.limit(FREE, NOW + 6 + sweep) == FREE
    state.record([], refused(range(5_000, 5_050)), NOW + 20)
    assert state.limit(FREE, NOW + 20) == 0


def test_pauses_between_probes_grow_and_stay_below_ten_seconds() -> None:
    state, now, pauses = Refusals(), NOW, []
    for _ in range(5):
        state.record([], refused("123", QUOTA), now)
        before = now
        while state.limit(FREE, now) == 0:
            now += 0.5
        assert state.limit(FREE, now) == 2
        pauses.append(now - before)
    assert pauses == [5, 8, 8, 8, 8]


@pytest.mark.parametrize(("asked_s", "pause_s"), [(1, 5), (30, 30), (999_999, 60)])
def test_a_server_that_asks_for_a_pause_gets_it_up_to_a_minute(asked_s: float, pause_s: float) -> None:
    state = Refusals()
    state.record([], refused("1", ApiServerUnavailable("too many requests", retry_after_s=asked_s)), NOW)
    assert (state.limit(FREE, NOW + pause_s - 0.1), state.limit(FREE, NOW + pause_s)) == (0, 2)


def test_an_overload_is_reported_when_it_lasts() -> None:
    state = Refusals()
    for elapsed_s in (0, 5, 13):
        state.record([], refused("1", ApiServerUnavailable("failed calling webhook")), NOW + elapsed_s)
        assert state.shared(NOW + elapsed_s) is None
    assert state.shared(NOW + 15) is not None


def test_one_of_several_rows_is_a_probe_and_releases_the_others_when_it_is_accepted() -> None:
    state = Refusals()
    state.record(["1"], refused("234"), NOW)
    later = NOW + 8
    (probe,) = {"2", "3", "4"} - state.left_out(later)
    state.record([], refused(probe), later)
    assert len(state.left_out(later)) == 3
    (probe,) = {"2", "3", "4"} - state.left_out(later + 8)
    state.record([probe], [], later + 8)
    assert (state.left_out(later + 8), state.shared(later + 8)) == (set(), None)


def test_rows_that_were_refused_just_before_the_cause_was_removed_are_not_left_out() -> None:
    state = Refusals()
    state.record([], refused("123"), NOW)
    state.record(["1"], refused("45"), NOW + 8)
    assert (state.left_out(NOW + 8), state.shared(NOW + 8)) == (set(), None)


def test_an_accepted_probe_ends_the_pause() -> None:
    state = Refusals()
    state.record([], refused("123", QUOTA), NOW)
    state.record(["1"], [], NOW + 5)
    assert (state.limit(FREE, NOW + 5), state.shared(NOW + 5)) == (FREE, None)


def test_too_many_refused_rows_among_accepted_ones_hold_all_jobs() -> None:
    state = Refusals()
    state.record(["any"], refused(range(MOST_ROWS_LEFT_OUT)), NOW)
    assert state.limit(FREE, NOW) == FREE
    state.record(["any"], refused(["one more"]), NOW)
    assert state.limit(FREE, NOW) == 0


def test_a_refusal_of_all_jobs_is_over_if_no_row_has_been_due_for_two_minutes() -> None:
    state = Refusals()
    state.record([], refused("1", QUOTA), NOW)
    state.record([], [], NOW + 119)
    assert state.shared(NOW + 119) is not None
    state.record([], [], NOW + 120)
    assert (state.shared(NOW + 120), state.limit(FREE, NOW + 120)) == (None, FREE)


def test_a_refused_row_that_was_deleted_is_forgotten() -> None:
    state = Refusals()
    state.record(["1"], refused("234"), NOW)
    state.record(["5"], [], NOW + 121)
    assert (state.shared(NOW + 121), state.left_out(NOW + 121)) == (None, set())
