"""The fake Gemini API: it answers as the real one is documented to, has faults on demand, and counts its calls."""

import json
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_connection
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest

from hack.errors import ToolError
from hack.processes.run import run_to_end
from hack.provider_server.broken_answers import TRICKLE_S
from hack.provider_server.process import API_KEY, FakeGemini
from hack.provider_server.requests import DIMENSIONS
from hack.provider_server.stats import hash_of
from hack.provider_server.vectors import fake_vector
from hack.repository import ROOT
from tests.support.deadline import wait_until

BATCH = "/v1beta/models/gemini-embedding-001:batchEmbedContents"
SINGLE = "/v1beta/models/gemini-embedding-001:embedContent"
MODEL = "models/gemini-embedding-001"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGemini]:
    with FakeGemini(tmp_path_factory.mktemp("fake-gemini")) as started:
        yield started


@pytest.fixture
def gemini(server: FakeGemini) -> Iterator[FakeGemini]:
    yield server
    server.lift()


def request(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "content": {"parts": [{"text": text}]}, **more}


def batch(*texts: str, **more: Any) -> dict[str, Any]:
    return {"requests": [request(text, **more) for text in texts]}


def post(
    gemini: FakeGemini, body: Any, *, path: str = BATCH, key: str | None = API_KEY, within_s: float = 10
) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(gemini.url).netloc, timeout=within_s)
    try:
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"x-goog-api-key": key})
        connection.request("POST", path, body if isinstance(body, str) else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def refused(answer: tuple[int, Any]) -> tuple[int, str]:
    code, body = answer
    assert body["error"]["code"] == code
    return code, body["error"]["status"]


def detail(body: Any, kind: str) -> Any:
    found = [each for each in body["error"]["details"] if each["@type"] == f"type.googleapis.com/google.rpc.{kind}"]
    assert len(found) == 1
    return found[0]


def test_a_batch_gets_a_vector_for_each_text_in_order(gemini: FakeGemini) -> None:
    code, body = post(gemini, batch("one", "鮨", taskType="RETRIEVAL_DOCUMENT", outputDimensionality=4))
    assert code == 200
    assert body == {"embeddings": [{"values": fake_vector("one", 4)}, {"values": fake_vector("鮨", 4)}]}


def test_a_single_text_gets_one_and_the_key_may_be_in_the_query(gemini: FakeGemini) -> None:
    body = {"content": {"parts": [{"text": "one"}]}, "taskType": 2}  # as the SDK sends its enum
    code, answer = post(gemini, body, path=f"{SINGLE}?key={API_KEY}", key=None)
    assert (code, answer) == (200, {"embedding": {"values": fake_vector("one", DIMENSIONS)}})


def test_a_texts_vector_is_its_own_and_not_at_unit_length() -> None:
    first, again, other = fake_vector("one", 768), fake_vector("one", 768), fake_vector("two", 768)
    assert first == again
    assert abs(sum(a * b for a, b in zip(first, other, strict=True))) < 0.2 * math.hypot(*first) * math.hypot(*other)
    assert math.hypot(*first) > 2
    assert fake_vector("one", 3) == first[:3]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (batch(*["one"] * 101), "at most 100 requests can be in one batch"),
        (batch("one", ""), "requests[1].content contains an empty Part."),
        ({"requests": []}, "requests must not be empty"),
        (batch("one", outputDimensionality=0), "requests[0].output_dimensionality"),
        (batch("one", outputDimensionality=3073), "requests[0].output_dimensionality"),
        (batch("one", taskType="DOCUMENT"), "requests[0].task_type"),
        (batch("one", model="models/another"), "requests[0].model"),
        (batch("one", tasktype=2), "Invalid JSON payload received"),
        ({"requests": [{"model": MODEL}]}, "Invalid JSON payload received"),
        ("{", "Invalid JSON payload received"),
        ("[]", "Invalid JSON payload received"),
        (batch("one", "a POISONed text"), "requests[1].content: cannot embed 'a POISONed text'"),
    ],
)
def test_an_error_in_one_request_is_a_400_for_the_whole_batch(gemini: FakeGemini, body: Any, sentence: str) -> None:
    answer = post(gemini, body)
    assert refused(answer) == (400, "INVALID_ARGUMENT")
    assert sentence in answer[1]["error"]["message"]
    assert "details" not in answer[1]["error"]


def test_a_wrong_key_is_a_400_with_a_reason(gemini: FakeGemini) -> None:
    answer = post(gemini, batch("one"), key="wrong")
    assert refused(answer) == (400, "INVALID_ARGUMENT")
    info = detail(answer[1], "ErrorInfo")
    assert (info["reason"], info["domain"]) == ("API_KEY_INVALID", "googleapis.com")


