"""Calls to gemini that hang, trickle or cannot connect: they end in time, leave no thread behind, and stop no other call."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from embedding_worker.errors import ProviderUnavailable
from embedding_worker.providers.blocking_call import BlockingCall
from embedding_worker.providers.gemini import GeminiEmbedder
from embedding_worker.source import Model
from hack.control_plane.certificates import Authority
from hack.provider_server.faults import FaultKind
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import hash_of
from tests.support.deadline import eventually
from tests.support.tcp_proxy import TcpProxy
from tests.support.tls_proxy import LOOPBACK, bundle, server_context

pytest.importorskip("google.generativeai")
from requests import Session

from embedding_worker.providers import abortable_http

KEY = "k3y-of-Somebody"
CALLS = 12
TIMEOUT_S = 0.5
SENT_WITHIN_S = 15.0
"""The deadline of calls of which it matters how far they have come."""
SHORT_S = 3.0
LONG_S = 60.0
AT_ONCE_S = 20.0
"""Much less than the calls that hang would take by themselves."""
WITHOUT_AN_ANSWER = (FaultKind.HANG, FaultKind.TRICKLE, FaultKind.TRICKLE_HEADERS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini"), api_key=KEY) as started:
        yield started


@pytest.fixture
def gemini(server: FakeGemini, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGemini]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.lift()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only authority whose certificates are accepted."""
    created = Authority(tmp_path / "authority")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle(tmp_path / "bundle.crt", created)))
    return created


def embedder(endpoint: str, *, timeout_s: float = LONG_S) -> GeminiEmbedder:
    return GeminiEmbedder(
        Model("gemini", "gemini-embedding-001", 4), api_key=KEY, endpoint=endpoint, timeout_s=timeout_s
    )


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gemini")]


async def no_thread_is_left(within_s: float = AT_ONCE_S) -> None:
    await eventually(lambda: not threads(), within_s=within_s, because="the calls were aborted")


async def outage(made: GeminiEmbedder, text: str = "one") -> ProviderUnavailable:
    with pytest.raises(ProviderUnavailable) as raised:
        await made.embed([text])
    return raised.value


async def end_by_deadline(_: FakeGemini, made: GeminiEmbedder, texts: list[str]) -> None:
    made._timeout_s = TIMEOUT_S
    ended = await asyncio.gather(*(made.embed([text]) for text in texts), return_exceptions=True)
    assert {type(error) for error in ended} == {ProviderUnavailable}
    made._timeout_s = LONG_S


async def end_by_cancelling(gemini: FakeGemini, made: GeminiEmbedder, texts: list[str]) -> None:
    tasks = [asyncio.create_task(made.embed([text])) for text in texts]
    await eventually(
        lambda: gemini.stats().in_flight == len(texts), within_s=AT_ONCE_S, because="each call has a thread"
    )
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(error) for error in ended} == {asyncio.CancelledError}


@pytest.mark.parametrize("end", [end_by_deadline, end_by_cancelling])
@pytest.mark.parametrize("kind", WITHOUT_AN_ANSWER)
async def test_calls_without_an_answer_leave_no_thread_and_the_next_call_succeeds_at_once(
    gemini: FakeGemini, kind: FaultKind, end: Callable[[FakeGemini, GeminiEmbedder, list[str]], Any]
) -> None:
    made = embedder(gemini.url)
    await made.embed(["warm"])
    gemini.fault(kind, only_matching="hangs")
    await end(gemini, made, [f"hangs {n}" for n in range(CALLS)])
    began = time.monotonic()
    assert len(await made.embed(["another"])) == 1
    assert time.monotonic() - began < AT_ONCE_S
    await no_thread_is_left()
    await eventually(lambda: not gemini.stats().in_flight, within_s=AT_ONCE_S, because="no connection is left")


def with_tls(gemini: FakeGemini, authority: Authority) -> TcpProxy:
    """The server over TLS, with a certificate of this authority."""
    proxy = TcpProxy((LOOPBACK, urlsplit(gemini.url).port or 0))
    proxy.tls = server_context(authority.issue("server", address=LOOPBACK))
    return proxy


@pytest.mark.parametrize("kind", WITHOUT_AN_ANSWER)
async def test_a_call_over_tls_is_aborted_also_on_the_connection_of_an_earlier_call(
    gemini: FakeGemini, authority: Authority, kind: FaultKind
) -> None:
    async with with_tls(gemini, authority) as proxy:
        made = embedder(f"https://{LOOPBACK}:{proxy.port}")
        await made.embed(["warm"])
        gemini.fault(kind, only_matching="hangs")
        await end_by_cancelling(gemini, made, ["hangs"])
        await no_thread_is_left()
        assert len(await made.embed(["another"])) == 1


