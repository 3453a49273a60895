"""What recent calls show about a provider, and whose failure a failed call is."""

from collections.abc import Iterable

import pytest

from embedding_worker.providers.attribution import (
    DOUBT_AFTER_FAILURES,
    DOUBT_AFTER_S,
    RECENT_CALLS,
    REFUSED_WRONGLY_S,
    REMEMBERED_S,
    WITHIN_S,
    Evidence,
    Verdict,
)

WELL, NOT_WELL, ASK = Verdict.WELL, Verdict.NOT_WELL, Verdict.ASK


def record(evidence: Evidence, calls: str, *, now: float) -> None:
    """`S` is a call that succeeds, `f` a canary that fails, each beginning and ending at this moment."""
    for call in calls:
        number = evidence.next_number()
        if call == "S":
            evidence.record_success(number, now)
        else:
            evidence.record_provider_failure(number, now, refused=False)


def verdict(before: str, after: str, *, passed_s: float = 0.0, then_s: float = 0.0, refused: bool = False) -> Verdict:
    """The verdict about a failure, after calls before it (which ended `passed_s` before it) and calls after it."""
    evidence = Evidence()
    record(evidence, before, now=100.0)
    failure = evidence.next_number()
    record(evidence, after, now=100.0 + passed_s)
    return evidence.verdict(failure, 100.0 + passed_s + then_s, refused=refused)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        # Traffic too thin to tell: three canaries in a row.
        ("", "", ASK),
        ("", "S", ASK),
        ("", "SS", ASK),
        ("", "SSS", WELL),
        ("S" * 6, "SS", ASK),
        ("S" * 6, "SSS", WELL),
        # Much traffic, all of which has succeeded: one canary.
        ("S" * 9, "", ASK),
        ("S" * 9, "S", WELL),
        ("S" * 8, "S", ASK),
        ("S" * 10, "", ASK),
        ("S" * 20, "", ASK),
        ("S" * 20, "S", WELL),
        # At least 95% of the recent calls have to succeed, and after one that did not, three canaries are needed.
        ("f" + "S" * 18, "S", ASK),
        ("f" + "S" * 18, "SSS", WELL),
        ("f" + "S" * 15, "S", NOT_WELL),
        ("f" + "S" * 16, "", ASK),
        ("f" + "S" * 15, "SSS", NOT_WELL),
        ("f" + "S" * 16, "SSS", WELL),
        ("fff" + "S" * 16, "S", NOT_WELL),
        ("f", "S", NOT_WELL),
        ("f", "", ASK),
        ("f", "S" * 8, NOT_WELL),
        ("f", "S" * 18, NOT_WELL),
        ("f", "S" * 19, WELL),
        ("f" * 20, "S", NOT_WELL),
        # Calls after the failure have to succeed in a row.
        ("S" * 20, "f", ASK),
        ("S" * 20, "fS", ASK),
        ("S" * 20, "fSS", ASK),
        ("S" * 20, "fSSS", WELL),
        ("S" * 20, "SSf", ASK),
        ("S" * 20, "ff", NOT_WELL),
        ("", "SSf", NOT_WELL),
    ],
)
def test_a_failure_is_of_its_row_if_the_provider_is_shown_to_be_well(
    before: str, after: str, expected: Verdict
) -> None:
    assert verdict(before, after) is expected


@pytest.mark.parametrize(
    ("passed_s", "expected"), [(0.0, NOT_WELL), (REMEMBERED_S, NOT_WELL), (REMEMBERED_S + 0.1, WELL)], ids=str
)
def test_a_failure_of_the_provider_is_remembered_for_ten_minutes(passed_s: float, expected: Verdict) -> None:
    assert verdict("f", "SSS", passed_s=passed_s) is expected


@pytest.mark.parametrize(("passed_s", "expected"), [(WITHIN_S, WELL), (WITHIN_S + 0.1, ASK)], ids=str)
def test_one_canary_is_enough_only_after_calls_within_a_minute(passed_s: float, expected: Verdict) -> None:
    assert verdict("S" * 15, "S", passed_s=passed_s) is expected


