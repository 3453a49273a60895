"""Whose failure is it."""

from embedding_worker.batching.bisect import Halved
from embedding_worker.errors import InputRejected, ProviderUnavailable
from embedding_worker.providers.attribution import charged


def test_where_nothing_failed_nobody_is_charged() -> None:
    assert charged(Halved()) == frozenset()


def test_whoever_failed_alone_is_charged() -> None:
    failed = {3: ProviderUnavailable("broken"), 5: InputRejected("Blocked", "blocked")}
    assert charged(Halved(failed_alone={**failed}, largest=8)) == {3, 5}


def test_a_failure_that_is_shared_is_charged_to_nobody_not_even_to_whom_it_met_alone() -> None:
    away = ProviderUnavailable("away")
    assert charged(Halved(failed_alone={0: away, 1: away}, shared=away)) == frozenset()
