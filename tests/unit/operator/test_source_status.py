"""A source's status: what kstatus reads of it in every state, and when it is written."""

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from embedding_operator.lifecycle.backfill_status import BackfillFacts
from embedding_operator.lifecycle.source_conditions import conditions
from embedding_operator.lifecycle.source_facts import Pending, SourceFacts, facts_of
from embedding_operator.lifecycle.source_status import fresh_percent, status, why_jobs_wait, worth_writing
from embedding_operator.lifecycle.usage_status import cost
from embedding_worker.limits import Limits
from embedding_worker.providers.problem import Problem
from embedding_worker.rows.records import Counts, Used
from tests.support.operator_parts import source

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)
REFUSED = ("TableMissing", "public.businesses does not exist: create it")


def counts(due: int, total: int = 100, *, without_dead_letter: bool = True) -> Counts:
    """`without_dead_letter`: at least one of the due rows has no dead letter."""
    return Counts(total, due, due > 0 and without_dead_letter, NOW if due else None, estimated=False)


SWEEPING = SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(0))
PROBLEM = Problem("QuotaExhausted", "the quota of the day is used up")
AWAY = Problem("DatabaseUnavailable", "the database: connection refused")
PENDING = Pending("other@8#0123abcd", rows=90, tokens=2_000_000)
EVERY_STATE = [
    SourceFacts(
        3,
        "any@8",
        set_up,
        refused,
        suspended,
        waiting_for,
        filled,
        counted,
        dead_letters=dead,
        provider_problem=problem,
        pending=pending,
        used=Used("d", 1, 1),
    )
    for set_up, refused, suspended, waiting_for, filled, counted, dead, problem, pending in itertools.product(
        (False, True),
        (None, REFUSED),
        (False, True),
        (None, AWAY),
        (False, True),
        (None, counts(0), counts(2), counts(2, without_dead_letter=False)),
        (0, 2),
        (None, PROBLEM),
        (None, PENDING),
    )
]


def shown(facts: SourceFacts, kind: str) -> tuple[bool | None, str]:
    (condition,) = [condition for condition in conditions(facts) if condition.type == kind]
    return condition.status, condition.reason


def test_exactly_one_of_ready_reconciling_and_stalled_holds_in_every_state() -> None:
    for facts in EVERY_STATE:
        holds = [shown(facts, kind)[0] for kind in ("Ready", "Reconciling", "Stalled")]
        assert sorted(map(str, holds)) == ["False", "False", "True"], facts


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "Fresh"),
        ({"counts": counts(2)}, "Sweeping"),
        ({"counts": counts(2, without_dead_letter=False)}, "FreshExceptDeadLettered"),
        ({"counts": counts(100, without_dead_letter=False)}, "NoneFresh"),
        ({"filled": False}, "FirstAudit"),
        ({"set_up": False}, "SettingUp"),
        ({"pending": PENDING}, "ApprovalNeeded"),
        ({"provider_problem": PROBLEM, "pending": PENDING}, "QuotaExhausted"),
        ({"suspended": True, "provider_problem": PROBLEM}, "Suspended"),
        ({"waiting_for": AWAY, "suspended": True}, "DatabaseUnavailable"),
        ({"waiting_for": AWAY, "set_up": False}, "DatabaseUnavailable"),
        ({"waiting_for": Problem("RequestRefused", "a quota"), "provider_problem": PROBLEM}, "RequestRefused"),
        ({"counts": None}, "Counting"),
        ({"rows_locked": True, "counts": counts(2)}, "RowsLocked"),
        ({"rows_locked": True, "provider_problem": PROBLEM}, "QuotaExhausted"),
        ({"refused": REFUSED, "waiting_for": AWAY}, "TableMissing"),
        ({"jobs_refused": ("JobsRefused", "a quota"), "provider_problem": PROBLEM}, "JobsRefused"),
    ],
)
def test_the_summary_is_the_most_pressing_reason_in_one_word(changes: dict[str, Any], word: str) -> None:
    assert status(replace(SWEEPING, **changes), {}, NOW)["summary"] == word


