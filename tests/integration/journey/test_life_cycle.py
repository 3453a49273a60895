"""Jobs that fail: they are retried with a backoff, become dead letters at the limit or at once, are replayed or superseded."""

import json
from datetime import UTC, datetime

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.support.deadline import wait_until

SHORT_BACKOFF = {"initialSeconds": 1, "maxSeconds": 2}


def seconds_to_next_attempt(job: object) -> float:
    assert isinstance(job, dict)
    moment = datetime.fromisoformat(job["status"]["nextAttemptTime"])
    return (moment - datetime.now(UTC)).total_seconds()


def pause_s(job: object) -> float:
    """From the last failure to the next attempt: a test may see the job long after its status was written."""
    assert isinstance(job, dict)
    failed, again = job["status"]["history"][-1]["time"], job["status"]["nextAttemptTime"]
    return (datetime.fromisoformat(again) - datetime.fromisoformat(failed)).total_seconds()


def test_a_row_that_fails_twice_is_retried_with_a_backoff_and_becomes_fresh(system: System, gemini: FakeGemini) -> None:
    gemini.fault("503", times=2, only_matching="Flaky")
    (row,) = add(system, "Flaky")
    system.start_with_gemini(gemini, retry={"initialSeconds": 10, "maxSeconds": 10})
    waiting = system.wait_for_phase(row, "Retrying")
    assert waiting["status"]["reason"] == "ProviderUnavailable"
    assert 10 <= round(pause_s(waiting), 2) <= 11.1
    backoff = json.loads(waiting["metadata"]["annotations"]["embeddings.yellowbook.dev/backoff"])
    assert backoff["notBefore"] == waiting["status"]["nextAttemptTime"]
    assert (backoff["attempt"], 10 <= backoff["delaySeconds"] <= 11) == (waiting["status"]["attempts"] + 1, True)
    done = system.wait_for_phase(row, "Succeeded", within_s=60)
    assert (done["status"]["attempts"], done["status"]["reason"]) == (3, "Embedded")
    assert [attempt["reason"] for attempt in done["status"]["history"]] == ["ProviderUnavailable"] * 2
    assert "embeddings.yellowbook.dev/backoff" not in done["metadata"].get("annotations", {})
    assert len(system.jobs(row)) == 1
    system.wait_until_fresh()


