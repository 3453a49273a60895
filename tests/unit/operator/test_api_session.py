"""Which proxy the requests to the API server use."""

import pytest

from embedding_operator.api_access.session import proxy_for

PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://of-the-environment:3128")
    monkeypatch.setenv("NO_PROXY", "internal.example.com,192.0.2.9")


@pytest.mark.parametrize(
    ("host", "configured", "in_pod", "expected"),
    [
        ("https://api.example.com", PROXY, False, PROXY),
        ("https://api.example.com:6443", None, False, "http://of-the-environment:3128"),
        ("https://api.internal.example.com:6443", None, False, None),
        ("https://192.0.2.9:6443", None, False, None),
        ("https://127.0.0.1:6443", None, False, None),
        ("https://[::1]:6443", None, False, None),
        ("https://localhost:6443", None, False, None),
        ("http://api.example.com", None, False, None),
        ("https://10.96.0.1:443", None, True, None),
    ],
)
def test_the_proxy_is_that_of_kubectl(host: str, configured: str | None, in_pod: bool, expected: str | None) -> None:
    assert proxy_for(host, configured=configured, in_pod=in_pod) == expected