def test_the_summary_is_one_word_in_every_state() -> None:
    for facts in EVERY_STATE:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", status(facts, {}, NOW)["summary"]), facts


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"counts": counts(2)}, None),
        ({"pending": PENDING}, None),
        ({"some_calls_fail": True}, None),
        ({"provider_problem": PROBLEM}, "QuotaExhausted"),
        ({"suspended": True, "provider_problem": PROBLEM}, "Suspended"),
        ({"waiting_for": AWAY}, "DatabaseUnavailable"),
        ({"set_up": False}, "SettingUp"),
        ({"refused": REFUSED, "set_up": False}, "TableMissing"),
        ({"refused": REFUSED}, None),
        ({"jobs_refused": ("JobsRefused", "a quota")}, None),
        ({"waiting_for": Problem("RowsLocked", "locked")}, "RowsLocked"),
    ],
)
def test_jobs_wait_for_what_stops_all_of_them(changes: dict[str, Any], reason: str | None) -> None:
    why = why_jobs_wait(replace(SWEEPING, **changes))
    assert (why.reason if why else None) == reason


def test_each_condition_appears_once_with_a_reason_and_a_message() -> None:
    for facts in EVERY_STATE:
        found = conditions(facts)
        assert [condition.type for condition in found] == [
            *(
                "Ready",
                "Reconciling",
                "Stalled",
                "Fresh",
                "DatabaseReady",
                "RowsLocked",
                "BlankTexts",
                "ProviderReady",
                "ReembedRequired",
                "Backfilling",
            )
        ]
        assert all(re.fullmatch(r"[A-Z][A-Za-z]+", condition.reason) for condition in found), facts
        assert all(condition.message for condition in found), facts


def test_no_message_contains_a_number_that_would_change_with_each_sweep() -> None:
    for facts in EVERY_STATE:
        checked = [condition for condition in conditions(facts) if condition.type != "ReembedRequired"]
        assert not any(re.search(r"\d", condition.message) for condition in checked), facts


def test_the_rows_that_a_changed_model_would_embed_are_in_the_message() -> None:
    (condition,) = [
        found for found in conditions(replace(SWEEPING, pending=PENDING)) if found.type == "ReembedRequired"
    ]
    assert "90 rows would be embedded again" in condition.message
    assert condition.message.endswith(f"until spec.approvedFingerprint is {PENDING.signature}")


def test_a_wrong_approval_is_told_beside_the_right_one() -> None:
    facts = replace(SWEEPING, pending=replace(PENDING, approved="other@8"))
    (condition,) = [found for found in conditions(facts) if found.type == "ReembedRequired"]
    assert condition.message.endswith(f"until spec.approvedFingerprint is {PENDING.signature}; it is other@8")


def test_a_refused_source_is_stalled_with_the_reason_and_the_remedy() -> None:
    facts = SourceFacts(3, "any@8", refused=REFUSED)
    for kind in ("Ready", "Stalled"):
        (condition,) = [condition for condition in conditions(facts) if condition.type == kind]
        assert (condition.reason, condition.message) == REFUSED


def test_a_source_without_a_database_from_the_start_is_still_being_set_up() -> None:
    facts = SourceFacts(3, "any@8", waiting_for=AWAY)
    assert shown(facts, "Reconciling") == (True, "SettingUp")
    assert conditions(facts)[0].message == "the database: connection refused"


def test_a_source_stays_ready_while_the_database_is_unavailable() -> None:
    facts = SourceFacts(3, "any@8", set_up=True, waiting_for=AWAY)
    assert shown(facts, "Ready")[0] is True


