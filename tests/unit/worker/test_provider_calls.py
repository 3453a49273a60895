"""A source's calls to its provider: how many texts each call has, what is counted, and what prevents all calls."""

from collections.abc import Callable, Sequence

import pytest

from embedding_worker.batching.bisect import FailedAlone, Unattributed
from embedding_worker.errors import (
    DatabaseUnavailable,
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
    Quota,
)
from embedding_worker.providers.calls import BYTES_PER_TOKEN, AcquireTexts, Problem, ProviderCalls
from embedding_worker.providers.embedder import Vector
from tests.support.fake_clock import FakeClock, let_time_pass
from tests.support.fake_provider import Day, FakeEmbedder, acquire_all
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")
REJECTED = InputRejected("BadRequest", "400")
TEXTS = [f"text {n}" for n in range(20)]


class Caller:
    """Calls, and keeps what became of each text. A text is its own key."""

    def __init__(self, embedder: FakeEmbedder, *, acquire_texts: AcquireTexts = acquire_all) -> None:
        self.clock = FakeClock()
        self.embedder = embedder
        self.calls = ProviderCalls(embedder, acquire_texts=acquire_texts, clock=self.clock)

    async def embed(self, texts: Sequence[str] = TEXTS) -> "Result":
        return await let_time_pass(self.clock, self._embed(texts))

    async def _embed(self, texts: Sequence[str]) -> "Result":
        return Result(
            {key: got async for part in self.calls.embed({text: text for text in texts}) for key, got in part}
        )


class Result:
    def __init__(self, outcomes: dict[str, Vector | FailedAlone[ProviderError] | Unattributed[ProviderError]]) -> None:
        self.vectors: dict[str, Vector] = {}
        self.failed_alone: dict[str, ProviderError] = {}
        self.unattributed: dict[str, ProviderError] = {}
        for text, outcome in outcomes.items():
            match outcome:
                case FailedAlone():
                    self.failed_alone[text] = outcome.error
                case Unattributed():
                    self.unattributed[text] = outcome.error
                case _:
                    self.vectors[text] = outcome


def at_most(size: int, *, poison: str = "") -> Callable[[Sequence[str]], ProviderError | None]:
    """A server that rejects calls of more texts than that; and one text always."""
    return lambda texts: REJECTED if len(texts) > size or poison in texts else None


@pytest.mark.parametrize(("max_texts", "sizes"), [(64, [20]), (20, [20]), (19, [19, 1]), (8, [8, 8, 4]), (1, [1] * 20)])
async def test_no_call_has_more_texts_than_the_provider_accepts(max_texts: int, sizes: list[int]) -> None:
    caller = Caller(FakeEmbedder(max_texts=max_texts))
    result = await caller.embed()
    assert caller.embedder.sizes == sizes
    assert result.vectors == {text: fake_vector(text) for text in TEXTS}


async def test_a_text_that_fails_alone_is_named_and_the_others_have_their_vectors() -> None:
    result = await Caller(FakeEmbedder(max_texts=8, fails=at_most(8, poison=TEXTS[17]))).embed()
    assert result.failed_alone == {TEXTS[17]: REJECTED}
    assert set(result.vectors) == set(TEXTS) - {TEXTS[17]}


@pytest.mark.parametrize("accepted", [1, 5, 10, 15])
async def test_a_server_that_accepts_fewer_texts_is_called_with_fewer_from_then_on(accepted: int) -> None:
    caller = Caller(FakeEmbedder(max_texts=16, fails=at_most(accepted)))
    result = await caller.embed(TEXTS[:16])
    assert (len(result.vectors), result.failed_alone, result.unattributed) == (16, {}, {})
    caller.embedder.calls.clear()
    result = await caller.embed()
    assert max(caller.embedder.sizes) == max(size for size in (1, 2, 4, 8) if size <= accepted)
    assert (len(result.vectors), result.failed_alone) == (20, {})


async def test_a_text_that_is_always_rejected_makes_no_later_call_smaller() -> None:
    caller = Caller(FakeEmbedder(max_texts=16, fails=at_most(16, poison=TEXTS[3])))
    await caller.embed(TEXTS[:16])
    caller.embedder.calls.clear()
    await caller.embed(TEXTS[4:])
    assert caller.embedder.sizes == [16]


@pytest.mark.parametrize("error", [ProviderThrottled("429"), ProviderMisconfigured("wrong key")])
async def test_after_a_failure_of_the_whole_provider_no_further_call_is_made(error: ProviderError) -> None:
    caller = Caller(FakeEmbedder(max_texts=4, failures=[error]))
    result = await caller.embed()
    assert (result.unattributed, caller.embedder.sizes) == (dict.fromkeys(TEXTS, error), [4])


