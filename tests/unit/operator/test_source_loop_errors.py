"""How a source's loop goes on after each error, in its set-up and in a turn."""

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.reconciler.turn import UNREACHABLE_PAUSE_S
from embedding_operator.reconciler.waiting_jobs import WaitingJobs
from embedding_operator.reconciler.window import SMALLEST
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused, TableRefused
from embedding_worker.patience import SHOWN_AFTER_TRIES
from tests.support.fake_clock import settle
from tests.support.looped_source import INTERVAL_S, LoopedSource
from tests.support.operator_parts import job_of, source

AWAY = DatabaseUnavailable("connection refused")
REFUSED = SourceRefused("TableMissing", "public.businesses does not exist: create it, or correct spec.table")


@pytest.fixture
def system() -> LoopedSource:
    return LoopedSource({"1": "Bakery"})


async def test_a_source_that_is_being_set_up_says_so(system: LoopedSource) -> None:
    system.setup.failures = [AWAY]
    async with system.running():
        assert system.condition("Ready") == ("False", "SettingUp", "the database: connection refused")
        assert system.condition("Reconciling")[0] == "True"
        assert system.condition("Stalled")[0] == "False"
        assert system.loop.waiting_for == "the database: connection refused"


@pytest.mark.parametrize("error", [AWAY, RowsLocked("a lock timeout")])
async def test_a_set_up_without_the_database_is_tried_again_after_two_seconds(
    system: LoopedSource, error: Exception
) -> None:
    system.setup.failures = [error]
    async with system.running():
        await system.clock.advance(1.9)
        assert system.setup.asked == 1
        await system.clock.advance(0.1)
        assert system.setup.asked == 2
        await system.clock.advance(1)
        assert system.condition("Ready")[0] == "True"
        assert system.loop.waiting_for is None


async def test_a_refused_source_is_stalled_with_the_reason_at_once(system: LoopedSource) -> None:
    system.setup.failures = [REFUSED]
    async with system.running():
        assert system.condition("Stalled") == ("True", "TableMissing", REFUSED.message)
        assert system.condition("Ready")[:2] == ("False", "TableMissing")
        assert system.store.requests == []


async def test_a_refused_source_is_set_up_again_every_five_seconds(system: LoopedSource) -> None:
    system.setup.failures = [REFUSED, REFUSED]
    async with system.running():
        await system.clock.advance(4.9)
        assert system.setup.asked == 1
        await system.clock.advance(0.1)
        assert system.setup.asked == 2
        await system.clock.advance(5)
        assert system.setup.asked == 3
        await system.clock.advance(1)
        assert system.condition("Stalled")[0] == "False"


async def test_a_model_is_in_force_only_when_the_source_is_set_up_with_it(system: LoopedSource) -> None:
    """Or searches would use a model of which the table has no vector."""
    system.setup.unprepared = [REFUSED]
    async with system.running():
        assert system.condition("Stalled")[0] == "True"
        assert "model" not in system.status
        await system.clock.advance(6)
        assert system.status["model"]["name"] == system.shown.spec.model.name


async def test_a_wake_up_has_a_refused_source_set_up_at_once(system: LoopedSource) -> None:
    system.setup.failures = [REFUSED]
    async with system.running():
        system.loop.wake()
        await settle()
        assert system.setup.asked == 2


async def test_a_key_that_is_rotated_during_a_set_up_that_fails_is_used_at_once(system: LoopedSource) -> None:
    system.setup.failures = [REFUSED]
    system.setup.meanwhile = lambda: system.loop.wake() if system.setup.asked == 1 else None
    async with system.running():
        assert system.setup.asked == 2


async def test_without_the_database_a_source_waits_and_stays_set_up(system: LoopedSource) -> None:
    async with system.running():
        await system.clock.advance(1)
        system.store.fail("sweep", AWAY, AWAY)
        await system.clock.advance(3)
        assert system.condition("Ready")[:2] == ("True", "Sweeping")
        assert system.condition("Fresh") == ("Unknown", "DatabaseUnavailable", "the database: connection refused")
        assert system.loop.waiting_for == "the database: connection refused"
        await system.clock.advance(5)
        assert system.loop.waiting_for is None
        assert system.setup.asked == 1


async def test_without_the_api_server_no_source_is_set_up_again(system: LoopedSource) -> None:
    system.store.edit("1", "Bakery")
    system.server.fail("create_job", ApiServerUnreachable("no route"))
    async with system.running():
        assert system.loop.waiting_for == "the API server: no route"
        assert system.server.stored_jobs == {}
        await system.clock.advance(2)
        assert system.loop.waiting_for is None
        assert len(system.server.stored_jobs) == 1
        assert system.setup.asked == 1