def test_canaries_of_long_ago_show_nothing_about_a_failure_before_them() -> None:
    assert verdict("", "SSS", then_s=REMEMBERED_S + 0.1) is ASK


def test_only_the_last_twenty_calls_count() -> None:
    assert verdict("f" * 3 + "S" * (RECENT_CALLS - 1), "S") is WELL


@pytest.mark.parametrize(("after", "expected"), [("S", ASK), ("SS", ASK), ("SSS", WELL)])
def test_a_refusal_needs_three_canaries_however_many_calls_have_succeeded(after: str, expected: Verdict) -> None:
    assert verdict("S" * 20, after, refused=True) is expected


def test_calls_that_began_before_the_failure_and_ended_after_it_do_not_show_that_it_is_of_the_row() -> None:
    evidence = Evidence()
    numbers = [evidence.next_number() for _ in range(15)]
    failure = evidence.next_number()
    for number in numbers:
        evidence.record_success(number, 100.0)
    assert evidence.verdict(failure, 100.0, refused=False) is ASK


def test_failures_of_unknown_cause_show_nothing_about_the_provider() -> None:
    evidence = Evidence()
    record(evidence, "S" * 10, now=100.0)
    for _ in range(50):
        evidence.record_failure()
    failure = evidence.next_number()
    record(evidence, "S", now=100.0)
    assert evidence.verdict(failure, 100.0, refused=False) is WELL


def in_doubt(events: Iterable[str], *, passed_s: float) -> bool:
    evidence = Evidence()
    for event in events:
        if event == "u":
            evidence.record_failure()
        else:
            record(evidence, event, now=100.0)
    return evidence.is_in_doubt(100.0 + passed_s)


@pytest.mark.parametrize(
    ("events", "passed_s", "expected"),
    [
        ("", 0.0, True),
        ("u", 0.0, True),
        ("S", 0.0, False),
        ("S", DOUBT_AFTER_S, False),
        ("S", DOUBT_AFTER_S + 0.1, True),
        ("S" + "u" * DOUBT_AFTER_FAILURES, 0.0, False),
        ("S" + "u" * (DOUBT_AFTER_FAILURES + 1), 0.0, True),
        ("u" * 5 + "S", 0.0, False),
        ("S" + "f", 0.0, False),
    ],
)
def test_a_canary_is_needed_after_several_failures_or_some_time_without_a_success(
    events: str, passed_s: float, expected: bool
) -> None:
    assert in_doubt(events, passed_s=passed_s) is expected


@pytest.mark.parametrize(
    ("refused", "passed_s", "expected"),
    [(False, 0.0, True), (True, 0.0, False), (True, REFUSED_WRONGLY_S, False), (True, REFUSED_WRONGLY_S + 0.1, True)],
)
def test_refusals_are_not_trusted_for_ten_minutes_after_one_that_was_wrong(
    refused: bool, passed_s: float, expected: bool
) -> None:
    evidence = Evidence()
    evidence.record_provider_failure(evidence.next_number(), 100.0, refused=refused)
    assert evidence.trusts_refusals(100.0 + passed_s) is expected


def test_numbers_grow_with_each_call() -> None:
    evidence = Evidence()
    numbers = [evidence.next_number() for _ in range(5)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize(
    ("events", "passed_s", "expected"),
    [
        ("", 0, False),
        ("S" * 18 + "f", 0, False),
        ("SffffS", 0, False),
        ("SfSf", 0, True),
        ("SfSf", 60, True),
        ("SfSf", 61, False),
    ],
)
def test_failures_that_come_and_go_within_a_minute_are_shown(events: str, passed_s: float, expected: bool) -> None:
    evidence = Evidence()
    record(evidence, events, now=100.0)
    assert evidence.some_calls_fail(100.0 + passed_s) is expected
