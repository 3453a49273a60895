"""The calls for a batch: which are made, what is counted, and whose failure each one is."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from embedding_worker.batching.bisect import FailedAlone, Unattributed
from embedding_worker.errors import (
    AnswerUnusable,
    CallsPaused,
    DatabaseUnavailable,
    InputRejected,
    LimitReached,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.limits import Granted
from embedding_worker.providers.attribution import Evidence
from embedding_worker.providers.batch_calls import BatchCalls
from embedding_worker.providers.canary import CANARY
from embedding_worker.providers.embedder import BYTES_PER_TOKEN, Vector
from embedding_worker.providers.meter import Counters
from embedding_worker.rows.records import RateGrant
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_provider import Day, FakeEmbedder, gated_calls, shared_embedder
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")
REJECTED = InputRejected("BadRequest", "400")
WRONG_KEY = ProviderMisconfigured("the key is wrong", code="403", reason="KeyRefused")
TEXTS = [f"text {n}" for n in range(20)]
Fails = Callable[[Sequence[str]], ProviderError | None]


class Caller:
    """Calls of one source, batch after batch, and what became of each text."""

    def __init__(self, embedder: FakeEmbedder, *, counters: Counters | None = None) -> None:
        self.clock = FakeClock()
        self.embedder = embedder
        self.shared = shared_embedder(embedder, clock=self.clock)
        self.calls, self.gate = gated_calls(self.shared, clock=self.clock, counters=counters)

    async def embed(self, texts: Sequence[str] = TEXTS) -> "Result":
        return await let_time_pass(self.clock, self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> "Result":
        batch = BatchCalls(texts, self.calls, jitter=lambda: 0.5)
        return Result({key: got async for part in batch.run() for key, got in part})


class Result:
    def __init__(self, outcomes: dict[str, Vector | FailedAlone[ProviderError] | Unattributed[ProviderError]]) -> None:
        self.vectors: dict[str, Vector] = {}
        self.failed_alone: dict[str, ProviderError] = {}
        self.unattributed: dict[str, ProviderError] = {}
        self.pauses: set[float] = set()
        for text, outcome in outcomes.items():
            match outcome:
                case FailedAlone():
                    self.failed_alone[text] = outcome.error
                case Unattributed():
                    self.unattributed[text] = outcome.error
                    self.pauses.add(outcome.pause_s)
                case _:
                    self.vectors[text] = outcome


def at_most(size: int, *, poison: str = "") -> Fails:
    """A server that rejects calls of more texts than that; and one text always."""
    return lambda texts: REJECTED if len(texts) > size or poison in texts else None


def poisoned(error: ProviderError, *poison: str) -> Fails:
    """A server that answers each call with one of these texts by this error."""
    return lambda texts: error if set(poison) & set(texts) else None


# Which calls are made.


@pytest.mark.parametrize(("max_texts", "sizes"), [(64, [20]), (20, [20]), (19, [19, 1]), (8, [8, 8, 4]), (1, [1] * 20)])
async def test_no_call_has_more_texts_than_the_provider_accepts(max_texts: int, sizes: list[int]) -> None:
    caller = Caller(FakeEmbedder(max_texts=max_texts))
    result = await caller.embed()
    assert caller.embedder.sizes == sizes
    assert result.vectors == {text: fake_vector(text) for text in TEXTS}
    assert caller.embedder.canaries == 0


async def test_no_call_has_more_bytes_than_the_provider_accepts_also_after_a_smaller_number_of_texts_was_learned() -> (
    None
):
    caller = Caller(FakeEmbedder(max_texts=16, max_call_bytes=60, fails=at_most(8)))
    texts = [*(f"{n:05}" for n in range(10)), "x" * 61, "y" * 50, "z" * 10]
    result = await caller.embed(texts)
    assert caller.embedder.sizes[0] == 10
    assert set(result.vectors) == set(texts)
    caller.embedder.calls.clear()
    await caller.embed(texts)
    assert caller.embedder.sizes == [5, 5, 2, 1]
    assert ["x" * 61] in caller.embedder.calls


async def test_equal_texts_are_sent_and_counted_once() -> None:
    day = Day(100)
    caller = Caller(FakeEmbedder(), counters=day.counters)
    result = await caller.embed(["one", "two", "one", "one"])
    assert caller.embedder.calls == [["one", "two"]]
    assert day.counted == [(2, 6 // BYTES_PER_TOKEN)]
    assert result.vectors == {text: fake_vector(text) for text in ("one", "two")}


async def test_vectors_that_came_before_the_failure_are_kept() -> None:
    throttled = ProviderThrottled("429")
    caller = Caller(FakeEmbedder(max_texts=4, fails=lambda texts: throttled if TEXTS[4] in texts else None))
    result = await caller.embed()
    assert (set(result.vectors), set(result.unattributed)) == (set(TEXTS[:4]), set(TEXTS[4:]))


@pytest.mark.parametrize("accepted", [1, 5, 10, 15])
async def test_a_server_that_accepts_fewer_texts_is_called_with_fewer_from_then_on(accepted: int) -> None:
    caller = Caller(FakeEmbedder(max_texts=16, fails=at_most(accepted)))
    result = await caller.embed(TEXTS[:16])
    assert (len(result.vectors), result.failed_alone, result.unattributed) == (16, {}, {})
    caller.embedder.calls.clear()
    result = await caller.embed(TEXTS[:16])
    assert max(caller.embedder.sizes) == max(size for size in (1, 2, 4, 8) if size <= accepted)
    assert (len(result.vectors), result.failed_alone) == (16, {})


async def test_a_text_that_is_always_rejected_makes_no_later_call_smaller() -> None:
    caller = Caller(FakeEmbedder(max_texts=16, fails=at_most(16, poison=TEXTS[3])))
    await caller.embed(TEXTS[:16])
    caller.embedder.calls.clear()
    await caller.embed(TEXTS[4:])
    assert caller.embedder.sizes == [16]


# Whose failure it is.


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AWAY, "ProviderUnavailable"),
        (AnswerUnusable("3 vectors for 4 texts"), "ProviderUnavailable"),
        (WRONG_KEY, "KeyRefused"),
        (ProviderMisconfigured("no such model", of_the_model=True), "ProviderMisconfigured"),
        (REJECTED, "RequestsRefused"),
    ],
    ids=["outage", "unusable answers", "wrong key", "unknown model", "refusal of everything"],
)
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["a batch", "one row"])
async def test_what_fails_for_the_canary_too_opens_the_circuit_and_is_no_attempt_of_any_row(
    error: ProviderError, reason: str, texts: list[str]
) -> None:
    caller = Caller(FakeEmbedder(fails=lambda texts: error))
    result = await caller.embed(texts)
    assert result.unattributed == dict.fromkeys(texts, error)
    assert (len(caller.embedder.calls), caller.embedder.canaries) == (1, 1)
    assert caller.gate.problem is not None
    assert caller.gate.problem.reason == reason
    assert error.message in caller.gate.problem.message
    assert not caller.gate.is_open


@pytest.mark.parametrize("error", [AWAY, REJECTED, WRONG_KEY], ids=["500", "400", "403"])
async def test_a_text_that_fails_while_canaries_are_embedded_is_found_and_the_others_have_their_vectors(
    error: ProviderError,
) -> None:
    caller = Caller(FakeEmbedder(max_texts=64, fails=poisoned(error, TEXTS[17])))
    result = await caller.embed()
    assert set(result.failed_alone) == {TEXTS[17]}
    assert set(result.vectors) == set(TEXTS) - {TEXTS[17]}
    assert caller.gate.problem is None
    assert len(caller.embedder.calls) + caller.embedder.canaries <= 19


async def test_a_refusal_that_blames_the_key_is_told_as_one_of_the_text() -> None:
    caller = Caller(FakeEmbedder(fails=poisoned(WRONG_KEY, TEXTS[0])))
    (failure,) = (await caller.embed()).failed_alone.values()
    assert isinstance(failure, InputRejected)
    assert (failure.reason, failure.code) == ("InputRejected", "403")
    assert "key" not in failure.message


async def test_many_texts_that_fail_do_not_keep_each_other_from_being_found() -> None:
    poison = TEXTS[::3]
    caller = Caller(FakeEmbedder(fails=poisoned(AWAY, *poison)))
    result = await caller.embed()
    assert set(result.failed_alone) == set(poison)
    assert set(result.vectors) == set(TEXTS) - set(poison)
    assert (await caller.embed(poison[:2])).failed_alone == dict.fromkeys(poison[:2], AWAY)


async def test_a_row_that_fails_alone_counts_after_three_canaries_in_a_row() -> None:
    caller = Caller(FakeEmbedder(failures=[AWAY]))
    assert (await caller.embed(TEXTS[:1])).failed_alone == {TEXTS[0]: AWAY}
    assert (len(caller.embedder.calls), caller.embedder.canaries) == (1, 3)


@pytest.mark.parametrize("answered", [0, 1, 2])
async def test_a_row_that_fails_alone_does_not_count_if_one_of_the_canaries_fails(answered: int) -> None:
    caller = Caller(FakeEmbedder(failures=[AWAY]))
    caller.embedder.canary_failures = []
    outcomes: list[ProviderError | None] = [*[None] * answered, AWAY]
    caller.embedder.fails = lambda texts: outcomes.pop(0) if list(texts) == [CANARY] and outcomes else None
    result = await caller.embed(TEXTS[:1])
    assert (result.failed_alone, set(result.unattributed)) == ({}, {TEXTS[0]})
    assert not caller.gate.is_open


async def test_after_many_calls_that_succeeded_one_canary_is_enough() -> None:
    caller = Caller(FakeEmbedder(max_texts=1, fails=poisoned(AWAY, TEXTS[19])))
    result = await caller.embed()
    assert set(result.failed_alone) == {TEXTS[19]}
    assert caller.embedder.canaries == 1


async def test_a_short_time_after_a_canary_has_failed_a_lone_failure_waits_with_a_pause_and_is_decided_later() -> None:
    caller = Caller(FakeEmbedder(fails=lambda texts: AWAY))
    await caller.embed(TEXTS[:1])
    caller.embedder.fails = poisoned(AWAY, TEXTS[0])
    assert caller.shared.begin_probe() is False
    await caller.clock.advance(1)
    assert caller.shared.begin_probe()
    await caller.shared.probe()
    result = await caller.embed(TEXTS[:1])
    assert (result.failed_alone, set(result.unattributed)) == ({}, {TEXTS[0]})
    assert result.pauses == {15}
    await caller.clock.advance(600)
    assert set((await caller.embed(TEXTS[:1])).failed_alone) == {TEXTS[0]}


async def test_a_text_that_is_refused_only_once_gets_its_vector_and_refusals_are_not_trusted_for_a_while() -> None:
    caller = Caller(FakeEmbedder(failures=[REJECTED]))
    result = await caller.embed(TEXTS[:1])
    assert (set(result.vectors), result.failed_alone) == ({TEXTS[0]}, {})
    caller.embedder.fails = poisoned(REJECTED, TEXTS[1])
    await caller.clock.advance(61)
    assert set((await caller.embed(TEXTS[1:2])).unattributed) == {TEXTS[1]}
    await caller.clock.advance(601)
    assert set((await caller.embed(TEXTS[1:2])).failed_alone) == {TEXTS[1]}


async def test_a_text_is_refused_four_times_with_canaries_between_before_it_counts() -> None:
    caller = Caller(FakeEmbedder(fails=poisoned(REJECTED, TEXTS[0])))
    assert set((await caller.embed(TEXTS[:1])).failed_alone) == {TEXTS[0]}
    assert (len(caller.embedder.calls), caller.embedder.canaries) == (4, 6)


async def test_refusals_that_come_and_go_make_no_later_call_smaller() -> None:
    caller = Caller(FakeEmbedder(failures=[REJECTED]))
    await caller.embed()
    caller.embedder.failures = [REJECTED]
    caller.embedder.calls.clear()
    result = await caller.embed()
    assert len(result.vectors) == 20
    caller.embedder.calls.clear()
    for _ in range(25):
        await caller.embed()
    assert caller.embedder.sizes[-1] == 20


async def test_calls_are_made_smaller_while_the_provider_throttles_each_of_them() -> None:
    caller = Caller(FakeEmbedder(failures=[ProviderThrottled("429")] * 3))
    for _ in range(3):
        await caller.embed()
        await caller.clock.advance(10)
    assert caller.embedder.sizes == [20, 20, 20]
    await caller.embed()
    assert max(caller.embedder.sizes[3:]) == 16


async def test_a_text_that_has_failed_alone_is_sent_alone_after_the_others_until_it_is_embedded() -> None:
    caller = Caller(FakeEmbedder(fails=poisoned(AWAY, TEXTS[3])))
    await caller.embed()
    caller.embedder.calls.clear()
    result = await caller.embed()
    assert (caller.embedder.sizes, set(result.failed_alone)) == ([19, 1], {TEXTS[3]})
    caller.embedder.fails = lambda texts: None
    await caller.embed()
    caller.embedder.calls.clear()
    await caller.embed()
    assert caller.embedder.sizes == [20]


async def test_after_a_rotation_a_failure_is_not_decided_by_evidence_of_another_credential() -> None:
    caller = Caller(FakeEmbedder(failures=[AWAY]))
    batch = BatchCalls([TEXTS[0]], caller.calls)
    batch._evidence = Evidence()  # what a rotation leaves behind: the evidence of the earlier connection
    result = Result({key: got async for part in batch.run() for key, got in part})
    assert (set(result.unattributed), caller.embedder.canaries) == ({TEXTS[0]}, 1)


# What pauses calls.


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderThrottled("as it says"), "ProviderThrottled"),
        (ProviderThrottled("as it says", quota=Quota.DAY), "QuotaExhausted"),
    ],
)
async def test_after_a_throttled_call_no_further_one_is_made_and_the_reason_is_kept_until_one_succeeds(
    error: ProviderError, reason: str
) -> None:
    caller = Caller(FakeEmbedder(max_texts=4, failures=[error]))
    result = await caller.embed()
    assert (result.unattributed, caller.embedder.sizes) == (dict.fromkeys(TEXTS, error), [4])
    assert caller.gate.problem is not None
    assert caller.gate.problem.reason == reason
    assert {type(error) for error in (await caller.embed()).unattributed.values()} == {CallsPaused}
    assert (caller.embedder.sizes, caller.embedder.canaries) == ([4], 0)
    await caller.clock.advance(900)
    await caller.embed()
    assert caller.gate.problem is None


async def test_each_call_is_counted_with_its_texts_and_a_rough_number_of_its_tokens() -> None:
    day = Day(1_000)
    await Caller(FakeEmbedder(max_texts=2), counters=day.counters).embed(["a" * 30, "鮨" * 10, "b" * 9])
    assert day.counted == [(2, 60 // BYTES_PER_TOKEN), (1, 3)]


async def test_the_tokens_that_the_provider_reports_correct_the_estimate_later() -> None:
    day = Day(1_000)
    caller = Caller(FakeEmbedder(max_texts=2), counters=day.counters)
    caller.embedder.tokens_a_text = 7
    await caller.embed(["a" * 30, "鮨" * 10, "b" * 9])
    assert day.notes == []
    async with caller.calls.usage.running():
        pass
    assert [(note.more_tokens, note.reported) for note in day.notes] == [(-6, 14), (4, 7)]


async def test_what_the_day_still_allows_is_sent_and_no_more() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), counters=Day(10).counters)
    result = await caller.embed()
    assert caller.embedder.sizes == [8, 2]
    assert (set(result.vectors), set(result.unattributed)) == (set(TEXTS[:10]), set(TEXTS[10:]))
    assert {type(error) for error in result.unattributed.values()} == {LimitReached}
    assert caller.gate.problem is not None
    assert caller.gate.problem.reason == "DayLimitReached"
    assert "spec.limits.textsPerDay" in caller.gate.problem.message


async def test_a_limit_that_is_just_reached_prevents_no_call() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), counters=Day(20).counters)
    assert len((await caller.embed()).vectors) == 20
    assert caller.gate.problem is None


@pytest.mark.parametrize("allowed", [0, 1, 7, 20, 25, 40, 60, 1_000])
async def test_calls_of_a_bisection_are_counted_before_they_are_sent_and_stay_within_the_day(allowed: int) -> None:
    poison = {TEXTS[3], TEXTS[12]}
    day = Day(allowed)
    caller = Caller(FakeEmbedder(fails=lambda texts: REJECTED if poison & set(texts) else None), counters=day.counters)
    result = await caller.embed()
    sent = sum(caller.embedder.sizes) + caller.embedder.canaries
    assert sent == sum(granted for granted, _ in day.counted)
    assert sent <= allowed
    if result.unattributed:
        assert sent == allowed
        assert result.failed_alone == {}
    else:
        assert set(result.failed_alone) == poison


async def test_while_the_count_can_not_be_made_nothing_is_sent() -> None:
    away = [DatabaseUnavailable("away")] * 3

    async def acquire(tokens: Sequence[int]) -> Granted:
        assert caller.embedder.calls == []
        if away:
            raise away.pop()
        return Granted(len(tokens))

    caller = Caller(FakeEmbedder(), counters=replace(Day(0).counters, acquire_texts=acquire))
    assert len((await caller.embed()).vectors) == 20
    assert caller.clock.slept == [0.1, 0.2, 0.4]


async def test_texts_of_a_call_that_did_not_reach_the_provider_are_given_back() -> None:
    day = Day(1_000)
    unreached = ProviderUnavailable("connection refused", reached=False)
    caller = Caller(FakeEmbedder(fails=lambda texts: unreached), counters=day.counters)
    await caller.embed()
    assert day.left == 1_000
    assert sum(texts for texts, _ in day.counted) == 0


async def test_before_the_first_call_there_is_no_problem() -> None:
    assert Caller(FakeEmbedder()).gate.problem is None


def test_the_limit_of_a_text_is_the_embedders() -> None:
    assert Caller(FakeEmbedder()).calls.max_text_bytes == FakeEmbedder.max_text_bytes


class Pace:
    """Rate limits that allow a call every so many seconds, by reservation, as in the database."""

    def __init__(self, every_s: float) -> None:
        self.clock: FakeClock | None = None
        self._every_s = every_s
        self._next_at = 0.0

    async def acquire(self, texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
        assert self.clock is not None
        now = self.clock.monotonic()
        wait_s = max(0.0, self._next_at - now)
        if wait_s > longest_wait_s:
            return RateGrant(granted=False, wait_s=wait_s)
        self._next_at = max(self._next_at, now) + self._every_s
        return RateGrant(granted=True, wait_s=wait_s)


@pytest.mark.parametrize("error", [AWAY, REJECTED], ids=["500", "400"])
@pytest.mark.parametrize("every_s", [1, 3, 30])
async def test_under_rate_limits_a_batch_that_has_begun_finds_the_text_that_fails(
    every_s: float, error: ProviderError
) -> None:
    pace = Pace(every_s)
    counters = replace(Day(1_000_000).counters, acquire_rate=pace.acquire)
    caller = Caller(FakeEmbedder(fails=poisoned(error, TEXTS[17])), counters=counters)
    pace.clock = caller.clock
    result = await caller.embed()
    assert set(result.failed_alone) == {TEXTS[17]}
    assert set(result.vectors) == set(TEXTS) - {TEXTS[17]}
    assert len(caller.embedder.calls) + caller.embedder.canaries <= 40


async def test_under_rate_limits_an_outage_is_found_out() -> None:
    pace = Pace(30)
    caller = Caller(
        FakeEmbedder(fails=lambda texts: AWAY), counters=replace(Day(1_000).counters, acquire_rate=pace.acquire)
    )
    pace.clock = caller.clock
    await caller.embed()
    assert not caller.gate.is_open
    assert caller.gate.problem is not None
    assert caller.gate.problem.reason == "ProviderUnavailable"


async def test_a_first_call_that_the_rate_limits_do_not_allow_soon_is_not_made() -> None:
    pace = Pace(30)
    caller = Caller(FakeEmbedder(), counters=replace(Day(1_000).counters, acquire_rate=pace.acquire))
    pace.clock = caller.clock
    await caller.embed(TEXTS[:1])
    result = await caller.embed(TEXTS[1:])
    assert {type(error) for error in result.unattributed.values()} == {CallsPaused}
    assert caller.embedder.sizes == [1]
    assert (caller.gate.is_open, caller.gate.problem) == (False, None)


async def test_where_the_limit_of_the_day_comes_before_a_decision_some_rows_are_embedded_on_later_days() -> None:
    day = Day(0)
    caller = Caller(FakeEmbedder(fails=poisoned(AWAY, TEXTS[3])), counters=day.counters)
    fresh: set[str] = set()
    for _ in range(8):
        day.left = 20
        await caller.clock.advance(86_400)
        fresh |= set((await caller.embed([text for text in TEXTS if text not in fresh])).vectors)
    assert fresh == set(TEXTS) - {TEXTS[3]}


async def test_a_batch_that_has_begun_is_not_stopped_because_another_one_meets_the_rate_limits() -> None:
    caller = Caller(FakeEmbedder(max_texts=8, fails=poisoned(AWAY, TEXTS[3])))
    caller.embedder.meanwhile = lambda: caller.gate.close_for_limits(CallsPaused("limits", pause_s=60))
    result = await caller.embed()
    assert set(result.failed_alone) == {TEXTS[3]}
    assert set(result.vectors) == set(TEXTS) - {TEXTS[3]}


async def test_a_call_whose_canary_is_throttled_is_made_smaller_the_next_time() -> None:
    caller = Caller(FakeEmbedder(fails=poisoned(REJECTED, TEXTS[3])))
    caller.embedder.canary_failures = [ProviderThrottled("429", retry_after_s=1)]
    await caller.embed()
    assert caller.calls.size.texts == 32
    await caller.clock.advance(2)
    caller.embedder.canary_failures = [ProviderThrottled("429", retry_after_s=1)]
    await caller.embed()
    assert caller.calls.size.texts == 16


async def test_after_the_limit_of_the_day_one_text_finds_out_whether_more_may_be_sent() -> None:
    day = Day(0)
    caller = Caller(FakeEmbedder(), counters=day.counters)
    await caller.embed()
    day.left = 100
    await caller.clock.advance(60)
    assert len((await caller.embed()).vectors) == 1
    assert len((await caller.embed()).vectors) == 20
    assert caller.embedder.sizes == [1, 20]


class PreparedEmbedder(FakeEmbedder):
    """Notes when it is prepared; the first time fails."""

    def __init__(self, order: list[str]) -> None:
        super().__init__(meanwhile=lambda: order.append("embed"))
        self._order = order

    async def prepare(self) -> None:
        self._order.append("prepare")
        if self._order.count("prepare") == 1:
            raise AWAY


async def test_what_the_first_call_needs_is_there_before_the_call_is_counted() -> None:
    order: list[str] = []
    day = Day(100)

    async def acquire_rate(texts: int, tokens: int, longest_wait_s: float) -> RateGrant:
        order.append("count")
        return RateGrant(granted=True, wait_s=0.0)

    caller = Caller(PreparedEmbedder(order), counters=replace(day.counters, acquire_rate=acquire_rate))
    assert len((await caller.embed(TEXTS[:2])).vectors) == 2
    assert order == ["prepare", "count", "embed"]
