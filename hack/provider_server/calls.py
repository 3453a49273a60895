"""What the fake server needs of an API: how its calls are read and answered. Implemented by gemini_api.py and openai_api.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from hack.provider_server.faults import Fault, FaultKind

Values = list[float] | list[str] | list[None] | None
"""One vector, or what comes instead of it."""


class ErrorAnswer(Protocol):
    """An error as an API words it."""

    @property
    def code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def as_json(self) -> Any: ...


@dataclass(frozen=True)
class Call:
    """One call that was read. If its body cannot be read, it has no texts and `malformed` says why."""

    key: str
    model: str
    texts: Sequence[str] = ()
    dimensions: Sequence[int] = ()
    """How many each of the texts asks for."""
    task_types: Sequence[str] = ()
    """Of each text, where the API has any."""
    details: Any = None
    """What else the API knows of it."""
    malformed: ErrorAnswer | None = field(default=None)


class Api(Protocol):
    """The embedding methods of one API."""

    @property
    def paths(self) -> Sequence[str]:
        """Its routes, as aiohttp writes them."""
        ...

    def read(self, request: web.Request, body: Any) -> Call:
        """The call of this request. `body` is its JSON, or None where it is none."""
        ...

    def fault(self, fault: Fault, call: Call) -> ErrorAnswer | None:
        """The error answer that a fault asks for; None where it asks for something else."""
        ...

    def refusal(self, call: Call) -> ErrorAnswer | None:
        """The error with which the API refuses this call; None: it embeds its texts."""
        ...

    def answer(self, call: Call, vectors: Sequence[Values], kind: FaultKind | None) -> Any:
        """The JSON of an answer with these vectors, in the form that this fault asks for, where the API has such a form."""
        ...