async def test_a_quota_that_refuses_jobs_is_in_the_status_while_rows_are_audited_and_counted(
    system: LoopedSource,
) -> None:
    system.store.edit("1", "Bakery")
    system.server.fail("create_job", *[RequestRefused("exceeded quota: jobs=500")] * 2)
    async with system.running():
        await system.clock.advance(2)
        assert system.condition("Ready")[:2] == ("False", "JobsRefused")
        status, reason, message = system.condition("Stalled")
        assert (status, reason) == ("True", "JobsRefused")
        assert message.endswith("that its message names: exceeded quota: jobs=500")
        assert system.condition("Fresh")[:2] == ("False", "RowsDue")
        assert system.store.filled is True
        assert system.loop.waiting_for is None
        assert system.setup.asked == 1
        await system.clock.advance(15)
        assert len(system.server.stored_jobs) == 1
        assert system.condition("Ready")[0] == "True"


async def test_refused_creates_are_counted_in_the_metrics(system: LoopedSource) -> None:
    system.server.fail("create_job", *[RequestRefused("exceeded quota")] * 2)
    async with system.running():
        await system.clock.advance(20)
        page = system.parts.metrics.page(open_jobs=0, window=0, dead_letters=0).decode()
        assert 'embedding_operator_refused_creates_total{source="businesses"} 2.0' in page


async def test_without_the_api_server_the_table_is_audited_and_counted(system: LoopedSource) -> None:
    system.store.edit("1", "Bakery")
    system.server.fail("create_job", *[ApiServerUnreachable("no route")] * 99)
    async with system.running():
        await system.clock.advance(30)
        assert system.store.filled is True
        counts = system.store.count("counts")
        await system.clock.advance(10)
        assert system.store.count("counts") > counts


async def test_an_error_that_lasts_is_logged_once(system: LoopedSource) -> None:
    system.setup.failures = [*[REFUSED] * 4, *[SourceRefused("TableMissing", "another table")] * 3]
    with capture_logs() as logs:
        async with system.running():
            await system.clock.advance(40)
    stalled = [line["message"] for line in logs if line["event"] == "source stalled"]
    assert stalled == [REFUSED.message, "another table"]


async def test_an_error_that_comes_back_is_logged_again(system: LoopedSource) -> None:
    with capture_logs() as logs:
        async with system.running():
            for _ in range(2):
                system.store.fail("sweep", AWAY, AWAY)
                await system.clock.advance(10)
    assert [line["event"] for line in logs].count("turn not completed") == 2


async def test_a_requested_set_up_follows_the_present_turn_and_rows_are_accepted_again(system: LoopedSource) -> None:
    async with system.running():
        system.loop.set_up_again()
        await system.clock.advance(4.9)
        assert system.setup.asked == 1
        await system.clock.advance(0.1)
        assert system.setup.asked == 2
        await system.clock.advance(20)
        assert system.setup.asked == 2


async def test_a_source_that_is_refused_while_rows_are_embedded_is_stalled_and_set_up_again(
    system: LoopedSource,
) -> None:
    async with system.running():
        assert system.setup.pipeline is not None
        system.setup.pipeline.rows.refusal = TableRefused(REFUSED.reason, REFUSED.message)
        system.loop.wake()
        await settle()
        assert system.condition("Stalled") == ("True", "TableMissing", REFUSED.message)
        await system.clock.advance(7)
        assert system.setup.asked == 2
        assert system.condition("Ready")[0] == "True"


async def test_a_refused_statement_is_told_at_once_by_its_cause(system: LoopedSource) -> None:
    async with system.running():
        assert system.setup.pipeline is not None
        system.setup.cause = SourceRefused("Forbidden", "GRANT UPDATE")
        system.setup.pipeline.rows.refusal = TableRefused("DatabaseRefused", "permission denied")
        system.loop.wake()
        await settle()
        assert system.condition("Stalled") == ("True", "Forbidden", "GRANT UPDATE")


async def test_a_statement_that_is_not_answered_for_long_is_told_although_sweeps_succeed(system: LoopedSource) -> None:
    async with system.running():
        assert system.setup.pipeline is not None
        system.setup.pipeline.rows.unanswered.record("a write", AWAY, tries=SHOWN_AFTER_TRIES)
        await system.clock.advance(4)
        assert system.condition("DatabaseReady") == ("False", "DatabaseUnavailable", "the database: connection refused")
        assert system.sweeps() > 1
        system.setup.pipeline.rows.unanswered.forget("a write")
        await system.clock.advance(3)
        assert system.condition("DatabaseReady")[0] == "True"


async def test_rows_that_were_locked_are_not_told_of_a_suspended_or_a_stalled_source(
    system: LoopedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WaitingJobs, "are_locked", True)
    async with system.running():
        await system.clock.advance(3)
        assert system.condition("RowsLocked")[0] == "True"
        system.setup.failures = [REFUSED] * 9
        system.loop.set_up_again()
        await system.clock.advance(10)
        assert system.condition("Stalled")[0] == "True"
        assert system.condition("RowsLocked")[0] == "False"
    suspended = LoopedSource({"1": "Bakery"}, shown=source(suspend=True))
    async with suspended.running():
        await suspended.clock.advance(3)
        assert suspended.condition("RowsLocked")[0] == "False"