def test_a_suspended_source_is_ready_with_reason_suspended() -> None:
    assert shown(SourceFacts(3, "any@8", set_up=True, suspended=True), "Ready") == (True, "Suspended")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (SWEEPING, (True, "AllFresh")),
        (SourceFacts(3, "any@8", set_up=True, counts=counts(0)), (False, "FirstAudit")),
        (SourceFacts(3, "any@8", set_up=True, filled=True), (None, "Counting")),
        (SourceFacts(3, "any@8", True, None, False, AWAY, True, counts(0)), (None, "DatabaseUnavailable")),
        (SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(3)), (False, "RowsDue")),
        (SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(3), dead_letters=2), (False, "RowsDue")),
        (
            SourceFacts(
                3, "any@8", set_up=True, filled=True, counts=counts(2, without_dead_letter=False), dead_letters=2
            ),
            (True, "FreshExceptDeadLettered"),
        ),
        (
            SourceFacts(
                3, "any@8", set_up=True, filled=True, counts=counts(100, without_dead_letter=False), dead_letters=100
            ),
            (False, "NoneFresh"),
        ),
        (  # an empty table
            SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(0, total=0)),
            (True, "AllFresh"),
        ),
        (  # without a vector, as their texts are empty
            SourceFacts(3, "any@8", set_up=True, filled=True, counts=replace(counts(0), blank=100)),
            (True, "AllFresh"),
        ),
        (  # one that is neither blank nor a dead letter
            SourceFacts(3, "any@8", set_up=True, filled=True, counts=replace(counts(1), blank=99)),
            (False, "RowsDue"),
        ),
        (  # two dead letters and two due rows, of which one is another row
            SourceFacts(
                3, "any@8", set_up=True, filled=True, counts=counts(2, without_dead_letter=True), dead_letters=2
            ),
            (False, "RowsDue"),
        ),
        (SourceFacts(3, "any@8"), (None, "SettingUp")),
        (SourceFacts(3, "any@8", refused=REFUSED), (None, "Stalled")),
    ],
)
def test_fresh_means_that_no_row_is_due_but_those_with_dead_letters(
    facts: SourceFacts, expected: tuple[bool | None, str]
) -> None:
    assert shown(facts, "Fresh") == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (SWEEPING, (False, "FewBlankTexts")),
        (replace(SWEEPING, counts=counts(0, total=0)), (False, "FewBlankTexts")),
        (replace(SWEEPING, counts=replace(counts(0), blank=10)), (False, "FewBlankTexts")),
        (replace(SWEEPING, counts=replace(counts(0), blank=11)), (True, "ManyBlankTexts")),
        (replace(SWEEPING, counts=replace(counts(0), blank=100)), (True, "ManyBlankTexts")),
        (replace(SWEEPING, counts=replace(counts(0, total=3), blank=1)), (True, "ManyBlankTexts")),
        (replace(SWEEPING, counts=None), (None, "NotCounted")),
    ],
)
def test_more_than_a_tenth_of_empty_texts_is_a_warning(facts: SourceFacts, expected: tuple[bool | None, str]) -> None:
    assert shown(facts, "BlankTexts") == expected


@pytest.mark.parametrize("facts", [SourceFacts(3, "any@8"), SourceFacts(3, "any@8", refused=REFUSED)])
def test_nothing_is_said_of_rows_that_were_never_counted(facts: SourceFacts) -> None:
    assert shown(facts, "Fresh")[0] is None
    assert [found.status for found in conditions(facts) if found.type == "BlankTexts"] in ([], [None])


def test_the_status_counts_the_rows_without_text() -> None:
    made = status(replace(SWEEPING, counts=replace(counts(2), blank=7)), {}, NOW)
    assert (made["rows"]["blank"], made["rows"]["fresh"]) == (7, 98)


@pytest.mark.parametrize(
    ("called", "problem", "expected"),
    [
        (False, None, (None, "NotCalled")),
        (True, None, (True, "ProviderReady")),
        (False, PROBLEM, (False, PROBLEM.reason)),  # as when a key is missing
        (True, PROBLEM, (False, PROBLEM.reason)),
    ],
)
def test_a_provider_is_ready_only_after_a_call_that_succeeded(
    called: bool, problem: Problem | None, expected: tuple[bool | None, str]
) -> None:
    assert shown(replace(SWEEPING, provider_called=called, provider_problem=problem), "ProviderReady") == expected