def test_without_a_key_it_is_a_403_and_an_unknown_model_a_404(gemini: FakeGemini) -> None:
    assert refused(post(gemini, batch("one"), key=None)) == (403, "PERMISSION_DENIED")
    unknown = post(gemini, batch("one"), path="/v1beta/models/nosuch:batchEmbedContents")
    assert refused(unknown) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("400", 400, "INVALID_ARGUMENT"),
        ("400-key", 400, "INVALID_ARGUMENT"),
        ("400-precondition", 400, "FAILED_PRECONDITION"),
        ("401", 401, "UNAUTHENTICATED"),
        ("403", 403, "PERMISSION_DENIED"),
        ("404", 404, "NOT_FOUND"),
        ("429", 429, "RESOURCE_EXHAUSTED"),
        ("429-day", 429, "RESOURCE_EXHAUSTED"),
        ("429-tokens", 429, "RESOURCE_EXHAUSTED"),
        ("429-spend", 429, "RESOURCE_EXHAUSTED"),
        ("429-plain", 429, "RESOURCE_EXHAUSTED"),
        ("500", 500, "INTERNAL"),
        ("503", 503, "UNAVAILABLE"),
    ],
)
def test_a_fault_is_an_error_as_often_as_was_set(gemini: FakeGemini, kind: str, code: int, status: str) -> None:
    gemini.fault(kind, times=2)
    assert [refused(post(gemini, batch("one"))) for _ in range(2)] == [(code, status)] * 2
    assert post(gemini, batch("one"))[0] == 200


def test_a_quota_names_itself_and_the_pause(gemini: FakeGemini) -> None:
    gemini.fault("429", times=1, seconds=48.5)
    gemini.fault("429-day", times=1)
    gemini.fault("429-tokens", times=1)
    _, minute = post(gemini, batch("one"))
    _, day = post(gemini, batch("one"))
    _, tokens = post(gemini, batch("one"))
    assert detail(minute, "RetryInfo")["retryDelay"] == "48.5s"
    assert "PerMinute" in detail(minute, "QuotaFailure")["violations"][0]["quotaId"]
    assert detail(day, "RetryInfo")["retryDelay"] == "7s"
    assert "PerDay" in detail(day, "QuotaFailure")["violations"][0]["quotaId"]
    assert "InputTokensPerMinute" in detail(tokens, "QuotaFailure")["violations"][0]["quotaId"]


def test_an_error_may_be_a_page_of_a_proxy_with_the_same_code(gemini: FakeGemini) -> None:
    gemini.fault("403", as_page=True)
    connection = HTTPConnection(urlsplit(gemini.url).netloc, timeout=10)
    connection.request("POST", BATCH, json.dumps(batch("one")), {"x-goog-api-key": API_KEY})
    answer = connection.getresponse()
    assert (answer.status, answer.headers.get_content_type()) == (403, "text/html")
    assert b"<html>" in answer.read()
    connection.close()


def test_a_redirect_names_the_other_host(gemini: FakeGemini) -> None:
    gemini.fault("redirect", location="http://other.invalid/")
    connection = HTTPConnection(urlsplit(gemini.url).netloc, timeout=10)
    connection.request("POST", BATCH, json.dumps(batch("one")), {"x-goog-api-key": API_KEY})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (307, "http://other.invalid/")
    connection.close()


def test_spoiled_answers_are_an_incomplete_200(gemini: FakeGemini) -> None:
    given = batch("one", "two", outputDimensionality=2)
    for kind in ("too-few", "wrong-size", "nan", "zero", "null-values", "null-vector"):
        gemini.fault(kind, times=1)
    answers = [post(gemini, given) for _ in range(6)]
    assert [code for code, _ in answers] == [200] * 6
    first, *others = [[each and each["values"] for each in body["embeddings"]] for _, body in answers]
    assert first == [fake_vector("one", 2)]
    assert [vectors[0] for vectors in others] == [fake_vector("one", 2)] * 5
    broken = [fake_vector("two", 2)[:1], ["NaN", "NaN"], [0.0, 0.0], [None, None], None]
    assert [vectors[1] for vectors in others] == broken


def test_an_error_may_come_with_code_200(gemini: FakeGemini) -> None:
    gemini.fault("200-error", times=1)
    code, body = post(gemini, batch("one"))
    assert (code, body["error"]["code"]) == (200, 500)


def test_an_answer_may_be_no_json_or_incomplete(gemini: FakeGemini) -> None:
    gemini.fault("not-json", times=1)
    with pytest.raises(ValueError, match="Expecting value"):
        post(gemini, batch("one"))
    gemini.fault("close", times=1)
    with pytest.raises((HTTPException, ConnectionError)):
        post(gemini, batch("one"))