async def test_set_ups_that_are_requested_all_the_time_are_done_every_five_seconds(system: LoopedSource) -> None:
    system.setup.meanwhile = system.loop.set_up_again
    async with system.running():
        await system.clock.advance(29)
        assert system.setup.asked == 6


async def test_rows_that_are_locked_now_and_then_are_not_reported(system: LoopedSource) -> None:
    locked = RowsLocked("a lock timeout")
    system.store.fail("sweep", locked, locked, locked, locked)
    async with system.running():
        for _ in range(4):
            assert system.loop.waiting_for is None
            await system.clock.advance(INTERVAL_S)
        assert system.sweeps() == 5


async def test_rows_that_stay_locked_for_five_turns_are_reported(system: LoopedSource) -> None:
    system.store.fail("sweep", *[RowsLocked("a lock timeout")] * 5)
    async with system.running():
        await system.clock.advance(4 * INTERVAL_S)
        assert system.loop.waiting_for == "the database: a lock timeout, several times in a row"
        await system.clock.advance(2)
        assert system.loop.waiting_for is None


async def test_a_turn_without_a_lock_starts_the_count_of_locked_turns_again(system: LoopedSource) -> None:
    async with system.running():
        for _ in range(2):
            system.store.fail("sweep", *[RowsLocked("a lock timeout")] * 4)
            await system.clock.advance(5 * INTERVAL_S)
            assert system.loop.waiting_for is None


async def test_another_error_starts_the_count_of_locked_turns_again(system: LoopedSource) -> None:
    locked = RowsLocked("a lock timeout")
    system.store.fail("sweep", *[locked] * 4, AWAY, *[locked] * 4)
    async with system.running():
        await system.clock.advance(4 * INTERVAL_S)
        assert system.loop.waiting_for == "the database: connection refused"
        await system.clock.advance(2 + 3 * INTERVAL_S)
        assert system.sweeps() == 9
        assert system.loop.waiting_for is None


async def test_open_jobs_of_a_source_that_is_not_set_up_take_no_place_of_others(system: LoopedSource) -> None:
    for n in range(SMALLEST):
        system.parts.track(job_of(str(n), "Bakery"))
    system.setup.failures = [AWAY]
    async with system.running():
        assert system.parts.window.free("others") == SMALLEST


async def test_a_source_that_is_refused_in_a_turn_is_stalled_and_set_up_again(system: LoopedSource) -> None:
    async with system.running():
        system.store.fail("sweep", REFUSED)
        await system.clock.advance(INTERVAL_S)
        assert system.condition("Stalled")[:2] == ("True", "TableMissing")
        assert system.parts.window.free("others") == SMALLEST
        await system.clock.advance(31)
        assert system.condition("Ready")[0] == "True"
        assert system.setup.asked == 2


async def test_a_refused_source_without_a_database_afterwards_is_no_longer_stalled(
    system: LoopedSource,
) -> None:
    async with system.running():
        system.store.fail("sweep", REFUSED)
        system.setup.failures = [AWAY]
        await system.clock.advance(INTERVAL_S)
        await system.clock.advance(5)
        assert system.condition("Stalled")[0] == "False"
        assert system.condition("Ready")[1] == "SettingUp"


async def test_an_unexpected_error_stalls_the_source_without_its_message_and_is_tried_again(
    system: LoopedSource,
) -> None:
    system.store.fail("counts", ZeroDivisionError("a row's text"))
    async with system.running():
        assert system.condition("Stalled") == (
            "True",
            "InternalError",
            "an unexpected error, ZeroDivisionError: see the operator's log, and report it",
        )
        await system.clock.advance(31)
        assert system.condition("Ready")[0] == "True"


async def test_a_job_that_was_refused_is_tried_at_once_when_the_api_server_has_returned(system: LoopedSource) -> None:
    def jobs() -> list[str]:
        return [job["spec"]["businessId"] for job in system.server.stored_jobs.values()]

    async with system.running():
        await system.clock.advance(5)
        system.server.fail("create_job", RequestRefused("forbidden, for a moment"))
        system.store.edit("1", "edited")
        system.store.edit("2", "accepted")
        await system.clock.advance(8)
        assert sorted(jobs()) == ["1", "2"]
        system.loop.retry()
        await system.clock.advance(1)
        assert sorted(jobs()) == ["1", "1", "2"]


async def test_an_edit_does_not_end_the_pause_after_a_turn_that_failed(system: LoopedSource) -> None:
    async with system.running():
        await system.clock.advance(3)
        system.store.fail("sweep", DatabaseUnavailable("connection refused"))
        await system.clock.advance(INTERVAL_S)
        before = system.sweeps()
        for seq in range(10, 20):
            system.setup.marks.accept(seq)
            await system.clock.advance(UNREACHABLE_PAUSE_S / 20)
        assert system.sweeps() == before
        await system.clock.advance(UNREACHABLE_PAUSE_S)
        assert system.sweeps() > before
