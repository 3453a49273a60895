"""The embedding methods of the Gemini API, for the fake server. The bodies are in requests.py and answers.py."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from hack.provider_server import answers
from hack.provider_server.answers import ErrorBody
from hack.provider_server.calls import Call, Values
from hack.provider_server.faults import Fault, FaultKind
from hack.provider_server.requests import EmbedContentRequest, refusal, requests_in

BATCH = "batchEmbedContents"
QUOTA_OF = {
    FaultKind.THROTTLED: "minute",
    FaultKind.THROTTLED_TOKENS: "minute's tokens",
    FaultKind.DAY_QUOTA: "day",
}
PLAIN_FAULTS = {
    FaultKind.FAILED_PRECONDITION: answers.failed_precondition,
    FaultKind.UNAUTHENTICATED: answers.unauthenticated,
    FaultKind.FORBIDDEN: answers.forbidden,
    FaultKind.THROTTLED_PLAIN: answers.throttled_plain,
    FaultKind.SPEND_QUOTA: answers.spending_cap_reached,
    FaultKind.INTERNAL: answers.internal,
    FaultKind.UNAVAILABLE: answers.unavailable,
}


class GeminiApi:
    """See calls.Api. Faults come first, then the key is checked, and then the requests."""

    paths = (r"/v1beta/models/{model:[^/:]+}:{method:(?:batchEmbedContents|embedContent)}",)

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def read(self, request: web.Request, body: Any) -> Call:
        model, batch = request.match_info["model"], request.match_info["method"] == BATCH
        key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
        if body is None:
            return Call(key, model, malformed=answers.invalid("Invalid JSON payload received."))
        found = requests_in(body, batch=batch)
        if isinstance(found, ErrorBody):
            return Call(key, model, malformed=found)
        sizes = [each.output_dimensionality for each in found]
        tasks = [each.task for each in found]
        return Call(key, model, [each.text for each in found], sizes, tasks, (found, batch))

    def fault(self, fault: Fault, call: Call) -> ErrorBody | None:
        match fault.kind:
            case FaultKind.REFUSED_TEXT:
                wanted = fault.only_matching or ""
                place = next((n for n, text in enumerate(call.texts) if wanted in text), 0)
                return answers.refused_text(place, call.texts[place] if call.texts else "")
            case FaultKind.INVALID_KEY:
                return answers.invalid_key(call.key)
            case FaultKind.UNKNOWN_MODEL:
                return answers.unknown_model(call.model, "embedContent")
            case kind if kind in QUOTA_OF:
                return answers.throttled(per=QUOTA_OF[kind], retry_after_s=fault.seconds)
            case kind if kind in PLAIN_FAULTS:
                return PLAIN_FAULTS[kind]()
            case _:
                return None

    def refusal(self, call: Call) -> ErrorBody | None:
        if not call.key:
            return answers.missing_key()
        if call.key != self._api_key:
            return answers.invalid_key(call.key)
        requests, batch = self._requests(call)
        return refusal(requests, model=call.model, batch=batch)

    def answer(self, call: Call, vectors: Sequence[Values], kind: FaultKind | None) -> Any:
        _, batch = self._requests(call)
        embeddings = [None if values is None else {"values": values} for values in vectors]
        return {"embeddings": embeddings} if batch else {"embedding": (embeddings or [{}])[0]}

    def _requests(self, call: Call) -> tuple[list[EmbedContentRequest], bool]:
        requests, batch = call.details
        return requests, batch
