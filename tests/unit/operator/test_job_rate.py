"""How many jobs a business gets in a minute."""

import pytest

from embedding_operator.reconciler.job_rate import MAX_A_MINUTE, JobRate


@pytest.fixture
def rate() -> JobRate:
    return JobRate()


def use_up(rate: JobRate, business: str, *, since: float) -> None:
    for second in range(MAX_A_MINUTE):
        assert rate.allows(business, since + second)
        rate.record(business, since + second)


def test_five_jobs_a_minute_are_enough_for_a_business(rate: JobRate) -> None:
    assert MAX_A_MINUTE == 5
    use_up(rate, "1", since=100.0)
    assert not rate.allows("1", 105.0)
    assert not rate.allows("1", 160.0)
    assert rate.allows("1", 160.1)


def test_each_job_makes_room_for_one_when_its_own_minute_is_over(rate: JobRate) -> None:
    use_up(rate, "1", since=100.0)
    rate.record("1", 160.1)
    assert not rate.allows("1", 161.0)
    assert rate.allows("1", 161.1)


def test_one_business_at_its_limit_stops_no_other(rate: JobRate) -> None:
    use_up(rate, "1", since=100.0)
    assert rate.allows("2", 105.0)


def test_forgetting_what_is_old_keeps_what_is_within_the_minute(rate: JobRate) -> None:
    use_up(rate, "1", since=100.0)
    rate.forget_old(130.0)
    assert not rate.allows("1", 130.0)


def test_a_business_without_a_job_within_the_minute_takes_no_memory(rate: JobRate) -> None:
    for business in range(1_000):
        rate.record(str(business), 100.0)
    rate.forget_old(200.0)
    assert len(rate._created) == 0
