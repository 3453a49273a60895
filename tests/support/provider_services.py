"""The providers that call a server, each with the kind of server that it calls, for the contract tests of all of them."""

import importlib.util
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from _pytest.mark import ParameterSet

from embedding_worker.clock import SystemClock
from embedding_worker.errors import (
    AnswerUnusable,
    InputRejected,
    ProviderError,
    ProviderMisconfigured,
    ProviderThrottled,
    ProviderUnavailable,
)
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from hack.provider_server.faults import FaultKind
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.openai_api import SERVED_DIMENSIONS, SERVED_MODEL
from hack.provider_server.process import FakeGemini

KEY = "k3y-of-Somebody"
KEY_REF = "contract/key"
Reactions = dict[FaultKind, tuple[type[ProviderError], str]]
WITHOUT_AN_ANSWER = (FaultKind.HANG, FaultKind.SLOW, FaultKind.TRICKLE, FaultKind.TRICKLE_HEADERS)
RIGHT_ANSWERS = (FaultKind.GZIP, FaultKind.SHUFFLED, FaultKind.NUMBERS)
UNUSABLE = (
    *(FaultKind.NOT_JSON, FaultKind.TRUNCATED, FaultKind.TOO_FEW, FaultKind.ONE_FOR_ALL, FaultKind.WRONG_SIZE),
    *(FaultKind.NAN, FaultKind.INFINITE, FaultKind.ZERO, FaultKind.NULL_VALUES, FaultKind.NULL_VECTOR),
    FaultKind.BOMB,
)
"""Whole answers without one whole vector for each text. In order: every process of a test run collects the same tests."""
OF_ALL: Reactions = dict.fromkeys(UNUSABLE, (AnswerUnusable, "")) | {
    FaultKind.CLOSE: (ProviderUnavailable, ""),
    FaultKind.CLOSE_AT_ONCE: (ProviderUnavailable, ""),
    FaultKind.BAD_GATEWAY: (ProviderUnavailable, "502"),
    FaultKind.REDIRECT: (ProviderMisconfigured, "307"),
}


def of_codes(
    *,
    refused: str,
    key: str,
    place: str,
    nobody: str,
    forbidden: str,
    model: str,
    throttled: tuple[str, ...],
    away: str,
) -> Reactions:
    """By the code that each of the errors has. `throttled`: by limits, out of money, and without a limit named."""
    limits, money, plain = throttled
    internal, unavailable = away.split(" / ")
    return {
        FaultKind.REFUSED_TEXT: (InputRejected, refused),
        FaultKind.INVALID_KEY: (ProviderMisconfigured, key),
        FaultKind.FAILED_PRECONDITION: (ProviderMisconfigured, place),
        FaultKind.UNAUTHENTICATED: (ProviderMisconfigured, nobody),
        FaultKind.FORBIDDEN: (ProviderMisconfigured, forbidden),
        FaultKind.UNKNOWN_MODEL: (ProviderMisconfigured, model),
        FaultKind.THROTTLED: (ProviderThrottled, limits),
        FaultKind.THROTTLED_TOKENS: (ProviderThrottled, limits),
        FaultKind.DAY_QUOTA: (ProviderThrottled, limits),
        FaultKind.SPEND_QUOTA: (ProviderThrottled, money),
        FaultKind.THROTTLED_PLAIN: (ProviderThrottled, plain),
        FaultKind.INTERNAL: (ProviderUnavailable, internal),
        FaultKind.UNAVAILABLE: (ProviderUnavailable, unavailable),
    }


GOOGLE = of_codes(
    refused="400 INVALID_ARGUMENT",
    key="400 INVALID_ARGUMENT",
    place="400 FAILED_PRECONDITION",
    nobody="401 UNAUTHENTICATED",
    forbidden="403 PERMISSION_DENIED",
    model="404 NOT_FOUND",
    throttled=("429 RESOURCE_EXHAUSTED",) * 3,
    away="500 INTERNAL / 503 UNAVAILABLE",
) | {FaultKind.ERROR_BODY: (AnswerUnusable, "")}
IN_THE_BODY: Reactions = {FaultKind.ERROR_BODY: (ProviderUnavailable, "500")}
OPENAI = of_codes(
    refused="400 invalid_request_error",
    key="401 invalid_api_key",
    place="403 unsupported_country_region_territory",
    nobody="401 invalid_request_error",
    forbidden="403 invalid_request_error",
    model="404 model_not_found",
    throttled=("429 rate_limit_exceeded", "429 insufficient_quota", "429 requests"),
    away="500 server_error / 503 server_error",
)
TEI = of_codes(
    refused="422 Tokenizer",
    key="401 Backend",
    place="403 Backend",
    nobody="401 Backend",
    forbidden="403 Backend",
    model="404 Backend",
    throttled=("429 Overloaded",) * 3,
    away="424 Backend / 503 Unhealthy",
)
INFINITY = of_codes(
    refused="422",
    key="401",
    place="403",
    nobody="401",
    forbidden="403",
    model="404",
    throttled=("429",) * 3,
    away="500 / 503",
)
VLLM = of_codes(
    refused="400 BadRequestError",
    key="401",
    place="403 InternalServerError",
    nobody="401",
    forbidden="403 InternalServerError",
    model="404 NotFoundError",
    throttled=("429 TooManyRequestsError",) * 3,
    away="500 InternalServerError / 503 InternalServerError",
)
OLLAMA = of_codes(
    refused="400 invalid_request_error",
    key="401 api_error",
    place="403 api_error",
    nobody="401 api_error",
    forbidden="403 api_error",
    model="404 not_found_error",
    throttled=("429 api_error",) * 3,
    away="500 api_error / 503 api_error",
)


