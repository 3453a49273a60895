"""The fake server: the embedding methods of the Gemini API and of OpenAI's, and a control address beside them. Run by __main__.

Faults are decided before anything else, as in an outage; then the key is checked, then the request, and finally the vectors
are made.
"""

import asyncio
from dataclasses import asdict
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from hack.provider_server.broken_answers import NO_ANSWERS, PAGE, UNUSUAL, encoded, no_answer, spoiled
from hack.provider_server.calls import Api, Call, ErrorAnswer
from hack.provider_server.faults import Fault, FaultKind, Faults
from hack.provider_server.gemini_api import GeminiApi
from hack.provider_server.openai_answers import Dialect
from hack.provider_server.openai_api import OpenAIApi
from hack.provider_server.stats import Stats
from hack.provider_server.vectors import fake_vector

MOST_BYTES = 32 * 2**20  # 100 long texts in a script that JSON writes in escapes are over a megabyte


class FaultOrder(BaseModel):
    """The body of POST /control: one fault, which is added to those in force."""

    model_config = ConfigDict(extra="forbid")

    fault: Fault


class FakeServer:
    def __init__(self, *, api_key: str, latency_s: float = 0) -> None:
        self._apis: tuple[Api, ...] = (
            GeminiApi(api_key),
            *(OpenAIApi(api_key, dialect) for dialect in Dialect),
        )
        self._latency_s = latency_s
        self._faults = Faults()
        self._stats = Stats()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BYTES)
        app.add_routes([web.post(path, partial(self._embed, api)) for api in self._apis for path in api.paths])
        app.add_routes(
            [
                web.post("/control", self._add_fault),
                web.delete("/control", self._lift_faults),
                web.get("/control", self._show_faults),
                web.get("/control/stats", self._show_stats),
            ]
        )
        return app

    async def _embed(self, api: Api, request: web.Request) -> web.StreamResponse:
        with self._stats.count_call():
            call = api.read(request, await _json_of(request))
            self._stats.record_request(call.texts, call.key)
            self._stats.record_task_types(call.task_types)
            await asyncio.sleep(self._latency_s)
            fault = await self._fault_for(call)
            if fault is not None and (error := api.fault(fault, call)) is not None:
                return self._page(error.code) if fault.as_page else self._error(error)
            if fault is not None and fault.kind in NO_ANSWERS:
                self._stats.record_answer(fault.kind)
                return await no_answer(fault, request)
            refused = call.malformed or api.refusal(call)
            return self._error(refused) if refused is not None else self._vectors(api, call, fault)

    async def _fault_for(self, call: Call) -> Fault | None:
        fault = None
        for chosen in self._faults.pick_for(call.texts):
            if chosen.kind is FaultKind.SLOW:
                await asyncio.sleep(chosen.seconds)
            else:
                fault = chosen
        return fault

    def _error(self, error: ErrorAnswer) -> web.Response:
        self._stats.record_answer(str(error.code))
        return web.json_response(error.as_json(), status=error.code, headers=error.headers)

    def _page(self, code: int) -> web.Response:
        self._stats.record_answer(str(code))
        return web.Response(text=PAGE, status=code, content_type="text/html")

    def _vectors(self, api: Api, call: Call, fault: Fault | None) -> web.Response:
        right = [fake_vector(text, size) for text, size in zip(call.texts, call.dimensions, strict=True)]
        if fault is None or fault.kind in UNUSUAL:
            self._stats.record_answer("200")
            self._stats.record_vectors(call.texts)
        else:
            self._stats.record_answer(fault.kind)
        kind = None if fault is None else fault.kind
        vectors = right if kind is None or kind in UNUSUAL else spoiled(right, kind)
        body = api.answer(call, vectors, kind)
        return encoded(body, kind)

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


async def _json_of(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError:
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
