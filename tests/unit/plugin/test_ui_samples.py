"""The curves of the page: what is measured, for how long it is kept, and where there is no line."""

from datetime import timedelta

import pytest

from kubectl_embeddings.ui.samples import MOST_SAMPLES, Samples
from kubectl_embeddings.views import Source, source_of
from tests.support.fake_clock import START
from tests.support.fake_requests import source_body
from tests.support.page_stand import counts


def source(due: int = 0, *, sent: int = 0, total: int = 100, day: str = "2026-03-01") -> Source:
    status = counts(total, due, sent=sent)
    status["today"]["date"] = day
    return source_of(source_body(status=status))


def filled(*sent: int, every_s: float = 30) -> Samples:
    samples = Samples()
    for number, texts in enumerate(sent):
        samples.add(START + timedelta(seconds=every_s * number), {"a": source(sent=texts)})
    return samples


def test_the_rate_is_that_of_the_last_minute() -> None:
    assert filled(1000, 1010, 1040, 1040).curves()["textsPerMinute"] == [None, 20.0, 40.0, 30.0]


def test_before_a_rate_can_be_measured_there_is_none() -> None:
    assert filled(1000, 1010, every_s=5).curves()["textsPerMinute"] == [None, None]


def test_a_new_day_is_counted_from_zero() -> None:
    samples = filled(1000)
    samples.add(START + timedelta(seconds=60), {"a": source(sent=50, day="2026-03-02")})
    assert samples.curves()["textsPerMinute"] == [None, 50.0]


def test_a_source_that_appears_adds_nothing_that_was_sent_before() -> None:
    samples = filled(1000)
    samples.add(START + timedelta(seconds=30), {"a": source(sent=1005), "b": source(sent=9000)})
    assert samples.curves()["textsPerMinute"] == [None, 10.0]


def missing_in_one_look() -> Samples:
    samples = Samples()
    for number, texts in enumerate([1000, 1030, None, 1090, 1120]):
        seen = {"other": source(sent=30 * number)} | ({} if texts is None else {"a": source(sent=texts)})
        samples.add(START + timedelta(seconds=30 * number), seen)
    return samples


def test_a_source_that_is_missing_in_one_look_has_a_gap_and_never_a_rate_below_zero() -> None:
    samples = missing_in_one_look()
    assert samples.curves("a")["textsPerMinute"] == [None, 60.0, None, None, 60.0]
    assert samples.curves()["textsPerMinute"] == [None, 120.0, 60.0, 60.0, 120.0]


def test_a_source_that_was_created_again_between_two_looks_has_a_gap() -> None:
    assert filled(1000, 1030, 10, 40).curves()["textsPerMinute"] == [None, 60.0, None, 60.0]


def test_the_curves_are_of_one_source_or_of_all() -> None:
    samples = Samples()
    samples.add(START, {"a": source(10), "b": source(60, total=300)})
    assert (samples.curves("a")["due"], samples.curves("a")["freshPercent"]) == ([10], [90.0])
    assert (samples.curves()["due"], samples.curves()["freshPercent"]) == ([70], [82.5])


def test_of_a_source_that_is_not_there_or_not_counted_there_is_no_value() -> None:
    samples = Samples()
    samples.add(START, {"a": source_of(source_body())})
    assert samples.curves("a")["due"] == samples.curves("b")["due"] == samples.curves()["due"] == [None]


def test_no_line_connects_samples_between_which_nobody_looked() -> None:
    samples = filled(0, 0, every_s=600)
    curves = samples.curves()
    assert curves["due"] == [0, None, 0]
    assert curves["at"][1] == START.timestamp() + 300
    assert curves["textsPerMinute"] == [None, None, None]


@pytest.mark.parametrize(("every_s", "kept"), [(5.0, MOST_SAMPLES), (1.0, MOST_SAMPLES), (60.0, 61)])
def test_an_hour_is_kept_and_never_more_than_the_bound(every_s: float, kept: int) -> None:
    assert len(filled(*range(2000), every_s=every_s).curves()["at"]) == kept