async def test_vectors_that_came_before_the_failure_are_kept() -> None:
    throttled = ProviderThrottled("429")
    caller = Caller(FakeEmbedder(max_texts=4, fails=lambda texts: throttled if TEXTS[4] in texts else None))
    result = await caller.embed()
    assert (set(result.vectors), set(result.unattributed)) == (set(TEXTS[:4]), set(TEXTS[4:]))


async def test_an_outage_is_known_after_seven_calls_and_counts_as_no_attempt() -> None:
    caller = Caller(FakeEmbedder(fails=lambda texts: AWAY))
    result = await caller.embed()
    assert len(caller.embedder.calls) == 7
    assert result.unattributed == dict.fromkeys(TEXTS, AWAY)


async def test_each_call_is_counted_with_its_texts_and_a_rough_number_of_its_tokens() -> None:
    day = Day(1_000)
    await Caller(FakeEmbedder(max_texts=2), acquire_texts=day.acquire).embed(["a" * 30, "鮨" * 10, "b" * 9])
    assert day.counted == [(2, 60 // BYTES_PER_TOKEN), (1, 3)]


async def test_what_the_day_still_allows_is_sent_and_no_more() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), acquire_texts=Day(10).acquire)
    result = await caller.embed()
    assert caller.embedder.sizes == [8, 2]
    assert (set(result.vectors), set(result.unattributed)) == (set(TEXTS[:10]), set(TEXTS[10:]))
    assert {type(error) for error in result.unattributed.values()} == {DayLimitReached}
    assert caller.calls.problem is not None
    assert caller.calls.problem.reason == "DayLimitReached"
    assert "spec.maxTextsPerDay" in caller.calls.problem.message


async def test_a_limit_that_is_just_reached_prevents_no_call() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), acquire_texts=Day(20).acquire)
    assert len((await caller.embed()).vectors) == 20
    assert caller.calls.problem is None


@pytest.mark.parametrize("allowed", [0, 1, 7, 20, 25, 40, 60, 1_000])
async def test_calls_of_a_bisection_are_counted_before_they_are_sent_and_stay_within_the_day(allowed: int) -> None:
    poison = {TEXTS[3], TEXTS[12]}
    day = Day(allowed)
    caller = Caller(
        FakeEmbedder(fails=lambda texts: REJECTED if poison & set(texts) else None), acquire_texts=day.acquire
    )
    result = await caller.embed()
    sent = sum(caller.embedder.sizes)
    assert sent == sum(granted for granted, _ in day.counted)
    assert sent <= allowed
    if result.unattributed:
        assert sent == allowed
        assert result.failed_alone == {}
    else:
        assert set(result.failed_alone) == poison


async def test_while_the_count_can_not_be_made_nothing_is_sent() -> None:
    away = [DatabaseUnavailable("away")] * 3

    async def acquire(texts: int, tokens: int) -> int:
        assert caller.embedder.calls == []
        if away:
            raise away.pop()
        return texts

    caller = Caller(FakeEmbedder(), acquire_texts=acquire)
    assert len((await caller.embed()).vectors) == 20
    assert caller.clock.slept == [0.1, 0.2, 0.4]


async def test_before_the_first_call_there_is_no_problem() -> None:
    assert Caller(FakeEmbedder()).calls.problem is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderThrottled("as it says", retry_after_s=0), "ProviderThrottled"),
        (ProviderThrottled("as it says", retry_after_s=0, quota=Quota.DAY), "QuotaExhausted"),
        (ProviderMisconfigured("as it says"), "ProviderMisconfigured"),
        (ProviderMisconfigured("as it says", reason="KeyRefused"), "KeyRefused"),
        (DayLimitReached("as it says"), "DayLimitReached"),
    ],
)
async def test_what_prevents_all_calls_is_kept_with_its_reason_until_a_call_succeeds(
    error: ProviderError, reason: str
) -> None:
    caller = Caller(FakeEmbedder(failures=[error]))
    await caller.embed()
    assert caller.calls.problem == Problem(reason, "as it says")
    await caller.embed()
    assert caller.calls.problem is None


async def test_an_outage_is_a_problem_until_a_call_succeeds() -> None:
    caller = Caller(FakeEmbedder(failures=[AWAY] * 7))
    await caller.embed()
    assert caller.calls.problem == Problem("ProviderUnavailable", "the server is away")
    await caller.embed()
    assert caller.calls.problem is None


async def test_a_text_that_fails_alone_is_no_problem_of_the_provider() -> None:
    caller = Caller(FakeEmbedder(max_texts=16, fails=at_most(16, poison=TEXTS[3])))
    await caller.embed(TEXTS[:16])
    assert caller.calls.problem is None


def test_the_limit_of_a_text_is_the_embedders() -> None:
    assert Caller(FakeEmbedder()).calls.max_text_bytes == FakeEmbedder.max_text_bytes