@pytest.mark.parametrize(
    ("fresh", "total", "expected"),
    [(0, 0, "100.0"), (5, 5, "100.0"), (0, 5, "0.0"), (1, 3, "33.3"), (999_999, 1_000_000, "99.9"), (6, 5, "100.0")],
)
def test_no_share_is_rounded_up_to_a_hundred_percent(fresh: int, total: int, expected: str) -> None:
    assert fresh_percent(fresh, total) == expected


def test_a_status_has_the_generation_the_fingerprint_and_the_counts() -> None:
    facts = SourceFacts(3, "any@8", True, None, False, None, True, counts(2), open_jobs=1, dead_letters=1)
    made = status(facts, {}, NOW)
    assert made["observedGeneration"] == 3
    assert made["fingerprint"] == "any@8"
    assert made["jobs"] == {"open": 1, "deadLettered": 1}
    assert made["rows"] == {
        "total": 100,
        "fresh": 98,
        "freshPercent": "98.0",
        "due": 2,
        "blank": 0,
        "estimated": False,
        "oldestDueSince": "2026-03-01T12:00:00.000Z",
    }
    assert {condition["observedGeneration"] for condition in made["conditions"]} == {3}


def test_rows_that_were_not_counted_yet_are_left_out() -> None:
    assert "rows" not in status(SourceFacts(3, "any@8"), {}, NOW)


def test_an_estimate_of_more_due_rows_than_rows_gives_no_negative_number() -> None:
    made = status(SourceFacts(3, "any@8", set_up=True, counts=counts(120)), {}, NOW)
    assert (made["rows"]["fresh"], made["rows"]["freshPercent"]) == (0, "0.0")


def test_a_provider_without_a_problem_is_ready() -> None:
    assert shown(replace(SWEEPING, provider_called=True), "ProviderReady") == (True, "ProviderReady")
    unstable = replace(SWEEPING, provider_called=True, some_calls_fail=True)
    assert shown(unstable, "ProviderReady") == (True, "SomeCallsFail")


def test_a_provider_that_was_never_called_is_unknown() -> None:
    assert shown(SWEEPING, "ProviderReady") == (None, "NotCalled")


def test_a_provider_with_a_problem_is_not_ready_and_the_condition_has_its_message() -> None:
    (condition,) = [
        found for found in conditions(replace(SWEEPING, provider_problem=PROBLEM)) if found.type == "ProviderReady"
    ]
    assert (condition.status, condition.reason, condition.message) == (False, PROBLEM.reason, PROBLEM.message)


def test_a_source_stays_ready_while_its_provider_fails() -> None:
    assert shown(replace(SWEEPING, provider_problem=PROBLEM), "Ready") == (True, "Sweeping")


def test_without_a_change_that_waits_for_approval_no_row_has_to_be_embedded_again() -> None:
    assert shown(SWEEPING, "ReembedRequired") == (False, "Approved")
    made = status(SWEEPING, {}, NOW)
    assert (made["pendingFingerprint"], made["reembed"]) == (None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"set_up": False}, "SettingUp"),
        ({"change_refused": True, "refused": REFUSED}, "Stalled"),
        ({"set_up": False, "refused": REFUSED}, "Stalled"),
    ],
)
def test_whether_rows_have_to_be_embedded_again_is_unknown_until_the_spec_is_in_force(
    changes: dict[str, Any], reason: str
) -> None:
    assert shown(replace(SWEEPING, **changes), "ReembedRequired") == (None, reason)
    assert shown(replace(SWEEPING, **changes, pending=PENDING), "ReembedRequired") == (True, "ApprovalNeeded")


def test_a_source_that_is_stalled_for_another_reason_has_its_spec_in_force() -> None:
    assert shown(replace(SWEEPING, refused=REFUSED), "ReembedRequired") == (False, "Approved")


def test_a_change_that_waits_has_what_to_approve_and_what_it_would_cost() -> None:
    facts = replace(SWEEPING, pending=PENDING, price_per_million_tokens=0.15)
    assert shown(facts, "ReembedRequired") == (True, "ApprovalNeeded")
    made = status(facts, {}, NOW)
    assert made["fingerprint"] == "any@8"
    assert made["pendingFingerprint"] == "other@8#0123abcd"
    assert made["reembed"] == {"rows": 90, "estimatedCost": "0.3000"}


