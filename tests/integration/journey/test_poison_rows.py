"""A row that fails because of its own text becomes a dead letter, exactly that row, and delays no other."""

import json
from math import ceil, log2

import pytest

from embedding_worker.providers.canary import CANARY
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from tests.integration.journey.conftest import System, add
from tests.integration.journey.test_refused_statuses import policy_is_enforced, refuse_statuses
from tests.support.deadline import wait_until
from tests.support.yellow_book import TEXT

SHORT_SCHEDULE = {"initialSeconds": 1, "maxSeconds": 1}


def dead_letters(system: System) -> list[str]:
    return sorted(job["spec"]["businessId"] for job in system.jobs() if job["status"]["phase"] == "DeadLettered")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fault", "as_page", "reason"),
    [
        ("400", False, "InputRejected"),
        ("403", False, "InputRejected"),
        ("403", True, "InputRejected"),
        ("404", True, "InputRejected"),
        ("500", False, "RetriesExhausted"),
        ("nan", False, "RetriesExhausted"),
    ],
    ids=["400", "403", "403 by a filter in between", "404 by a filter in between", "500", "a vector that is no number"],
)
def test_one_poison_row_among_300_is_the_only_dead_letter_and_costs_at_most_40_calls(
    system: System, gemini: FakeGemini, fault: str, as_page: bool, reason: str
) -> None:
    gemini.fault(fault, only_matching="VENOM", as_page=as_page)
    gemini.fault("slow", seconds=8, times=2)  # so that many rows wait for the next calls
    system.book.add(299)
    (poison,) = add(system, "VENOM")
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    dead = system.wait_for_phase(poison, "DeadLettered", within_s=90)
    assert dead["status"]["reason"] == reason
    assert dead["status"]["attempts"] == (1 if reason == "InputRejected" else 6)
    assert "VENOM" not in json.dumps(dead)
    wait_until(lambda: system.book.outdated_rows() == [poison], within_s=60, because="299 rows can be embedded")
    assert dead_letters(system) == [str(poison)]
    system.wait_for_condition("ProviderReady", "True")
    known = "SELECT id, reason FROM embedding_operator.outcomes WHERE phase = 'DeadLettered'"
    wait_until(lambda: system.book.run(known) == [(str(poison), reason)], within_s=20, because="the outcome is kept")
    assert "VENOM" not in str(system.book.run("SELECT * FROM embedding_operator.outcomes"))
    assert calls_because_of(poison, system, gemini) <= (40 if fault != "nan" else 60)


def calls_because_of(row: int, system: System, gemini: FakeGemini) -> int:
    """Calls with its text, canaries, and one call without it for each time that a batch of 100 is bisected.

    How many calls the other rows take depends on how fast their jobs are created.
    """
    ((text,),) = system.book.run(f"SELECT {TEXT} FROM public.businesses WHERE id = {row}")
    sent = gemini.stats().texts_by_hash
    return sent[hash_of(text)] + sent.get(hash_of(CANARY), 0) + ceil(log2(100))


@pytest.mark.timeout(400)
def test_pairs_of_rows_that_fail_together_are_told_apart_and_a_good_row_waits_for_none_of_them(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("500", only_matching="VENOM")
    rows = add(system, *(f"shop {n}" for n in range(5)))
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    system.wait_until_fresh()
    system.book.run("UPDATE public.businesses SET name = 'VENOM ' || id WHERE id = ANY(%s)", rows[:2])
    system.wait_for_phase(rows[0], "Retrying", within_s=60)
    system.book.run("UPDATE public.businesses SET name = 'VENOM ' || id WHERE id = ANY(%s)", rows[2:4])
    system.book.run("UPDATE public.businesses SET name = 'good' WHERE id = %s", rows[4])
    wait_until(
        lambda: rows[4] not in system.book.outdated_rows(), within_s=20, every_s=0.1, because="the row is a good one"
    )
    wait_until(
        lambda: dead_letters(system) == sorted(map(str, rows[:4])), within_s=120, because="four rows fail in earnest"
    )


@pytest.mark.timeout(300)
def test_thirty_poison_rows_among_330_are_the_only_dead_letters(system: System, gemini: FakeGemini) -> None:
    gemini.fault("500", only_matching="VENOM")
    system.book.add(300)
    poison = add(system, *(f"VENOM {n}" for n in range(30)))
    system.start_with_gemini(gemini, retry=SHORT_SCHEDULE)
    wait_until(
        lambda: sorted(system.book.outdated_rows()) == sorted(poison), within_s=90, because="300 rows can be embedded"
    )
    wait_until(lambda: dead_letters(system) == sorted(map(str, poison)), within_s=90, because="30 rows fail in earnest")


@pytest.mark.timeout(400)
def test_rows_whose_texts_make_the_provider_hang_delay_no_edit_of_another_row(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("hang", only_matching="VENOM")
    (good,) = add(system, "Bakery")
    system.start_with_gemini(gemini)
    system.wait_until_fresh()
    system.book.add(5, prefix="VENOM")  # in one transaction, and perhaps in two calls all the same
    wait_until(lambda: gemini.stats().in_flight >= 1, within_s=30, every_s=0.05, because="the first group hangs")
    system.book.add(5, prefix="VENOM again")
    wait_until(lambda: gemini.stats().in_flight >= 2, within_s=30, every_s=0.05, because="the second group hangs")
    wait_until(lambda: gemini.stats().calls > 4, within_s=60, every_s=0.2, because="both are bisected")
    # A row that was not sent yet could still come into the batch of the edit.
    texts = system.book.run(f"SELECT {TEXT} FROM public.businesses WHERE name LIKE 'VENOM%'")
    hanging = {hash_of(text) for (text,) in texts}
    assert len(hanging) == 10
    wait_until(
        lambda: hanging <= set(gemini.stats().texts_by_hash), within_s=60, every_s=0.2, because="each was sent once"
    )
    system.book.run("UPDATE public.businesses SET name = 'Patisserie' WHERE id = %s", good)
    wait_until(
        lambda: good not in system.book.outdated_rows(),
        within_s=20,
        every_s=0.1,
        because="an edit waits for no other row",
    )


@pytest.mark.timeout(300)
def test_an_operator_that_is_killed_between_the_write_and_the_status_makes_no_second_call(
    system: System, gemini: FakeGemini
) -> None:
    (row,) = add(system, "Bakery")
    process = system.start_with_gemini(gemini)
    system.wait_until_fresh()
    job = system.wait_for_phase(row, "Succeeded")["metadata"]["name"]
    with refuse_statuses(system, row):
        wait_until(lambda: policy_is_enforced(system, job), within_s=30, because="the policy is in force")
        system.book.run("UPDATE public.businesses SET name = 'Patisserie' WHERE id = %s", row)
        wait_until(lambda: system.book.outdated_rows() == [], within_s=30, every_s=0.1, because="the row is written")
        assert [job["status"]["phase"] for job in system.jobs(row)].count("Pending") == 1
        process.kill()
        sent = gemini.stats().texts
    system.start_gemini_operator(gemini)
    wait_until(
        lambda: {job["status"]["phase"] for job in system.jobs(row)} == {"Succeeded"},
        within_s=90,  # a status that is refused once more, while the policy is being deleted, waits for half a minute
        because="the row has its vector",
    )
    assert "AlreadyFresh" in system.reasons(row)
    assert gemini.stats().texts == sent