def test_a_row_whose_text_is_rejected_is_dead_lettered_at_once_and_the_others_are_fresh(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("400", only_matching="TOXIC")
    system.book.add(40)
    (row,) = add(system, "TOXIC & Sons")
    system.start_with_gemini(gemini)
    dead = system.wait_for_phase(row, "DeadLettered")
    assert (dead["status"]["reason"], dead["status"]["attempts"]) == ("InputRejected", 1)
    assert "TOXIC" not in json.dumps(dead)
    wait_until(lambda: system.book.outdated_rows() == [row], within_s=30, because="only one text is rejected")
    fresh = system.wait_for_condition("Fresh", "True")  # the only due row has a dead letter
    assert fresh["reason"] == "FreshExceptDeadLettered"
    assert gemini.stats().calls < 25, "the batch is bisected, and its rows are not sent one by one"
    gemini.lift()
    system.patch_status(dead["metadata"]["name"], {"phase": "Pending"})
    done = system.wait_for_phase(row, "Succeeded")
    assert (done["status"]["attempts"], done["status"]["replays"]) == (1, 1)
    system.wait_until_fresh()


def test_a_row_that_never_succeeds_is_dead_lettered_at_the_limit(system: System, gemini: FakeGemini) -> None:
    gemini.fault("500", only_matching="Hopeless")
    row, _ = add(system, "Hopeless", "Fine")
    system.start_with_gemini(gemini, retry=SHORT_BACKOFF | {"maxAttempts": 3})
    dead = system.wait_for_phase(row, "DeadLettered", within_s=60)
    assert (dead["status"]["reason"], dead["status"]["attempts"]) == ("RetriesExhausted", 3)
    assert "failed 3 times" in dead["status"]["message"]
    assert [attempt["code"] for attempt in dead["status"]["history"]] == ["500 INTERNAL"] * 3
    assert dead["status"]["conditions"][0]["status"] == "False"
    assert "Hopeless" not in json.dumps(dead)
    printed = system.kubectl.run("describe", "embeddingjob", dead["metadata"]["name"])
    assert "RetriesExhausted" in printed
    assert "500 INTERNAL" in printed


def test_a_dead_letter_whose_row_is_edited_is_superseded_and_the_row_is_embedded_at_once(
    system: System, gemini: FakeGemini
) -> None:
    gemini.fault("400", only_matching="TOXIC")
    row, deleted = add(system, "TOXIC & Sons", "TOXIC Ltd")
    system.start_with_gemini(gemini)
    system.wait_for_phase(row, "DeadLettered")
    system.wait_for_phase(deleted, "DeadLettered")
    system.book.run("UPDATE public.businesses SET name = 'Honest & Sons' WHERE id = %s", row)
    system.wait_for_phase(row, "Succeeded", within_s=20)
    assert sorted(job["status"]["phase"] for job in system.jobs(row)) == ["Succeeded", "Superseded"]
    assert system.book.outdated_rows() == [deleted]


def test_a_replay_during_a_backoff_takes_effect_at_once(system: System, gemini: FakeGemini) -> None:
    gemini.fault("503", only_matching="Flaky")
    (row,) = add(system, "Flaky")
    system.start_with_gemini(gemini, retry={"initialSeconds": 600, "maxSeconds": 600})
    waiting = system.wait_for_phase(row, "Retrying")
    assert seconds_to_next_attempt(waiting) > 500
    gemini.lift()
    system.patch_status(waiting["metadata"]["name"], {"phase": "Pending"})
    done = system.wait_for_phase(row, "Succeeded", within_s=20)
    assert (done["status"]["attempts"], done["status"]["replays"]) == (1, 1)
    assert system.book.outdated_rows() == []


def test_an_edit_during_a_backoff_supersedes_the_job(system: System, gemini: FakeGemini) -> None:
    gemini.fault("503", only_matching="Flaky")
    (row,) = add(system, "Flaky")
    system.start_with_gemini(gemini, retry={"initialSeconds": 600, "maxSeconds": 600})
    system.wait_for_phase(row, "Retrying")
    system.book.run("UPDATE public.businesses SET name = 'Solid' WHERE id = %s", row)
    system.wait_for_phase(row, "Succeeded", within_s=20)
    assert sorted(job["status"]["phase"] for job in system.jobs(row)) == ["Succeeded", "Superseded"]
    assert system.book.outdated_rows() == []


@pytest.mark.timeout(400)
def test_a_restart_during_a_backoff_waits_until_its_end(system: System, gemini: FakeGemini) -> None:
    """The backoff is longer than a restart takes on a busy machine."""
    gemini.fault("503", times=1, only_matching="Flaky")
    (row,) = add(system, "Flaky")
    first = system.start_with_gemini(gemini, retry={"initialSeconds": 60, "maxSeconds": 60})
    waiting = system.wait_for_phase(row, "Retrying")
    first.kill()
    system.start_gemini_operator(gemini)
    still = system.job(row)
    assert still["status"]["nextAttemptTime"] == waiting["status"]["nextAttemptTime"]
    done = system.wait_for_phase(row, "Succeeded", within_s=150)
    not_before = datetime.fromisoformat(waiting["status"]["nextAttemptTime"])
    assert datetime.fromisoformat(done["status"]["startTime"]) >= not_before
    assert done["status"]["attempts"] == 2


def test_an_outage_that_all_rows_share_counts_as_an_attempt_of_none(system: System, gemini: FakeGemini) -> None:
    """Also across a restart, after which all rows are sent together."""
    gemini.fault("hang")
    system.book.add(20)
    first = system.start_with_gemini(gemini)
    wait_until(lambda: len(system.jobs()) == 20, within_s=30, every_s=0.1, because="each row gets a job")
    first.kill()
    gemini.lift()
    gemini.fault("503")
    system.start_gemini_operator(gemini)
    not_ready = system.wait_for_condition("ProviderReady", "False")
    assert not_ready["reason"] == "ProviderUnavailable"
    assert {job["status"]["phase"] for job in system.jobs()} == {"Pending"}
    gemini.lift()
    system.wait_until_fresh()
    wait_until(  # the vector is written shortly before the status of the job
        lambda: {(job["status"]["phase"], job["status"]["attempts"]) for job in system.jobs()} == {("Succeeded", 1)},
        within_s=20,
        every_s=0.1,
        because="every row is fresh",
    )
    system.wait_for_condition("ProviderReady", "True")


def test_a_wrong_key_is_shown_in_a_condition_and_counts_as_no_attempt(system: System, gemini: FakeGemini) -> None:
    system.book.add(3)
    gemini.fault("400-key")
    system.start_with_gemini(gemini)
    not_ready = system.wait_for_condition("ProviderReady", "False")
    assert gemini.api_key not in json.dumps(not_ready)
    assert {job["status"]["phase"] for job in system.jobs()} == {"Pending"}
    gemini.lift()
    system.wait_until_fresh()


@pytest.mark.timeout(400)
def test_a_provider_that_hangs_for_one_text_does_not_block_other_rows(system: System, gemini: FakeGemini) -> None:
    gemini.fault("hang", times=2, only_matching="Tarpit")
    system.book.add(10)
    (row,) = add(system, "Tarpit")
    system.start_with_gemini(gemini, retry=SHORT_BACKOFF)
    wait_until(
        lambda: system.book.outdated_rows() in ([row], []), within_s=120, because="the calls for other rows do not hang"
    )
    system.wait_until_fresh(within_s=150)
