"""The address, the key and the pause that providers which call a server have in common."""

from datetime import UTC, datetime

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.http_settings import access_of, kind_of, retry_after_s, usable_endpoint, usable_key
from embedding_worker.source import Model

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DEFAULT = "https://api.example/v1"


def endpoint(given: str | None) -> str:
    return usable_endpoint(given, setting="ACME_ENDPOINT", default=DEFAULT)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, DEFAULT),
        ("", DEFAULT),
        ("http://tei.models.svc:8080/v1/", "http://tei.models.svc:8080/v1"),
        ("https://[fd00::1]:8080", "https://[fd00::1]:8080"),
    ],
)
def test_an_address_is_used_without_the_slash_at_its_end(given: str | None, used: str) -> None:
    assert endpoint(given) == used


@pytest.mark.parametrize(
    "given",
    ["tei:8080", "ftp://tei/v1", "http://:8080", "http://tei:port", "http://tei:99999", "http://[fd00::1", "/v1"],
)
def test_what_is_no_address_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(SourceRefused, match="ACME_ENDPOINT is ") as refused:
        endpoint(given)
    assert repr(given) in refused.value.message
    assert f"set an address such as {DEFAULT}" in refused.value.message


@pytest.mark.parametrize(
    "given", ["http://me:s3cr3t@tei/v1", "http://tei/v1?key=s3cr3t", "http://tei/v1#s3cr3t", "http://me:s3cr3t@tei:x"]
)
def test_an_address_that_may_hold_a_password_is_refused_without_its_words(given: str) -> None:
    with pytest.raises(SourceRefused) as refused:
        endpoint(given)
    assert refused.value.reason == "EndpointInvalid"
    assert "s3cr3t" not in str(refused.value)


def test_a_key_is_used_without_the_line_end_of_its_file() -> None:
    assert usable_key(" sk-abc\n", setting="ACME_KEY") == "sk-abc"


@pytest.mark.parametrize("given", ["", " \n", "two words", "schlüssel", "sk\x00abc", "sk\nabc"])
def test_what_cannot_be_a_header_is_no_key_and_is_not_shown(given: str) -> None:
    with pytest.raises(SourceRefused, match="ACME_KEY holds no key") as refused:
        usable_key(given, setting="ACME_KEY")
    assert refused.value.reason == "ProviderKeyInvalid"
    assert not given.strip() or given.strip() not in str(refused.value)


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 7 "}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After-Ms": "1500.5", "Retry-After": "60"}, 1.5005),
        ({"retry-after-ms": "soon", "Retry-After": "60"}, 60.0),
        ({"Retry-After": "Sun, 01 Mar 2026 12:01:00 GMT"}, 60.0),
        ({"Retry-After": "Sun, 01 Mar 2026 11:00:00 GMT"}, 0.0),
        ({"Retry-After": "Sun, 01 Mar 2026 12:01:00"}, None),
        ({"Retry-After": "-7"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1e400"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After": "٧"}, None),
        ({"Retry-After": "later"}, None),
        ({"Retry-After": ""}, None),
    ],
)
def test_a_pause_is_read_from_seconds_milliseconds_or_a_date(headers: dict[str, str], pause_s: float | None) -> None:
    assert retry_after_s(headers, NOW) == pause_s


def test_messages_name_where_key_and_endpoint_stand() -> None:
    settings = {"key_setting": "ACME_KEY", "endpoint_setting": "ACME_ENDPOINT"}
    plain = access_of(Model("acme", "m", 4), DEFAULT, **settings)
    assert (plain.key_name, plain.endpoint_name) == ("ACME_KEY", "ACME_ENDPOINT")
    own = access_of(Model("acme", "m", 4, endpoint=DEFAULT, api_key_ref="secret/key"), DEFAULT, **settings)
    assert (own.key_name, own.endpoint_name) == ("the key 'key' of Secret 'secret'", "spec.model.endpoint")


def test_an_error_is_named_by_its_class_and_that_of_its_first_cause() -> None:
    failed = OSError("a private matter")
    assert kind_of(failed) == "OSError"
    failed.__cause__ = TimeoutError("a private matter")
    failed.__cause__.__context__ = KeyError("a private matter")
    failed.__cause__.__context__.__context__ = SourceRefused("Handled", "before, by a caller")
    assert kind_of(failed) == "OSError (KeyError)"
