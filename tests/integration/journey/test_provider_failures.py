"""What fails because of the provider counts as an attempt of no row: outages, wrong keys, random failures, quotas, hung calls."""

import os
import signal
import time
from collections.abc import Iterable
from typing import Any

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import BlockingTcpProxy, DatabaseProxy

ROWS = 300
SHORT_SCHEDULE = {"initialSeconds": 1, "maxSeconds": 1}
"""All attempts of a row are over after about six seconds."""
OUTAGE_S = 12.0


def attempts(system: System) -> set[tuple[str, int]]:
    return {(job["status"]["phase"], job["status"].get("attempts", 0)) for job in system.jobs()}


def every_row_succeeds_at_its_first_attempt(system: System) -> None:
    """A vector is written shortly before the status of its job."""
    wait_until(lambda: attempts(system) == {("Succeeded", 1)}, within_s=60, because="every row is fresh")


def provider_not_ready(system: System, *, within_s: float = 30, source: str = "businesses") -> Any:
    return system.wait_for_condition("ProviderReady", "False", source, within_s=within_s)


def wait_until_ready(system: System) -> None:
    system.wait_for_condition("ProviderReady", "True")


def while_it_lasts(seconds: float) -> Iterable[None]:
    """Yields again and again, about once a second, until so much time has passed."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        yield
        next_s = time.monotonic() + min(1.0, left)
        wait_until(lambda at=next_s: time.monotonic() >= at, within_s=60, every_s=0.05, because="time passes")  # type: ignore[misc]


@pytest.mark.timeout(300)
def test_an_outage_longer_than_all_pauses_of_a_row_counts_as_no_attempt_of_300_rows(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("503")
    system.book.add(ROWS)
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    began = time.monotonic()
    not_ready = provider_not_ready(system)
    assert not_ready["reason"] == "ProviderUnavailable"
    assert "no call is made since 20" in not_ready["message"]
    assert "next try at" in not_ready["message"]
    for _ in while_it_lasts(OUTAGE_S):
        assert attempts(system) <= {("Pending", 0)}
    calls = gemini.stats().calls
    assert calls <= 2 * 4 + (time.monotonic() - began), "only probes are sent, with pauses of a second or more"
    gemini.lift()
    system.wait_until_fresh(within_s=120)
    wait_until_ready(system)
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_rows_that_become_due_one_at_a_time_during_an_outage_lose_no_attempt(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("500")
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    for _ in while_it_lasts(OUTAGE_S):
        system.book.add(1)
        assert attempts(system) <= {("Pending", 0)}
    assert provider_not_ready(system)["reason"] == "ProviderUnavailable"
    gemini.lift()
    system.wait_until_fresh(within_s=120)
    every_row_succeeds_at_its_first_attempt(system)


WRONG = {
    "400-key": "ApiKeyInvalid",
    "401": "AccessTokenTypeUnsupported",
    "403": "ServiceDisabled",
    "404": "NotFound",
    "400": "RequestsRefused",
    "redirect": "EndpointRedirects",
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rows", [1, 60], ids=["one row", "60 rows"])
def test_a_wrong_key_right_model_or_endpoint_is_told_by_its_name_and_counts_as_no_attempt(
    system: System, gemini: FakeGemini, rows: int
) -> None:
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    for fault, reason in WRONG.items():
        gemini.fault(fault)
        system.book.add(rows)
        not_ready = system.wait_for_condition("ProviderReady", reason)
        assert not_ready["status"] == "False"
        assert gemini.api_key not in not_ready["message"]
        assert attempts(system) <= {("Pending", 0), ("Succeeded", 1)}
        gemini.lift()
        system.wait_until_fresh(within_s=60)
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("fault", "ratio"), [("503", 0.3), ("503", 0.5), ("400", 0.15)])
def test_calls_that_fail_at_random_make_no_dead_letter_and_all_rows_become_fresh(
    system: System, gemini: FakeGemini, fault: str, ratio: float
) -> None:
    gemini.fault(fault, ratio=ratio)
    system.book.add(ROWS)
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    system.wait_until_fresh(within_s=240)
    wait_until(lambda: {phase for phase, _ in attempts(system)} == {"Succeeded"}, within_s=60, because="all are fresh")
    counted = [job for job in system.jobs() if job["status"]["attempts"] > 1]
    assert len(counted) <= 3, "three canaries in a row may be answered by chance"
    gemini.lift()
    gemini.fault("slow", seconds=5, times=3)  # so that many rows wait for the next calls, also where jobs come slowly
    sent = gemini.stats().calls
    system.book.add(ROWS)
    system.wait_until_fresh(within_s=120)
    assert gemini.stats().calls - sent <= 60, "no later call is much smaller"


@pytest.mark.timeout(300)
def test_after_a_429_no_source_with_the_same_key_calls_before_the_pause_is_over(
    system: System, gemini: FakeGemini
) -> None:
    system.book.run("CREATE TABLE public.shops AS SELECT * FROM public.businesses")
    system.book.run("ALTER TABLE public.shops ADD PRIMARY KEY (id)")
    role = system.book.run("SELECT grantee FROM information_schema.role_table_grants WHERE table_name = 'businesses'")
    (name,) = {grantee for (grantee,) in role if grantee.startswith("operator")}
    system.book.run(f'GRANT SELECT, TRIGGER, UPDATE (embedding) ON public.shops TO "{name}"')
    system.start_with_gemini(gemini)
    system.apply_source("shops", table="public.shops", model=GEMINI_MODEL)
    for source in ("businesses", "shops"):  # a source that is set up later would not see the pause
        system.wait_for_condition("Ready", "True", source, within_s=60)
    gemini.fault("429", times=1, seconds=20)
    system.book.add(1)
    provider_not_ready(system)  # a call that is made before the answer is read does not know of the pause
    system.book.add(19)
    system.book.run("INSERT INTO public.shops SELECT * FROM public.businesses")
    not_ready = provider_not_ready(system, source="shops")
    assert not_ready["reason"] == "ProviderThrottled"
    system.wait_until_fresh(within_s=60)
    stats = gemini.stats()
    assert stats.answers["429"] == 1
    assert len(stats.pauses_after_429) == 1
    assert stats.pauses_after_429[0] >= 20.0
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_calls_that_trickle_or_hang_keep_no_thread_and_the_provider_is_told_to_be_away(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("trickle")
    system.book.add(ROWS)
    system.start_with_gemini(gemini)
    wait_until(lambda: gemini.stats().calls > 0, within_s=30, every_s=0.05, because="rows are due")
    assert provider_not_ready(system, within_s=60)["reason"] == "ProviderUnavailable"
    gemini.lift()
    system.wait_until_fresh(within_s=60)
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_a_process_that_was_stopped_during_the_call_of_one_row_counts_no_attempt(
    system: System, gemini: FakeGemini
) -> None:
    process = system.start_with_gemini(gemini)
    gemini.fault("hang", times=1)
    system.book.add(1)
    wait_until(lambda: gemini.stats().in_flight == 1, within_s=30, every_s=0.05, because="a row is due")
    os.kill(process.daemon.pid, signal.SIGSTOP)
    for _ in while_it_lasts(20):
        assert gemini.stats().in_flight == 1
    os.kill(process.daemon.pid, signal.SIGCONT)
    system.wait_until_fresh(within_s=60)
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(900)
def test_answers_that_are_not_one_whole_vector_for_each_text_are_never_written_and_count_as_no_attempt(
    system: System, gemini: FakeGemini
) -> None:
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    for fault in ("too-few", "wrong-size", "nan", "zero", "null-vector", "not-json", "close"):
        gemini.fault(fault)
        system.book.add(20)
        assert provider_not_ready(system)["reason"] == "ProviderUnavailable"
        assert system.book.run("SELECT count(*) FROM public.businesses WHERE embedding IS NULL") == [(20,)]
        assert attempts(system) <= {("Pending", 0), ("Succeeded", 1)}
        gemini.lift()
        system.wait_until_fresh()
        wait_until_ready(system)
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_a_server_that_accepts_fewer_texts_gets_smaller_calls_and_larger_ones_again_when_it_accepts_them(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("400", more_than=10)
    gemini.fault("slow", seconds=0.2)
    system.book.add(100)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    every_row_succeeds_at_its_first_attempt(system)
    assert gemini.stats().answers["400"] < 16, "one batch of 100 is bisected, and the others know the size"
    gemini.lift()
    gemini.fault("slow", seconds=0.2)
    system.book.add(600)
    system.wait_until_fresh(within_s=120)
    gemini.fault("slow", seconds=5, times=3)  # so that many rows wait for the next calls, also where jobs come slowly
    sent = gemini.stats().calls
    system.book.add(300)
    system.wait_until_fresh()
    assert gemini.stats().calls - sent < 30, "calls contain more than 10 texts again"


@pytest.mark.timeout(300)
def test_if_the_provider_does_not_say_how_long_to_pause_the_pause_is_doubled(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("429-plain", times=4)
    system.book.add(40)
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    pauses = gemini.stats().pauses_after_429
    assert len(pauses) >= 2, "two calls may be answered at the same time"
    assert all(pause >= at_least for pause, at_least in zip(pauses, [1, 2, 4], strict=False))
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_while_a_quota_is_used_up_no_call_is_made_and_the_condition_says_so(system: System, gemini: FakeGemini) -> None:
    gemini.fault("429-day")
    system.book.add(20)
    system.start_with_gemini(gemini)
    not_ready = provider_not_ready(system)
    assert not_ready["reason"] == "QuotaExhausted"
    assert "no call is made before 20" in not_ready["message"]
    calls = gemini.stats().calls
    for _ in while_it_lasts(5):
        assert attempts(system) <= {("Pending", 0)}
    assert gemini.stats().calls == calls <= 2


@pytest.mark.timeout(300)
def test_calls_that_do_not_reach_the_provider_are_not_counted_and_a_row_alone_loses_no_attempt(
    system: System, gemini: FakeGemini
) -> None:
    gemini.stop()
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    system.book.add(1)
    assert "ConnectionError" in provider_not_ready(system)["message"]
    for _ in while_it_lasts(OUTAGE_S):
        assert attempts(system) <= {("Pending", 0)}
    wait_until(  # a text is counted while it is being sent
        lambda: system.source()["status"].get("today", {"texts": 0})["texts"] == 0,
        within_s=60,
        because="what did not reach the provider is given back",
    )
    gemini.start()
    system.wait_until_fresh()
    every_row_succeeds_at_its_first_attempt(system)


@pytest.mark.timeout(300)
def test_a_database_that_is_away_while_calls_are_made_costs_no_attempt_and_no_second_call(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("slow", seconds=1)
    system.book.add(60)
    with BlockingTcpProxy(proxy=(proxy := DatabaseProxy(system.database_url))) as outage:
        system.database_url = proxy.url
        system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
        wait_until(lambda: gemini.stats().in_flight > 0, within_s=30, every_s=0.05, because="rows are due")
        outage.stop()
        for _ in while_it_lasts(OUTAGE_S):
            assert {count for phase, count in attempts(system) if phase != "Succeeded"} <= {0}
        outage.start()
        wait_until(
            lambda: system.book.outdated_rows() == [], within_s=60, every_s=0.2, because="the database is there again"
        )
        every_row_succeeds_at_its_first_attempt(system)
        assert max(gemini.stats().texts_by_hash.values()) == 1
