"""With which endpoint and key the calls of a source are made: no key reaches a server that it is not for."""

from dataclasses import replace

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.accounts import Account, ApiKey, account_of, address_of, values_for, vector_origin
from embedding_worker.providers.http_settings import usable_endpoint
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, ProviderSetting, Values
from embedding_worker.source import Model
from tests.support.fake_provider import FakeEmbedder

OURS, OTHER = "https://acme.example/v1", "http://tei.search.svc:8080/v1"


def endpoint(values: Values) -> str:
    given = values.get(SOURCE_ENDPOINT) or values.get("ACME_URL")
    return usable_endpoint(given, setting="ACME_URL", default=OURS)


KEY = ProviderSetting("ACME_KEY", "a key", secret=True)
ACME = Provider("acme", lambda *_: FakeEmbedder(), settings=(KEY,), endpoint=endpoint)
WITHOUT_KEY = replace(ACME, settings=())
WITHOUT_SERVER = Provider("inside", lambda *_: FakeEmbedder())
WITH_ITS_OWN_SERVER = replace(ACME, endpoint=lambda values: OURS)
VALUES = {"ACME_KEY": "ours"}
KEYS = {key.ref: key for key in (ApiKey("team-b/key", (OTHER,), "theirs"), ApiKey("team-c/key", (OTHER,), None))}
MODEL = Model("acme", "one", 3)


def used(model: Model, provider: Provider = ACME) -> tuple[str, str | None]:
    """The endpoint that is called, and the key that is sent to it."""
    values = values_for(account_of(model, provider, VALUES), provider, VALUES, KEYS)
    return provider.endpoint(values), values.get("ACME_KEY")


def refusal(model: Model, provider: Provider = ACME) -> tuple[str, str]:
    with pytest.raises(SourceRefused) as refused:
        used(model, provider)
    return refused.value.reason, refused.value.message


def test_a_source_without_endpoint_and_key_uses_those_of_the_settings() -> None:
    assert used(MODEL) == (OURS, "ours")


def test_the_key_of_the_settings_is_not_sent_to_a_server_that_a_source_names() -> None:
    assert used(replace(MODEL, endpoint=OTHER)) == (OTHER, None)


def test_no_secret_of_the_settings_is_sent_to_a_server_that_a_source_names() -> None:
    settings = (KEY, ProviderSetting("ACME_ACCOUNT", "not secret"), ProviderSetting("ACME_SIGNATURE", "", secret=True))
    provider, values = replace(ACME, settings=settings), {"ACME_KEY": "a", "ACME_ACCOUNT": "b", "ACME_SIGNATURE": "c"}
    model = replace(MODEL, endpoint=OTHER, api_key_ref="team-b/key")
    found = values_for(account_of(model, provider, values), provider, values, KEYS)
    assert found == {"ACME_ACCOUNT": "b", SOURCE_ENDPOINT: OTHER, "ACME_KEY": "theirs"}


@pytest.mark.parametrize("written", [OURS, f"{OURS}/"])
def test_a_source_that_names_the_endpoint_of_the_settings_uses_their_key(written: str) -> None:
    assert used(replace(MODEL, endpoint=written)) == (OURS, "ours")


def test_a_mounted_key_is_sent_to_an_endpoint_that_its_declaration_names() -> None:
    assert used(replace(MODEL, endpoint=f"{OTHER}/", api_key_ref="team-b/key")) == (OTHER, "theirs")


@pytest.mark.parametrize(
    "endpoint", ["", "https://evil.example/v1", "http://tei.search.svc:8080", "https://tei.search.svc:8080/v1"]
)
def test_a_mounted_key_is_sent_to_no_other_server(endpoint: str) -> None:
    reason, message = refusal(replace(MODEL, endpoint=endpoint, api_key_ref="team-b/key"))
    assert reason == "ApiKeyNotAllowed"
    assert message == (
        f"the key 'key' of Secret 'team-b' may be sent to {OTHER}, and not to {endpoint or OURS}: correct spec.model.endpoint, "
        "or add the endpoint to the key in the value apiKeys of the chart"
    )


@pytest.mark.parametrize(
    ("model", "provider", "reason", "named"),
    [
        (replace(MODEL, api_key_ref="team-a/key"), ACME, "ApiKeyUnknown", "the operator has team-b/key, team-c/key"),
        (replace(MODEL, endpoint=OTHER, api_key_ref="team-c/key"), ACME, "ProviderKeyMissing", "of Secret 'team-c'"),
        (replace(MODEL, api_key_ref="team-b/key"), WITHOUT_KEY, "ApiKeyUnknown", "has no key, leave it out"),
        (replace(MODEL, endpoint=OTHER), WITHOUT_SERVER, "EndpointUnknown", "calls no server, leave it out"),
        (replace(MODEL, endpoint=OTHER), WITH_ITS_OWN_SERVER, "EndpointUnknown", "has its own endpoint, leave it out"),
        (replace(MODEL, same_vectors_as="m@31"), ACME, "WrongDimensions", "'m@31', and spec.model.dimensions is 3"),
        (replace(MODEL, endpoint="tei:8080"), ACME, "EndpointInvalid", "spec.model.endpoint is 'tei:8080'"),
    ],
)
def test_what_can_not_be_used_is_refused_by_name(model: Model, provider: Provider, reason: str, named: str) -> None:
    refused, message = refusal(model, provider)
    assert refused == reason
    assert named in message
    assert "theirs" not in message


def test_an_endpoint_with_a_password_is_refused_without_it() -> None:
    assert "s3cret" not in refusal(replace(MODEL, endpoint="https://u:s3cret@tei/v1"))[1]


def test_an_account_is_called_by_its_server_and_the_name_of_its_key() -> None:
    assert [
        Account("acme").name,
        Account("acme", OTHER).name,
        Account("acme", "", "team-b/key").name,
        Account("acme", OTHER, "team-b/key").name,
    ] == [
        "acme",
        "acme at tei.search.svc:8080/v1",
        "acme with team-b/key",
        "acme at tei.search.svc:8080/v1 with team-b/key",
    ]


def test_a_key_is_not_shown() -> None:
    assert "theirs" not in repr(KEYS)


def test_an_address_has_no_scheme_and_no_slash_at_its_end() -> None:
    assert address_of("HTTPS://Tei.Example:8080/v1/") == "tei.example:8080/v1"


@pytest.mark.parametrize(
    ("provider", "endpoint", "origin"),
    [
        ("gemini", "", ""),
        ("gemini", "https://generativelanguage.googleapis.com", ""),
        ("gemini", "https://gateway.example/google", "gateway.example/google"),
        ("local", "", ""),
        ("openai", "", "api.openai.com/v1"),
        ("openai", "https://api.openai.com/v1/", "api.openai.com/v1"),
        ("openai", OTHER, "tei.search.svc:8080/v1"),
        ("nosuch", "", "nosuch"),
    ],
)
def test_the_origin_of_vectors_is_a_server_unless_the_name_of_the_model_determines_them(
    provider: str, endpoint: str, origin: str
) -> None:
    assert vector_origin(provider, endpoint) == origin
