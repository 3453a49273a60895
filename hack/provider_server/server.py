"""The fake server: the embedding methods of the Gemini API, and a control address beside them. Run by __main__.

Faults are decided before anything else, as in an outage; then the key is checked, then the request, and finally the vectors
are made.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from hack.provider_server import answers
from hack.provider_server.answers import ErrorBody
from hack.provider_server.broken_answers import NO_ANSWERS, PAGE, Values, no_answer, spoiled
from hack.provider_server.faults import Fault, FaultKind, Faults
from hack.provider_server.requests import EmbedContentRequest, refusal, requests_in
from hack.provider_server.stats import Stats
from hack.provider_server.vectors import fake_vector

MOST_BYTES = 32 * 2**20  # 100 long texts in a script that JSON writes in escapes are over a megabyte
QUOTA_OF = {
    FaultKind.THROTTLED: "minute",
    FaultKind.THROTTLED_TOKENS: "minute's tokens",
    FaultKind.DAY_QUOTA: "day",
}


class FaultOrder(BaseModel):
    """The body of POST /control: one fault, which is added to those in force."""

    model_config = ConfigDict(extra="forbid")

    fault: Fault


class FakeServer:
    def __init__(self, *, api_key: str, latency_s: float = 0) -> None:
        self._api_key = api_key
        self._latency_s = latency_s
        self._faults = Faults()
        self._stats = Stats()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BYTES)
        app.add_routes(
            [
                web.post(r"/v1beta/models/{model:[^/:]+}:{method:(?:batchEmbedContents|embedContent)}", self._embed),
                web.post("/control", self._add_fault),
                web.delete("/control", self._lift_faults),
                web.get("/control", self._show_faults),
                web.get("/control/stats", self._show_stats),
            ]
        )
        return app

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        with self._stats.count_call():
            batch = request.match_info["method"] == "batchEmbedContents"
            key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
            try:
                found = requests_in(await request.json(), batch=batch)
            except ValueError:
                found = answers.invalid("Invalid JSON payload received.")
            texts = [] if isinstance(found, ErrorBody) else [each.text for each in found]
            self._stats.record_request(texts, key)
            self._stats.record_task_types([] if isinstance(found, ErrorBody) else [each.task for each in found])
            await asyncio.sleep(self._latency_s)
            fault = None
            for chosen in self._faults.pick_for(texts):
                if chosen.kind is FaultKind.SLOW:
                    await asyncio.sleep(chosen.seconds)
                else:
                    fault = chosen
            model = request.match_info["model"]
            if fault is not None and (body := faulty_body(fault, texts, key=key, model=model)) is not None:
                return self._page(body.code) if fault.as_page else self._error(body)
            if fault is not None and fault.kind in NO_ANSWERS:
                self._stats.record_answer(fault.kind)
                return await no_answer(fault, request)
            if (wrong := self._wrong_key(key)) is not None:
                return self._error(wrong)
            if isinstance(found, ErrorBody):
                return self._error(found)
            if (refused := refusal(found, model=model, batch=batch)) is not None:
                return self._error(refused)
            return self._vectors(found, fault, batch=batch)

    def _wrong_key(self, key: str) -> ErrorBody | None:
        if not key:
            return answers.missing_key()
        return None if key == self._api_key else answers.invalid_key(key)

    def _error(self, body: ErrorBody) -> web.Response:
        self._stats.record_answer(str(body.code))
        return web.json_response(body.as_json(), status=body.code)

    def _page(self, code: int) -> web.Response:
        self._stats.record_answer(str(code))
        return web.Response(text=PAGE, status=code, content_type="text/html")

    def _vectors(self, found: Sequence[EmbedContentRequest], fault: Fault | None, *, batch: bool) -> web.Response:
        right = [fake_vector(each.text, each.output_dimensionality) for each in found]
        vectors: Sequence[Values] = right
        if fault is None:
            self._stats.record_answer("200")
            self._stats.record_vectors([each.text for each in found])
        else:
            self._stats.record_answer(fault.kind)
            vectors = spoiled(right, fault.kind)
        embeddings = [None if values is None else {"values": values} for values in vectors]
        return web.json_response({"embeddings": embeddings} if batch else {"embedding": (embeddings or [{}])[0]})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            self._faults.add(FaultOrder.model_validate(await request.json()).fault)
        except ValidationError as exc:
            return web.json_response({"error": str(exc)}, status=400)
        except ValueError:
            return web.json_response({"error": "the body is not JSON"}, status=400)
        return await self._show_faults(request)

    async def _lift_faults(self, request: web.Request) -> web.Response:
        self._faults.lift()
        return await self._show_faults(request)

    async def _show_faults(self, request: web.Request) -> web.Response:
        return web.json_response({"faults": [fault.model_dump(mode="json") for fault in self._faults.in_force()]})

    async def _show_stats(self, request: web.Request) -> web.Response:
        return web.json_response(asdict(self._stats))


def faulty_body(fault: Fault, texts: Sequence[str], *, key: str, model: str) -> ErrorBody | None:
    """The error answer that a fault asks for; None where it asks for something else."""
    match fault.kind:
        case FaultKind.REFUSED_TEXT:
            wanted = fault.only_matching or ""
            place = next((n for n, text in enumerate(texts) if wanted in text), 0)
            return answers.refused_text(place, texts[place] if texts else "")
        case FaultKind.INVALID_KEY:
            return answers.invalid_key(key)
        case FaultKind.FAILED_PRECONDITION:
            return answers.failed_precondition()
        case FaultKind.UNAUTHENTICATED:
            return answers.unauthenticated()
        case FaultKind.FORBIDDEN:
            return answers.forbidden()
        case FaultKind.UNKNOWN_MODEL:
            return answers.unknown_model(model, "embedContent")
        case FaultKind.THROTTLED | FaultKind.THROTTLED_TOKENS | FaultKind.DAY_QUOTA:
            return answers.throttled(per=QUOTA_OF[fault.kind], retry_after_s=fault.seconds)
        case FaultKind.THROTTLED_PLAIN:
            return answers.throttled_plain()
        case FaultKind.SPEND_QUOTA:
            return answers.spending_cap_reached()
        case FaultKind.INTERNAL:
            return answers.internal()
        case FaultKind.UNAVAILABLE:
            return answers.unavailable()
        case _:
            return None


async def serve(server: FakeServer, port: int) -> None:
    """Serve on 127.0.0.1 until cancelled, and print the address. Raises OSError if the port is in use."""
    # A client that closes the connection of a hanging call cancels its handler, so that it is not counted as in flight.
    runner = web.AppRunner(server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        addresses: list[Any] = runner.addresses
        print(f"listening on http://127.0.0.1:{addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
