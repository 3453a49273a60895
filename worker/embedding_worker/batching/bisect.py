"""Splits a failing batch until each item that causes a failure is alone, so that the other items succeed.

Used for calls to a provider (providers/batch_calls.py), and for statements on rows (rows/each_row.py). It does not depend on
either: what an attempt does, which errors are bisected, and when to stop are parameters.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=Exception)


@dataclass(frozen=True)
class FailedAlone(Generic[Failure]):
    """The attempt with this item alone failed, and the bisection was not stopped."""

    error: Failure


@dataclass(frozen=True)
class Unattributed(Generic[Failure]):
    """The item has no result, and it is not known whether the item is the cause of the error."""

    error: Failure
    pause_s: float = 0.0
    """How long to wait before the item is attempted again."""


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt of a bisection: how many items it had, and its error (None: it succeeded)."""

    items: int
    error: Exception | None = None


Attempt = Callable[[Sequence[Item]], Awaitable[Sequence[Result | Unattributed[Failure]]]]
"""Works on some items together. Returns one result for each of them, in their order, or raises."""
StopRule = Callable[[Sequence[AttemptRecord]], Awaitable[bool]]
"""Called after each failed attempt with all attempts so far: whether to stop, because further ones would fail as well."""
Outcomes = tuple[tuple[Item, Result | FailedAlone[Failure] | Unattributed[Failure]], ...]


async def never_stop(history: Sequence[AttemptRecord]) -> bool:
    """The rule that bisects every failure down to single items."""
    return False


async def bisect(
    parts: Sequence[Sequence[Item]],
    attempt: Attempt[Item, Result, Failure],
    *,
    on: type[Failure],
    stop: StopRule = never_stop,
    most_items: Callable[[], int] | None = None,
) -> AsyncIterator[Outcomes[Item, Result, Failure]]:
    """Attempt each part. One that fails is split into two; larger parts are attempted first.

    Yields the outcomes of each successful attempt as soon as it has returned, and those of the other items at the end. Each
    item is yielded once. A part larger than `most_items` says at that moment is split without an attempt. Only an error of type
    `on` causes a split; any other error is raised to the caller. If `stop` returns True, no more attempts are made, and all
    items without a result are Unattributed, also those that failed alone.
    """
    waiting = sorted(parts, key=len, reverse=True)
    history: list[AttemptRecord] = []
    alone: list[tuple[Item, Failure]] = []
    while waiting:
        part = waiting.pop(0)
        if most_items is not None and len(part) > max(1, most_items()):
            _split(part, waiting)
            continue
        try:
            results = await attempt(part)
        except on as exc:
            history.append(AttemptRecord(len(part), exc))
            if await stop(history):
                remaining = [*part, *(item for other in waiting for item in other), *(item for item, _ in alone)]
                yield tuple((item, Unattributed(exc)) for item in remaining)
                return
            if len(part) == 1:
                alone.append((part[0], exc))
            else:
                _split(part, waiting)
        else:
            history.append(AttemptRecord(len(part)))
            yield tuple(zip(part, results, strict=True))
    if alone:
        yield tuple((item, FailedAlone(error)) for item, error in alone)


def _split(part: Sequence[Item], waiting: list[Sequence[Item]]) -> None:
    middle = len(part) // 2
    waiting += [part[:middle], part[middle:]]
    waiting.sort(key=len, reverse=True)
