"""A source's calls to its provider: how many texts each takes, the rests between them, and what stands in the way."""

import asyncio
from collections.abc import Sequence

import pytest

from embedding_worker.batching.bisect import Halved
from embedding_worker.errors import (
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers import calls as provider_calls
from embedding_worker.providers.calls import BYTES_PER_TOKEN, REST_S, AcquireTexts, Problem, ProviderCalls
from embedding_worker.providers.embedder import Vector
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeEmbedder, take_all
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")
TEXTS = [f"text {n}" for n in range(20)]


class Caller:
    """Calls, and keeps the vectors that were given back."""

    def __init__(self, embedder: FakeEmbedder, *, acquire_texts: AcquireTexts = take_all) -> None:
        self.embedder = embedder
        self.calls = ProviderCalls(embedder, acquire_texts=acquire_texts)
        self.taken: dict[int, Vector] = {}

    async def embed(self, texts: Sequence[str] = TEXTS) -> Halved:
        self.taken = {}

        async def take(places: Sequence[int], vectors: Sequence[Vector]) -> None:
            self.taken |= dict(zip(places, vectors, strict=True))

        return await self.calls.embed(texts, take)

    @property
    def sizes(self) -> list[int]:
        return [len(call) for call in self.embedder.calls]


class TakesFew(FakeEmbedder):
    """Says that it takes `max_texts`, and refuses a call of more than `really`; and one text always."""

    def __init__(self, *, max_texts: int, really: int, poison: str = "") -> None:
        super().__init__(max_texts=max_texts)
        self._really = really
        self._poison = poison

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        vectors = await super().embed(texts)
        if len(texts) > self._really or self._poison in texts:
            raise InputRejected("BadRequest", "400")
        return vectors


@pytest.mark.parametrize(("max_texts", "sizes"), [(64, [20]), (20, [20]), (19, [19, 1]), (8, [8, 8, 4]), (1, [1] * 20)])
async def test_no_call_takes_more_texts_than_the_provider_does(max_texts: int, sizes: list[int]) -> None:
    caller = Caller(FakeEmbedder(max_texts=max_texts))
    result = await caller.embed()
    assert caller.sizes == sizes
    assert (result.failed_alone, result.shared) == ({}, None)
    assert caller.taken == {place: fake_vector(text) for place, text in enumerate(TEXTS)}


async def test_a_failure_is_told_by_its_place_among_all_texts() -> None:
    caller = Caller(TakesFew(max_texts=8, really=8, poison=TEXTS[17]))
    result = await caller.embed()
    assert set(result.failed_alone) == {17}
    assert set(caller.taken) == set(range(20)) - {17}


async def test_a_server_that_takes_fewer_texts_is_asked_with_fewer_from_then_on() -> None:
    caller = Caller(TakesFew(max_texts=16, really=5))
    await caller.embed(TEXTS[:16])
    caller.embedder.calls.clear()
    result = await caller.embed()
    assert caller.sizes == [4, 4, 4, 4, 4]
    assert (result.failed_alone, len(caller.taken)) == ({}, 20)


async def test_a_poison_text_makes_no_later_call_smaller() -> None:
    caller = Caller(TakesFew(max_texts=16, really=16, poison=TEXTS[3]))
    await caller.embed(TEXTS[:16])
    caller.embedder.calls.clear()
    await caller.embed(TEXTS[4:])
    assert caller.sizes == [16]


@pytest.mark.parametrize("error", [ProviderThrottled("busy"), ProviderMisconfigured("wrong key")])
async def test_after_a_failure_of_the_whole_provider_no_further_part_is_tried(error: ProviderError) -> None:
    caller = Caller(FakeEmbedder(max_texts=4, failures=[error]))
    result = await caller.embed()
    assert (result.shared, caller.sizes, caller.taken) == (error, [4], {})


async def test_what_was_embedded_before_the_failure_stays() -> None:
    class SecondFails(FakeEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            vectors = await super().embed(texts)
            if TEXTS[4] in texts:
                raise ProviderThrottled("busy")
            return vectors

    caller = Caller(SecondFails(max_texts=4))
    result = await caller.embed()
    assert isinstance(result.shared, ProviderThrottled)
    assert set(caller.taken) == {0, 1, 2, 3}


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    async def rest(self, seconds: float, _: asyncio.Event) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(provider_calls, "_now", lambda: made.now)
    monkeypatch.setattr(provider_calls, "_rest", made.rest)
    return made


async def test_another_key_ends_the_rest_that_the_one_before_was_asked_for() -> None:
    exhausted = Caller(FakeEmbedder(failures=[ProviderThrottled("the day's quota", quota_exhausted=True)]))
    await exhausted.embed()
    resting = asyncio.create_task(exhausted.embed())
    other = FakeEmbedder()
    await eventually(lambda: len(exhausted.calls._rest_over._waiters), within_s=5, because="the provider rests")
    exhausted.calls.go_on_with(other)
    async with asyncio.timeout(5):
        result = await resting
    assert (result.shared, other.calls, exhausted.calls.problem) == (None, [TEXTS], None)


async def test_what_the_key_before_is_answered_late_asks_no_rest_of_the_new_one(clock: Clock) -> None:
    class AnswersLate(FakeEmbedder):
        async def embed(self, texts: Sequence[str]) -> list[Vector]:
            caller.calls.go_on_with(FakeEmbedder())
            raise ProviderThrottled("busy", retry_after_s=7.5)

    caller = Caller(AnswersLate())
    await caller.embed()
    await caller.embed()
    assert set(clock.slept) == {0.0}


async def test_a_provider_that_is_well_is_called_at_once(clock: Clock) -> None:
    await Caller(FakeEmbedder(max_texts=4)).embed()
    assert set(clock.slept) == {0.0}


@pytest.mark.parametrize(("retry_after_s", "rest_s"), [(7.5, 7.5), (None, REST_S), (0.0, 0.0)])
async def test_a_busy_provider_rests_as_long_as_it_asks_before_the_next_call(
    clock: Clock, retry_after_s: float | None, rest_s: float
) -> None:
    caller = Caller(FakeEmbedder(failures=[ProviderThrottled("busy", retry_after_s=retry_after_s)]))
    await caller.embed()
    assert clock.now == 100.0
    await caller.embed()
    assert clock.now == 100.0 + rest_s
    assert caller.sizes == [20, 20]


async def test_a_rest_is_over_when_its_time_has_passed_meanwhile(clock: Clock) -> None:
    caller = Caller(FakeEmbedder(failures=[ProviderThrottled("busy", retry_after_s=5)]))
    await caller.embed()
    clock.now += 4
    await caller.embed()
    assert clock.slept[-1] == 1.0
    await caller.embed()
    assert clock.slept[-1] == 0.0


async def test_only_a_busy_provider_rests(clock: Clock) -> None:
    caller = Caller(FakeEmbedder(failures=[ProviderMisconfigured("wrong key")]))
    await caller.embed()
    await caller.embed()
    assert set(clock.slept) == {0.0}


class Day:
    """Allows so many texts, and keeps what was counted."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed
        self.counted: list[tuple[int, int]] = []

    async def take(self, texts: int, tokens: int) -> int:
        self.counted.append((texts, tokens))
        granted = min(texts, self.left)
        self.left -= granted
        return granted


async def test_each_call_is_counted_with_its_texts_and_a_rough_number_of_its_tokens() -> None:
    day = Day(1_000)
    await Caller(FakeEmbedder(max_texts=2), acquire_texts=day.take).embed(["a" * 30, "鮨" * 10, "b" * 9])
    assert day.counted == [(2, 60 // BYTES_PER_TOKEN), (1, 3)]


async def test_what_the_day_still_allows_is_sent_and_no_more() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), acquire_texts=Day(10).take)
    result = await caller.embed()
    assert isinstance(result.shared, DayLimitReached)
    assert "spec.maxTextsPerDay" in result.shared.message
    assert caller.sizes == [8, 2]
    assert set(caller.taken) == set(range(10))


async def test_a_limit_that_is_just_reached_is_not_passed() -> None:
    caller = Caller(FakeEmbedder(max_texts=8), acquire_texts=Day(20).take)
    assert (await caller.embed()).shared is None
    assert len(caller.taken) == 20


async def test_at_first_nothing_is_known_against_the_provider() -> None:
    assert Caller(FakeEmbedder()).calls.problem is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderThrottled("as it says", retry_after_s=0), "ProviderThrottled"),
        (ProviderThrottled("as it says", retry_after_s=0, quota_exhausted=True), "QuotaExhausted"),
        (ProviderMisconfigured("as it says"), "ProviderMisconfigured"),
        (ProviderMisconfigured("as it says", reason="KeyRefused"), "KeyRefused"),
        (DayLimitReached("as it says"), "DayLimitReached"),
    ],
)
async def test_what_stands_in_everybodys_way_is_kept_with_its_reason_until_a_call_succeeds(
    error: ProviderError, reason: str
) -> None:
    caller = Caller(FakeEmbedder(failures=[error]))
    await caller.embed()
    assert caller.calls.problem == Problem(reason, "as it says")
    await caller.embed()
    assert caller.calls.problem is None


async def test_an_outage_is_a_problem_until_a_call_succeeds() -> None:
    caller = Caller(FakeEmbedder(failures=[AWAY] * 7))
    result = await caller.embed()
    assert result.shared is AWAY
    assert caller.calls.problem == Problem("ProviderUnavailable", "the server is away")
    await caller.embed()
    assert caller.calls.problem is None


async def test_a_text_that_fails_alone_is_no_problem_of_the_provider() -> None:
    caller = Caller(TakesFew(max_texts=16, really=16, poison=TEXTS[3]))
    await caller.embed(TEXTS[:16])
    assert caller.calls.problem is None


def test_the_limit_of_a_text_is_the_embedders() -> None:
    assert Caller(FakeEmbedder()).calls.max_text_bytes == FakeEmbedder.max_text_bytes