async def test_a_call_through_a_proxy_is_aborted(gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", gemini.url)
    made = embedder("http://gemini.invalid")
    assert len(await made.embed(["one"])) == 1
    gemini.fault(FaultKind.HANG, only_matching="hangs")
    await end_by_cancelling(gemini, made, ["hangs"])
    await no_thread_is_left()


async def test_a_call_that_is_aborted_after_its_answer_does_not_end_the_next_one_on_its_connection(
    gemini: FakeGemini,
) -> None:
    session, received, released = Session(), threading.Event(), threading.Event()
    abortable_http.make_abortable(session)
    url = f"{gemini.url}/v1beta/models/gemini-embedding-001:batchEmbedContents"
    one: Any = {"model": "models/gemini-embedding-001", "content": {"parts": [{"text": "one"}]}}

    def ask() -> int:
        answer = session.post(url, json={"requests": [one]}, headers={"x-goog-api-key": KEY}, timeout=LONG_S)
        return answer.status_code

    def stay() -> None:
        ask()
        received.set()
        assert released.wait(LONG_S)

    with session:
        first = asyncio.create_task(BlockingCall("gemini").run(stay))
        await eventually(received.is_set, within_s=AT_ONCE_S, because="the answer has come")
        gemini.fault(FaultKind.SLOW, seconds=SHORT_S)
        calls = gemini.stats().calls
        second = asyncio.create_task(BlockingCall("gemini").run(ask))
        await eventually(lambda: gemini.stats().calls > calls, within_s=AT_ONCE_S, because="it is on its way")
        first.cancel()
        assert await second == 200
        released.set()


@contextmanager
def silent_server(*, full: bool = False) -> Iterator[int]:
    """The port of a server that accepts connections and says nothing; a full one does not even accept them."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0 if full else 16)
        port = int(listening.getsockname()[1])
        for _ in range(3 if full else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_server_that_is_silent_before_tls_is_aborted_and_was_not_reached(gemini: FakeGemini) -> None:
    with silent_server() as port:
        silent = embedder(f"https://127.0.0.1:{port}", timeout_s=TIMEOUT_S)
        await client_of(silent)
        assert not (await outage(silent)).reached
        await no_thread_is_left()


async def client_of(made: GeminiEmbedder) -> Any:
    await made.prepare()
    return made._client


async def test_an_address_that_does_not_answer_is_given_up_after_the_connect_timeout(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abortable_http, "CONNECT_TIMEOUT_S", SHORT_S)
    with silent_server(full=True) as port:
        made = embedder(f"http://127.0.0.1:{port}")
        await client_of(made)
        began = time.monotonic()
        error = await outage(made)
    assert time.monotonic() - began < LONG_S / 2
    assert "ConnectTimeout" in error.message
    assert not error.reached
    await no_thread_is_left()


async def test_calls_that_wait_for_dns_take_no_place_of_others_and_are_never_made(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embedder(gemini.url, timeout_s=SENT_WITHIN_S)
    await client_of(made)
    waiting, released = threading.Semaphore(CALLS), threading.Event()
    resolve = socket.getaddrinfo

    def slow(*args: Any, **given: Any) -> Any:
        if waiting.acquire(blocking=False):
            assert released.wait(LONG_S * 2)
        return resolve(*args, **given)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    try:
        ended = await asyncio.gather(*(outage(made, f"waits {n}") for n in range(CALLS)))
        assert not any(error.reached for error in ended)
        assert len(threads()) == CALLS
        made._timeout_s = LONG_S
        assert len(await made.embed(["another"])) == 1
    finally:
        released.set()
    await no_thread_is_left()
    sent = gemini.stats().texts_by_hash
    assert not any(hash_of(f"waits {n}") in sent for n in range(CALLS))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_refused_connection_has_not_reached_the_provider(gemini: FakeGemini) -> None:
    error = await outage(embedder(f"http://127.0.0.1:{free_port()}"))
    assert (error.reached, "ConnectionError" in error.message) == (False, True)


async def test_a_name_that_is_not_known_has_not_reached_the_provider(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", unknown)
        error = await outage(embedder("http://gemini.invalid"))
    assert (error.reached, "ConnectionError" in error.message) == (False, True)


async def test_a_server_without_tls_has_not_been_reached_over_https(gemini: FakeGemini) -> None:
    error = await outage(embedder(gemini.url.replace("http:", "https:")))
    assert (error.reached, "SSLError" in error.message) == (False, True)


async def test_a_certificate_that_is_not_trusted_has_not_been_sent_anything(
    gemini: FakeGemini, authority: Authority, tmp_path: Path
) -> None:
    calls = gemini.stats().calls
    async with with_tls(gemini, Authority(tmp_path / "another")) as proxy:
        error = await outage(embedder(f"https://{LOOPBACK}:{proxy.port}"))
    assert (error.reached, "SSLError" in error.message) == (False, True)
    assert gemini.stats().calls == calls


async def test_a_proxy_that_opens_no_tunnel_has_not_reached_the_provider(
    gemini: FakeGemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", gemini.url)
    error = await outage(embedder("https://gemini.invalid"))
    assert (error.reached, "ProxyError" in error.message) == (False, True)


@pytest.mark.parametrize("kind", [FaultKind.CLOSE, FaultKind.INTERNAL, FaultKind.HANG, FaultKind.TRICKLE])
async def test_a_call_that_was_sent_has_reached_the_provider(gemini: FakeGemini, kind: FaultKind) -> None:
    made = embedder(gemini.url, timeout_s=SENT_WITHIN_S)
    await client_of(made)
    gemini.fault(kind)
    assert (await outage(made)).reached