def test_a_change_that_waits_leaves_the_source_ready() -> None:
    assert shown(replace(SWEEPING, pending=PENDING), "Ready") == (True, "Sweeping")


def test_what_was_sent_today_is_reported_with_its_cost() -> None:
    facts = replace(SWEEPING, used=Used("2026-03-01", 1_000, 150_000), price_per_million_tokens=0.15)
    assert status(facts, {}, NOW)["today"] == {
        "date": "2026-03-01",
        "texts": 1_000,
        "textsLeft": 999_000,
        "textsCut": 0,
        "tokens": 150_000,
        "tokensLeft": None,
        "tokensReported": 0,
        "estimatedCost": "0.0225",
    }


def test_what_the_limits_still_allow_is_reported_and_never_less_than_nothing() -> None:
    used = Used("2026-03-31", 40, 150_000, reported=90_000, cut=2, month_tokens=1_000_000)
    limits = Limits(30, tokens_per_day=200_000, cost_per_month=0.20)
    made = status(replace(SWEEPING, used=used, limits=limits, price_per_million_tokens=0.15), {}, NOW)
    today = {key: made["today"][key] for key in ("textsLeft", "textsCut", "tokensLeft", "tokensReported")}
    assert today == {"textsLeft": 0, "textsCut": 2, "tokensLeft": 50_000, "tokensReported": 90_000}
    assert made["month"] == {
        "month": "2026-03",
        "tokens": 1_000_000,
        "estimatedCost": "0.1500",
        "estimatedCostLeft": "0.0500",
    }
    over = status(replace(SWEEPING, used=used, limits=limits, price_per_million_tokens=3.0), {}, NOW)
    assert over["month"]["estimatedCostLeft"] == "0.0000"


def test_a_day_on_which_nothing_was_sent_is_left_out() -> None:
    assert "today" not in status(SWEEPING, {}, NOW)


@pytest.mark.parametrize(
    ("tokens", "price", "expected"),
    [
        (0, 0.15, "0.0000"),
        (1_000_000, 0.15, "0.1500"),
        (100, 0.15, "0.0000"),
        (12_345_678, 0.02, "0.2469"),
        (10, 0, "0.0000"),
    ],
)
def test_a_cost_has_four_decimals(tokens: int, price: float, expected: str) -> None:
    assert cost(tokens, price) == expected


def test_the_token_of_the_last_request_that_was_carried_out_is_in_the_status() -> None:
    made = status(replace(SWEEPING, reconciled_at="2026-03-01T11:00:00Z"), {}, NOW)
    assert made["lastHandledReconcileAt"] == "2026-03-01T11:00:00Z"


def transition_times(made: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["lastTransitionTime"] for condition in made["conditions"]}


def test_a_condition_that_stays_keeps_its_time_of_transition() -> None:
    before = status(SWEEPING, {}, NOW)
    assert transition_times(status(SWEEPING, before, LATER)) == transition_times(before)


def test_a_changed_reason_is_not_a_transition() -> None:
    before = status(SWEEPING, {}, NOW)
    suspended = SourceFacts(3, "any@8", set_up=True, suspended=True, filled=True, counts=counts(0))
    assert transition_times(status(suspended, before, LATER))["Ready"] == "2026-03-01T12:00:00.000Z"


def test_only_a_condition_that_changed_has_a_new_time() -> None:
    before = status(SWEEPING, {}, NOW)
    due = SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(1))
    after = transition_times(status(due, before, LATER))
    assert after.pop("Fresh") == "2026-03-01T12:05:00.000Z"
    assert set(after.values()) == {"2026-03-01T12:00:00.000Z"}


DUE = status(SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(5)), {}, NOW)
FEWER_DUE = status(SourceFacts(3, "any@8", set_up=True, filled=True, counts=counts(4), open_jobs=1), {}, NOW)
FRESH = status(SWEEPING, {}, NOW)