@pytest.mark.parametrize("kind", ["trickle", "trickle-headers"])
def test_an_answer_may_come_a_byte_each_second(gemini: FakeGemini, kind: str) -> None:
    gemini.fault(kind, times=1)
    with closing(create_connection(("127.0.0.1", urlsplit(gemini.url).port or 0), timeout=10)) as sock:
        body = json.dumps(batch("one"))
        head = f"POST {BATCH} HTTP/1.1\r\nHost: one\r\nx-goog-api-key: {API_KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(f"{head}{body}".encode())
        began, received = time.monotonic(), b""
        while (b"xx" if kind == "trickle-headers" else b"[0.1,   ") not in received:
            received += sock.recv(1000)
        assert time.monotonic() - began >= TRICKLE_S
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert (b"\r\n\r\n" in received) == (kind == "trickle")
    wait_until(lambda: not gemini.stats().in_flight, within_s=30, because="its client has gone")


def test_a_call_that_hangs_gets_no_answer_and_ends_with_its_connection(gemini: FakeGemini) -> None:
    gemini.fault("hang", times=1)
    with pytest.raises(TimeoutError):
        post(gemini, batch("one"), within_s=0.2)
    wait_until(lambda: not gemini.stats().in_flight, within_s=30, because="its client has gone")


def test_faults_apply_to_matching_texts_only_and_the_first_decides(gemini: FakeGemini) -> None:
    gemini.fault("503", only_matching="sushi")
    gemini.fault("500", only_matching="plumb")
    gemini.fault("slow", seconds=0)
    sent = (["a plumber"], ["a plumber", "a sushi bar"], ["a sushi bar"], ["a dentist"])
    assert [post(gemini, batch(*texts))[0] for texts in sent] == [500, 503, 503, 200]


def test_a_ratio_is_the_share_of_failing_calls(gemini: FakeGemini) -> None:
    gemini.fault("503", ratio=0.5)
    codes = [post(gemini, batch("one"))[0] for _ in range(40)]
    assert 8 <= codes.count(503) <= 32
    gemini.lift()
    assert post(gemini, batch("one"))[0] == 200


def test_an_unknown_fault_is_refused_with_the_known_ones(gemini: FakeGemini) -> None:
    with pytest.raises(ToolError, match="429-day"):
        gemini.fault("418")
    with pytest.raises(ToolError, match="greater than or equal to 1"):
        gemini.fault("503", times=0)
    assert post(gemini, batch("one"))[0] == 200


def test_it_counts_calls_texts_vectors_and_answers_and_keeps_no_key(tmp_path: Path) -> None:
    with FakeGemini(tmp_path, latency_ms=2000, api_key="s3cr3t") as gemini:
        bodies = [batch("one", "two"), batch("one"), batch("a POISONed text")]
        all_started = Barrier(len(bodies))

        def post_with_the_others(body: Any) -> None:
            all_started.wait(60)
            post(gemini, body, key="s3cr3t")

        with ThreadPoolExecutor(len(bodies)) as threads:
            list(threads.map(post_with_the_others, bodies))
        stats = gemini.stats()
        assert (stats.calls, stats.in_flight, stats.texts, stats.vectors, stats.largest_batch) == (3, 0, 4, 3, 2)
        assert stats.most_in_flight > 1
        assert (stats.texts_by_hash[hash_of("one")], stats.vectors_by_hash[hash_of("one")]) == (2, 2)
        assert hash_of("a POISONed text") not in stats.vectors_by_hash
        assert stats.answers == {"200": 2, "400": 1}
        assert stats.key_hashes == [hash_of("s3cr3t")]
        assert "s3cr3t" not in gemini.log.read_text()


def test_after_a_restart_it_has_the_same_address_and_new_counts(tmp_path: Path) -> None:
    gemini = FakeGemini(tmp_path)
    with pytest.raises(ToolError, match="was not started"):
        gemini.stats()
    with gemini:
        url = gemini.url
        gemini.fault("503")
        assert post(gemini, batch("one"))[0] == 503
        gemini.stop()
        assert not gemini.is_running()
        with pytest.raises(ToolError, match="does not answer"):
            gemini.stats()
        gemini.start()
        assert gemini.url == url
        assert post(gemini, batch("one"))[0] == 200
        assert gemini.stats().calls == 1


def test_a_port_that_is_in_use_is_named_in_a_sentence(gemini: FakeGemini) -> None:
    port = urlsplit(gemini.url).port
    done = run_to_end([sys.executable, "-m", "hack.provider_server", "--port", str(port)], within_s=30, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {port} cannot be used" in done.stderr
