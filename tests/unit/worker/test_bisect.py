"""A batch that fails, halved down to its culprit: who gets a vector, and how many calls it costs."""

import math
from collections.abc import Callable, Sequence

import pytest

from embedding_worker.batching.bisect import CALLS_WITHOUT_SUCCESS, Halved, embed_halving
from embedding_worker.errors import (
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers.attribution import charged
from embedding_worker.providers.embedder import Vector
from tests.support.kept_rows import fake_vector

AWAY = ProviderUnavailable("the server is away", code="503 UNAVAILABLE")
BLOCKED = InputRejected("Blocked", "the provider refuses the text")
TEXTS = [f"text {n}" for n in range(64)]


class Halving:
    """A provider that fails as `fails` says of the texts of a call; keeps the calls, and the vectors given back."""

    def __init__(self, fails: Callable[[Sequence[str]], ProviderError | None]) -> None:
        self.calls: list[list[str]] = []
        self.taken: dict[int, Vector] = {}
        self._fails = fails

    async def run(self, texts: Sequence[str] = TEXTS) -> Halved:
        return await embed_halving(self._embed, texts, self._take)

    async def _embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        if (error := self._fails(texts)) is not None:
            raise error
        return [fake_vector(text) for text in texts]

    async def _take(self, places: Sequence[int], vectors: Sequence[Vector]) -> None:
        for place, vector in zip(places, vectors, strict=True):
            assert place not in self.taken
            self.taken[place] = vector


def failing(error: ProviderError, *culprits: int) -> Halving:
    """Every call that holds a culprit fails with this error."""
    bad = {TEXTS[place] for place in culprits}
    return Halving(lambda texts: error if bad & set(texts) else None)


def all_but(*places: int) -> set[int]:
    return set(range(len(TEXTS))) - set(places)


async def test_a_batch_that_succeeds_is_one_call() -> None:
    halving = Halving(lambda texts: None)
    result = await halving.run()
    assert halving.calls == [TEXTS]
    assert (result.failed_alone, result.shared, result.largest, result.smallest_refused) == ({}, None, 64, None)


async def test_each_text_gets_its_own_vector() -> None:
    halving = failing(AWAY, 17)
    await halving.run()
    assert halving.taken == {place: fake_vector(TEXTS[place]) for place in all_but(17)}


async def test_vectors_are_given_back_in_the_order_of_their_texts() -> None:
    given: list[int] = []

    async def embed(texts: Sequence[str]) -> list[Vector]:
        return [fake_vector(text) for text in texts]

    async def take(places: Sequence[int], vectors: Sequence[Vector]) -> None:
        given.extend(places)
        assert list(vectors) == [fake_vector(TEXTS[place]) for place in places]

    await embed_halving(embed, TEXTS, take)
    assert given == list(range(64))


@pytest.mark.parametrize("error", [AWAY, BLOCKED], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("culprit", [0, 17, 63])
async def test_one_culprit_costs_its_neighbours_nothing_but_a_few_calls(error: ProviderError, culprit: int) -> None:
    halving = failing(error, culprit)
    result = await halving.run()
    assert set(halving.taken) == all_but(culprit)
    assert (result.failed_alone, result.shared) == ({culprit: error}, None)
    assert len(halving.calls) <= 2 * math.log2(len(TEXTS)) + 1


@pytest.mark.parametrize("error", [AWAY, BLOCKED], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("culprits", [(0, 40), (30, 33), (62, 63), (0, 1)], ids=str)
async def test_two_culprits_are_both_found(error: ProviderError, culprits: tuple[int, int]) -> None:
    halving = failing(error, *culprits)
    result = await halving.run()
    assert set(halving.taken) == all_but(*culprits)
    assert set(result.failed_alone) == set(culprits)
    assert result.shared is None
    assert len(halving.calls) <= 2 * (2 * math.log2(len(TEXTS)) + 1)


async def test_larger_parts_are_embedded_before_smaller_ones() -> None:
    halving = failing(BLOCKED, 17)
    await halving.run()
    sizes = [len(call) for call in halving.calls]
    assert sizes == sorted(sizes, reverse=True)


async def test_where_every_text_is_refused_each_one_is_refused_alone() -> None:
    halving = failing(BLOCKED, *range(64))
    result = await halving.run()
    assert set(result.failed_alone) == set(range(64))
    assert (result.shared, halving.taken) == (None, {})


async def test_an_outage_is_nobodys_own_and_is_known_after_a_few_calls() -> None:
    halving = failing(AWAY, *range(64))
    result = await halving.run()
    assert result.shared is AWAY
    assert len(halving.calls) <= CALLS_WITHOUT_SUCCESS == 7


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 63])
async def test_an_outage_is_shared_also_in_a_small_batch(size: int) -> None:
    halving = failing(AWAY, *range(64))
    result = await halving.run(TEXTS[:size])
    assert result.shared is AWAY
    assert len(halving.calls) <= CALLS_WITHOUT_SUCCESS


async def test_a_text_that_is_alone_from_the_start_fails_alone() -> None:
    result = await failing(AWAY, 0).run(TEXTS[:1])
    assert (result.failed_alone, result.shared) == ({0: AWAY}, None)


async def test_a_culprit_in_a_batch_that_was_refused_for_its_size_is_found_all_the_same() -> None:
    halving = Halving(lambda texts: BLOCKED if len(texts) == 64 else AWAY if TEXTS[63] in texts else None)
    await halving.run()
    assert halving.taken == {place: fake_vector(TEXTS[place]) for place in all_but(63)}


@pytest.mark.parametrize(
    "error",
    [ProviderThrottled("busy"), ProviderMisconfigured("wrong key"), DayLimitReached("enough for today")],
    ids=lambda error: type(error).__name__,
)
async def test_what_is_the_whole_providers_stops_at_once(error: ProviderError) -> None:
    halving = failing(error, *range(64))
    result = await halving.run()
    assert (len(halving.calls), result.shared, result.failed_alone) == (1, error, {})


async def test_a_provider_that_asks_for_a_rest_in_the_middle_keeps_what_it_gave() -> None:
    busy = ProviderThrottled("busy")
    halving = Halving(lambda texts: BLOCKED if len(texts) == 64 else busy if TEXTS[63] in texts else None)
    result = await halving.run()
    assert set(halving.taken) == set(range(32))
    assert result.shared is busy


@pytest.mark.parametrize("takes", [1, 10, 16, 50, 63])
async def test_a_server_that_takes_fewer_texts_is_learnt_and_no_text_is_charged(takes: int) -> None:
    halving = Halving(lambda texts: BLOCKED if len(texts) > takes else None)
    result = await halving.run()
    assert set(halving.taken) == all_but()
    assert (result.failed_alone, result.shared) == ({}, None)
    assert result.largest == max(size for size in (1, 2, 4, 8, 16, 32) if size <= takes)
    assert result.smallest_refused == 2 * result.largest


async def test_a_batch_that_was_refused_for_its_culprit_was_not_too_large() -> None:
    result = await failing(BLOCKED, 17).run()
    assert result.smallest_refused is None


async def test_what_is_no_error_of_the_provider_is_for_whoever_asked() -> None:
    async def embed(texts: Sequence[str]) -> list[Vector]:
        raise ZeroDivisionError

    async def take(places: Sequence[int], vectors: Sequence[Vector]) -> None:
        raise AssertionError("nothing is given back")

    with pytest.raises(ZeroDivisionError):
        await embed_halving(embed, TEXTS, take)


async def test_an_outage_that_begins_in_the_middle_of_a_batch_is_shared_all_the_same() -> None:
    calls = 0

    async def embed(texts: Sequence[str]) -> list[Vector]:
        nonlocal calls
        calls += 1
        if calls == 2:
            return [[1.0] for _ in texts]
        raise ProviderUnavailable("away")

    taken: list[int] = []

    async def take(places: Sequence[int], vectors: Sequence[Vector]) -> None:
        taken.extend(places)

    halved = await embed_halving(embed, [str(number) for number in range(64)], take)
    assert (len(taken), calls) == (32, 2 + CALLS_WITHOUT_SUCCESS)
    assert halved.shared is not None
    assert charged(halved) == frozenset()
