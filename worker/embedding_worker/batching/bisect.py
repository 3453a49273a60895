"""A batch that fails is halved down to its culprit: what one text makes fail must cost its neighbours nothing.

Called by freshen with the texts of a batch. It gives vectors back as soon as they are there, and says which texts failed
alone, or that a failure is shared and nobody's own; who is charged is decided in charging.py.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from embedding_worker.errors import (
    DayLimitReached,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
)
from embedding_worker.providers.embedder import Vector

Embed = Callable[[Sequence[str]], Awaitable[list[Vector]]]
Take = Callable[[Sequence[int], Sequence[Vector]], Awaitable[None]]
"""Takes the vectors of some places, in the places' order."""

# Of the whole provider, not of a text: the rest of the batch would only fail in the same way.
OF_THE_PROVIDER = (ProviderThrottled, ProviderMisconfigured, DayLimitReached)
CALLS_WITHOUT_SUCCESS = 7
"""The batch, its halves and its quarters: after so many failures and no success it is the provider, and halving on would
cost a call for each text. Two texts that fail alone say the same."""
LONE_FAILURES_WITHOUT_SUCCESS = 2


@dataclass
class Halved:
    """What became of the texts whose vectors were not given back, by their place."""

    failed_alone: dict[int, ProviderError] = field(default_factory=dict)
    shared: ProviderError | None = None
    """Why all others have no vector (None: there are no others)."""
    largest: int = 0
    """Texts of the largest call that succeeded."""
    smallest_refused: int | None = None
    """Texts of the smallest call that was refused although none of its texts was: it held too many for this server."""


async def embed_halving(embed: Embed, texts: Sequence[str], take: Take) -> Halved:
    """Embed texts (1 or more) in as few calls as their failures allow; larger parts first.

    Raises only what is no ProviderError.
    """
    result = Halved()
    parts: deque[Sequence[int]] = deque([range(len(texts))])
    refused: list[Sequence[int]] = []
    failures = 0  # since the last success
    while parts:
        places = parts.popleft()
        try:
            vectors = await embed([texts[place] for place in places])
        except OF_THE_PROVIDER as exc:
            result.shared = exc
            return result
        except ProviderError as exc:
            if isinstance(exc, InputRejected):
                refused.append(places)
            else:
                failures += 1
            if len(places) == 1:
                result.failed_alone[places[0]] = exc
            else:
                middle = len(places) // 2
                parts += (places[:middle], places[middle:])
            if _unwell(result, failures):
                result.shared = exc
                return result
        else:
            failures = 0
            result.largest = max(result.largest, len(places))
            await take(places, vectors)
    for places in refused:
        if not any(place in result.failed_alone for place in places):
            result.smallest_refused = min(len(places), result.smallest_refused or len(places))
    return result


def _unwell(result: Halved, failures: int) -> bool:
    """A refused text says that the provider is at work; failures of other kinds, and no success, that it is not."""
    alone = [error for error in result.failed_alone.values() if not isinstance(error, InputRejected)]
    none_succeeded = not result.largest and len(alone) >= LONE_FAILURES_WITHOUT_SUCCESS
    return failures >= CALLS_WITHOUT_SUCCESS or none_succeeded
