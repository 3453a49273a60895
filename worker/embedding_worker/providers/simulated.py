"""Vectors that are computed from the text, without a model: for load tests of a cluster. Called through the provider registry.

They are useless for searching, so a setting has to allow them. Latency, failures and refused texts are settings too. Whether a
call fails is decided by the hash of its number and its first text: the same calls in the same order fail alike, and a call that
is repeated may succeed.
"""

import asyncio
import hashlib
import itertools
import struct
from collections.abc import Callable, Sequence
from functools import partial

from embedding_worker.errors import InputRejected, ProviderUnavailable, SourceRefused
from embedding_worker.providers.embedder import Vector, at_unit_length
from embedding_worker.providers.provider import Provider, ProviderSetting, Values
from embedding_worker.source import Model

NAME = "simulated"
ALLOWED_SETTING = "EMBEDDING_SIMULATED_ALLOWED"
LATENCY_SETTING = "EMBEDDING_SIMULATED_LATENCY_MS"
FAILURE_RATE_SETTING = "EMBEDDING_SIMULATED_FAILURE_RATE"
REFUSED_TEXT_SETTING = "EMBEDDING_SIMULATED_REFUSED_TEXT"
MOST_DIMENSIONS = 16_000
"""pgvector's limit for the type vector."""
LONGEST_LATENCY_MS = 60_000.0


class SimulatedEmbedder:
    """Safe to call from several tasks at once."""

    max_texts = 100
    max_text_bytes = 24_000

    def __init__(self, model: Model, *, latency_s: float = 0, failure_rate: float = 0, refused_text: str = "") -> None:
        """Raises SourceRefused for a task type, and for dimensions that no vector has."""
        if model.task_type is not None:
            raise SourceRefused(
                "TaskTypeUnknown",
                f"spec.model.taskType is {model.task_type!r}: the provider {NAME!r} has none, leave it out",
            )
        if not 1 <= model.dimensions <= MOST_DIMENSIONS:
            raise SourceRefused(
                "WrongDimensions",
                f"spec.model.dimensions is {model.dimensions}: the provider {NAME!r} gives 1 to {MOST_DIMENSIONS}",
            )
        self._model = model
        self._latency_s = latency_s
        self._failure_rate = failure_rate
        self._refused_text = refused_text
        self._calls = itertools.count()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed."""
        fails = share_of(f"{next(self._calls)} {texts[0]}") < self._failure_rate
        await asyncio.sleep(self._latency_s)
        if fails:
            raise ProviderUnavailable(f"the provider {NAME!r} fails, as {FAILURE_RATE_SETTING} says", code="503")
        if self._refused_text and any(self._refused_text in text for text in texts):
            raise InputRejected(
                "InputRejected", f"the provider {NAME!r} refuses a text, as {REFUSED_TEXT_SETTING} says", code="400"
            )
        return await asyncio.to_thread(self._vectors, list(texts))

    def _vectors(self, texts: list[str]) -> list[Vector]:
        return at_unit_length([vector_of(text, self._model) for text in texts])


def share_of(text: str) -> float:
    """A number from 0 up to 1, the same each time for this text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def vector_of(text: str, model: Model) -> Vector:
    """The same each time for text, name and dimensions. Values in [-1, 1), not of unit length."""
    seed = f"{model.name}@{model.dimensions}\0{text}".encode()
    numbers = struct.unpack(f"<{model.dimensions}i", hashlib.shake_128(seed).digest(4 * model.dimensions))
    return [(number | 1) / 2**31 for number in numbers]  # never zero throughout


def usable_answer(value: str) -> str:
    """Raises SourceRefused for anything but `true` and `false`."""
    if (answer := value.strip().lower()) in ("true", "false"):
        return answer
    raise SourceRefused("SettingInvalid", f"{ALLOWED_SETTING} is {value!r}: set it to true or false")


def usable_number(value: str, *, setting: str, most: float) -> str:
    """Raises SourceRefused for anything but a number from 0 to `most`."""
    try:
        if 0 <= float(value) <= most:
            return value.strip()
    except ValueError:
        pass
    raise SourceRefused("SettingInvalid", f"{setting} is {value!r}: set a number from 0 to {most:g}")


def make_embedder(model: Model, values: Values) -> SimulatedEmbedder:
    """Raises SourceRefused where no setting allows this provider."""
    if values.get(ALLOWED_SETTING) != "true":
        raise SourceRefused(
            "ProviderNotAllowed",
            f"spec.model.provider is {NAME!r}, whose vectors mean nothing: for a load test, set {ALLOWED_SETTING} to true",
        )
    return SimulatedEmbedder(
        model,
        latency_s=float(values.get(LATENCY_SETTING, "0")) / 1_000,
        failure_rate=float(values.get(FAILURE_RATE_SETTING, "0")),
        refused_text=values.get(REFUSED_TEXT_SETTING, ""),
    )


def number_setting(variable: str, description: str, most: float) -> ProviderSetting:
    usable: Callable[[str], str] = partial(usable_number, setting=variable, most=most)
    return ProviderSetting(variable, description, usable=usable)


PROVIDER = Provider(
    name=NAME,
    make=make_embedder,
    settings=(
        ProviderSetting(ALLOWED_SETTING, "true, where sources may use simulated vectors", usable=usable_answer),
        number_setting(LATENCY_SETTING, "how long each call takes, in milliseconds", LONGEST_LATENCY_MS),
        number_setting(FAILURE_RATE_SETTING, "the share of calls that fail as in an outage, from 0 to 1", 1),
        ProviderSetting(REFUSED_TEXT_SETTING, "a part of the texts that are refused", usable=str),
    ),
)