@dataclass(frozen=True)
class Service:
    """A provider, and the kind of server that it calls."""

    name: str
    provider: str
    model: str
    dimensions: int
    sdk: str
    url: Callable[[FakeGemini], str]
    """Its endpoint on the fake server."""
    reactions: Reactions

    def embedder(self, endpoint: str, *, key: str | None = KEY, timeout_s: float | None = None) -> SourceEmbedder:
        """Made by a registry of its own, so that no circuit and no throttle of another test is open."""
        ref = KEY_REF if key is not None else ""
        model = Model(self.provider, self.model, self.dimensions, endpoint=endpoint, api_key_ref=ref)
        keys = {KEY_REF: ApiKey(KEY_REF, (endpoint,), key)} if key is not None else {}
        registry = ProviderRegistry(Credentials(keys=keys), clock=SystemClock(), observer=NoObserver())
        made = registry.embedder(model, source="contract")
        if timeout_s is not None:
            set_timeout(made, timeout_s)
        return made


def set_timeout(made: SourceEmbedder, timeout_s: float) -> None:
    """Shorten the deadline of a provider's calls."""
    made._shared[1].client._timeout_s = timeout_s  # type: ignore[attr-defined]


def _google(name: str, sdk: str) -> Service:
    def url(server: FakeGemini) -> str:
        return server.url

    return Service(name, name, "gemini-embedding-001", 768, sdk, url, OF_ALL | GOOGLE)


def _of_openai(dialect: Dialect, reactions: Reactions) -> Service:
    def url(server: FakeGemini) -> str:
        return server.openai_url(dialect)

    is_openai = dialect is Dialect.OPENAI
    model, dimensions = ("text-embedding-3-small", 768) if is_openai else (SERVED_MODEL, SERVED_DIMENSIONS)
    all_reactions = OF_ALL | IN_THE_BODY | reactions
    return Service(dialect.value, "openai", model, dimensions, "openai", url, all_reactions)


SERVICES = (
    _google("gemini", "google.generativeai"),
    _google("google-genai", "google.genai"),
    _of_openai(Dialect.OPENAI, OPENAI),
    _of_openai(Dialect.TEI, TEI),
    _of_openai(Dialect.INFINITY, INFINITY),
    _of_openai(Dialect.VLLM, VLLM),
    _of_openai(Dialect.OLLAMA, OLLAMA),
)
ONE_OF_EACH_PROVIDER = tuple({service.provider: service for service in reversed(SERVICES)}.values())


def installed(services: Sequence[Service]) -> list[ParameterSet]:
    """As parameters of a test. Those whose SDK is not installed are skipped."""
    return [pytest.param(service, id=service.name, marks=_needs(service)) for service in services]


def faults_of_each(services: Sequence[Service]) -> list[ParameterSet]:
    """Each service with each fault that it words in its own way; one of each provider with all faults."""
    return [
        pytest.param(service, kind, id=f"{service.name} {kind}", marks=_needs(service))
        for service in services
        for kind in service.reactions
        if kind not in OF_ALL or service in ONE_OF_EACH_PROVIDER
    ]


def _needs(service: Service) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not _is_installed(service.sdk), reason=f"{service.sdk} is not installed")


def _is_installed(sdk: str) -> bool:
    try:
        return importlib.util.find_spec(sdk) is not None
    except ModuleNotFoundError:
        return False


async def failure(made: SourceEmbedder, *texts: str) -> ProviderError:
    """The error of this call, which shows neither the key nor a text."""
    with pytest.raises(ProviderError) as raised:
        await made.embed(texts)
    shown = f"{raised.value!r} {vars(raised.value)} {''.join(traceback.format_exception(raised.value))}"
    for private in (KEY, *texts):
        assert private not in shown
    return raised.value