@pytest.mark.parametrize("since_written_s", [0.0, 10.0, float("inf")])
def test_an_unchanged_status_is_never_written(since_written_s: float) -> None:
    assert not worth_writing(DUE, DUE, since_written_s=since_written_s)


def test_the_first_status_is_written_at_once() -> None:
    assert worth_writing(DUE, {}, since_written_s=0.0)


@pytest.mark.parametrize(("since_written_s", "written"), [(0.0, False), (0.9, False), (1.0, True)])
def test_conditions_are_written_at_most_once_a_second(since_written_s: float, written: bool) -> None:
    assert worth_writing(FRESH, DUE, since_written_s=since_written_s) is written


@pytest.mark.parametrize(("since_written_s", "written"), [(0.0, False), (1.0, False), (9.9, False), (10.0, True)])
def test_counts_alone_are_written_every_ten_seconds(since_written_s: float, written: bool) -> None:
    assert worth_writing(FEWER_DUE, DUE, since_written_s=since_written_s) is written


@pytest.mark.parametrize(("since_written_s", "written"), [(9.9, False), (10.0, True)])
def test_what_was_sent_today_is_written_as_rarely_as_a_count(since_written_s: float, written: bool) -> None:
    more = FRESH | {"today": {"date": "2026-03-01", "texts": 1, "tokens": 1, "estimatedCost": "0.0000"}}
    assert worth_writing(more, FRESH, since_written_s=since_written_s) is written


def test_a_change_that_waits_for_approval_is_written_as_soon_as_a_condition() -> None:
    assert worth_writing(FRESH | {"pendingFingerprint": "other@8#0123abcd"}, FRESH, since_written_s=1.0)


def test_a_new_generation_is_written_as_soon_as_a_condition() -> None:
    assert worth_writing(DUE | {"observedGeneration": 4}, DUE, since_written_s=1.0)


def test_before_anything_is_done_the_facts_are_those_of_the_source() -> None:
    shown = source(generation=7, suspend=True).model_copy(update={"status": {"lastHandledReconcileAt": "today"}})
    assert facts_of(shown, price_per_million_tokens=0.15) == SourceFacts(
        7, "any@8", suspended=True, price_per_million_tokens=0.15, reconciled_at="today"
    )


def test_ready_does_not_promise_a_job_for_each_row_while_a_backfill_embeds_them() -> None:
    backfill = BackfillFacts(total=10, done=1, failed=0, rows_per_s=None, workers=0, began_at=NOW)
    promise = "every due row gets an EmbeddingJob"
    assert "backfill" in message_of(replace(SWEEPING, backfill=backfill))
    assert promise not in message_of(replace(SWEEPING, backfill=backfill))
    assert message_of(replace(SWEEPING, backfill=replace(backfill, completed_at=NOW))) == promise


def message_of(facts: SourceFacts) -> str:
    return next(condition.message for condition in conditions(facts) if condition.type == "Ready")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (False, "NotLocked")),
        ({"rows_locked": True}, (True, "RowsLocked")),
        ({"waiting_for": Problem("RowsLocked", "the table is locked")}, (True, "RowsLocked")),
        ({"waiting_for": AWAY}, (False, "NotLocked")),
    ],
)
def test_rows_that_another_session_keeps_locked_are_a_condition(
    changes: dict[str, Any], expected: tuple[bool, str]
) -> None:
    assert shown(replace(SWEEPING, **changes), "RowsLocked") == expected


def test_of_a_suspended_source_nothing_is_said_of_the_provider() -> None:
    assert shown(replace(SWEEPING, suspended=True, provider_problem=PROBLEM), "ProviderReady") == (None, "Suspended")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [(AWAY, (False, "DatabaseUnavailable")), (Problem("RowsLocked", "locked"), (True, "DatabaseReady"))],
)
def test_a_locked_table_is_no_problem_of_the_database(problem: Problem, expected: tuple[bool, str]) -> None:
    assert shown(replace(SWEEPING, waiting_for=problem), "DatabaseReady") == expected
