"""What a source's loop does in a turn, and how it goes on after an error."""

from dataclasses import replace

import pytest

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, RequestRefused
from embedding_operator.reconciler.turn import (
    CALM_PAUSE_S,
    Look,
    Reaction,
    Step,
    after_failed_setup,
    after_failed_turn,
    goes_on,
    must_count,
    pause_s,
    steps,
)
from embedding_worker.errors import DatabaseUnavailable, RowsLocked, SourceRefused
from embedding_worker.providers.problem import Problem


def look(
    *, suspended: bool = False, draining: bool = False, requested: str | None = None, handled: str | None = None
) -> Look:
    return Look(suspended, draining, requested, handled)


def test_a_turn_sweeps_and_audits_a_step() -> None:
    assert steps(look()) == (Step.SWEEP, Step.AUDIT_STEP)


def test_a_suspended_source_is_audited_and_not_swept() -> None:
    assert steps(look(suspended=True)) == (Step.AUDIT_STEP,)


def test_no_job_is_created_while_the_process_drains() -> None:
    assert steps(look(draining=True)) == (Step.AUDIT_STEP,)


def test_a_new_request_to_reconcile_sweeps_first_and_audits_the_whole_table() -> None:
    assert steps(look(requested="b", handled="a")) == (Step.SWEEP, Step.AUDIT_WHOLE_TABLE, Step.AUDIT_STEP)


def test_a_request_that_was_carried_out_is_not_repeated() -> None:
    assert steps(look(requested="a", handled="a")) == (Step.SWEEP, Step.AUDIT_STEP)


def test_a_suspended_source_carries_out_the_audit_of_a_request() -> None:
    assert steps(look(suspended=True, requested="a")) == (Step.AUDIT_WHOLE_TABLE, Step.AUDIT_STEP)


@pytest.mark.parametrize(
    ("counted_s_ago", "changed", "expected"),
    [(None, False, True), (0.0, False, False), (0.49, False, False), (0.5, False, True), (0.0, True, True)],
)
def test_rows_are_counted_when_the_last_count_is_old_or_an_audit_has_changed_it(
    counted_s_ago: float | None, changed: bool, expected: bool
) -> None:
    assert must_count(counted_s_ago=counted_s_ago, changed=changed) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ApiServerUnreachable("no route"), True),
        (ApiServerUnavailable("overloaded"), True),
        (RequestRefused("exceeded quota"), True),
        (DatabaseUnavailable("away"), False),
        (SourceRefused("TableMissing", "no table"), False),
        (ZeroDivisionError(), False),
    ],
)
def test_a_turn_whose_sweep_fails_by_the_api_server_is_completed(error: Exception, expected: bool) -> None:
    assert goes_on(error) is expected


@pytest.mark.parametrize("turns", [1, 4])
def test_locked_rows_are_tried_again_in_the_next_turn(turns: int) -> None:
    assert after_failed_turn(RowsLocked("a lock timeout"), locked_turns=turns) == Reaction(0.0)


def test_rows_that_stay_locked_are_reported_after_five_turns() -> None:
    reaction = after_failed_turn(RowsLocked("a lock timeout"), locked_turns=5)
    assert reaction == Reaction(2.0, Problem("RowsLocked", "the database: a lock timeout, several times in a row"))


def test_a_database_that_is_unavailable_is_tried_again_in_two_seconds() -> None:
    reaction = after_failed_turn(DatabaseUnavailable("connection refused"), locked_turns=0)
    assert reaction == Reaction(2.0, Problem("DatabaseUnavailable", "the database: connection refused"))


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(0.1, 2.0), (3.0, 3.0), (120.0, 5.0)])
def test_an_unavailable_api_server_is_tried_again_within_five_seconds(retry_after_s: float, pause_s: float) -> None:
    error = ApiServerUnavailable("overloaded", retry_after_s=retry_after_s)
    problem = Problem("ApiServerUnavailable", "the API server: overloaded")
    assert after_failed_turn(error, locked_turns=0) == Reaction(pause_s, problem)


def test_an_unreachable_api_server_is_waited_for() -> None:
    reaction = after_failed_turn(ApiServerUnreachable("no route"), locked_turns=0)
    assert reaction == Reaction(2.0, Problem("ApiServerUnavailable", "the API server: no route"))


def test_a_refused_request_is_reported_with_the_servers_message() -> None:
    reaction = after_failed_turn(RequestRefused("exceeded quota"), locked_turns=0)
    assert reaction == Reaction(5.0, Problem("RequestRefused", "the API server refuses: exceeded quota"))


@pytest.mark.parametrize("error", [SourceRefused("TableMissing", "no table"), ZeroDivisionError()])
def test_any_other_error_has_the_source_set_up_again(error: Exception) -> None:
    assert after_failed_turn(error, locked_turns=0) is None


def test_a_refused_source_is_set_up_again_after_five_seconds() -> None:
    reaction = after_failed_setup(SourceRefused("TableMissing", "create the table"))
    assert reaction == Reaction(5.0, refused=("TableMissing", "create the table"))


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), RowsLocked("away")])
def test_a_set_up_that_cannot_reach_the_database_is_not_refused(error: Exception) -> None:
    assert after_failed_setup(error) == Reaction(2.0, Problem(type(error).__name__, "the database: away"))


def test_an_unexpected_error_is_reported_by_its_kind_and_never_by_its_message() -> None:
    reaction = after_failed_setup(ZeroDivisionError("a row's text"))
    message = "an unexpected error, ZeroDivisionError: see the operator's log, and report it"
    assert reaction == Reaction(5.0, refused=("InternalError", message))


def test_a_source_without_marks_and_jobs_is_audited_and_not_swept() -> None:
    assert steps(replace(look(), nothing_to_sweep=True)) == (Step.AUDIT_STEP,)


@pytest.mark.parametrize(("calm_s", "expected"), [(0.0, 0.5), (20.0, CALM_PAUSE_S), (2.0, 2.0), (0.1, 0.5)])
def test_a_calm_source_pauses_for_long_unless_its_audit_would_fall_behind(calm_s: float, expected: float) -> None:
    assert pause_s(0.5, None, calm_s=calm_s) == expected


def test_the_first_pass_of_the_audit_takes_no_pauses() -> None:
    assert pause_s(0.5, None, calm_s=None) == 0.0


@pytest.mark.parametrize("calm_s", [CALM_PAUSE_S, None])
@pytest.mark.parametrize(("reaction", "expected"), [(Reaction(2.0), 2.0), (Reaction(0.0), 0.5)])
def test_after_an_error_the_pause_is_that_of_the_reaction(
    reaction: Reaction, calm_s: float | None, expected: float
) -> None:
    assert pause_s(0.5, reaction, calm_s=calm_s) == expected
