"""The rate limits of a provider: its settings, what a call uses of a limit, and by what key its use is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.gemini import PROVIDER as GEMINI
from embedding_worker.providers.google_genai import PROVIDER as GOOGLE_GENAI
from embedding_worker.providers.local import PROVIDER as LOCAL
from embedding_worker.providers.provider import Provider, ProviderSetting
from embedding_worker.providers.rate_limits import pace, rate_limit_settings, rate_limits, use_of
from embedding_worker.rows.records import RateLimits
from tests.support.fake_provider import FakeEmbedder

LIMITS = st.integers(1, 10**9)
KEY = {"GEMINI_API_KEY": "k3y"}


def provider(name: str) -> Provider:
    return Provider(name, lambda *_: FakeEmbedder(), settings=rate_limit_settings(name))


def test_a_provider_has_a_setting_for_each_kind_of_limit() -> None:
    assert [setting.variable for setting in rate_limit_settings("acme")] == [
        "EMBEDDING_ACME_REQUESTS_PER_MINUTE",
        "EMBEDDING_ACME_TEXTS_PER_MINUTE",
        "EMBEDDING_ACME_TOKENS_PER_MINUTE",
    ]
    assert not any(setting.secret or setting.required for setting in rate_limit_settings("acme"))


def test_the_variable_of_a_provider_with_a_dash_can_be_set_in_a_shell() -> None:
    values = {"EMBEDDING_ACME_EU_TEXTS_PER_MINUTE": "7"}
    assert rate_limits(provider("acme-eu"), values) == RateLimits(texts=7)


def test_gemini_has_limits_and_the_local_model_has_none() -> None:
    assert all(GEMINI.has_setting(setting.variable) for setting in rate_limit_settings("gemini"))
    assert not any("PER_MINUTE" in setting.variable for setting in LOCAL.settings)


def test_the_two_providers_of_one_api_share_its_limits_and_what_is_counted_against_them() -> None:
    values = KEY | {"EMBEDDING_GEMINI_TEXTS_PER_MINUTE": "50", "EMBEDDING_GEMINI_ENDPOINT": "https://gateway.example"}
    assert rate_limits(GOOGLE_GENAI, values) == rate_limits(GEMINI, values) == RateLimits(texts=50)
    assert GOOGLE_GENAI.credential_key(values) == GEMINI.credential_key(values)


def test_limits_are_the_numbers_of_the_settings() -> None:
    values = {
        "EMBEDDING_GEMINI_REQUESTS_PER_MINUTE": " 3000\n",
        "EMBEDDING_GEMINI_TEXTS_PER_MINUTE": "0050",
        "EMBEDDING_GEMINI_TOKENS_PER_MINUTE": "1000000000",
    }
    assert rate_limits(GEMINI, KEY | values) == RateLimits(3000, 50, 1_000_000_000)


def test_what_is_not_set_has_no_limit() -> None:
    assert rate_limits(GEMINI, KEY) == RateLimits()
    assert not RateLimits().are_set
    assert RateLimits(tokens=1).are_set
    assert (pace(None), use_of(100, None)) == (None, 0.0)


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(SourceRefused) as refused:
        rate_limits(GEMINI, KEY | {"EMBEDDING_GEMINI_TEXTS_PER_MINUTE": "many"})
    assert refused.value.reason == "RateLimitInvalid"


@pytest.mark.parametrize(
    ("amount", "limit", "used"),
    [(1, 100, 1), (100, 1_000, 100), (40, 100, 50), (51, 100, 100), (100, 100, 100), (250, 100, 250), (0, 100, 0)],
)
def test_a_call_uses_its_amount_and_more_where_calls_of_it_do_not_fill_a_minute(
    amount: int, limit: int, used: float
) -> None:
    assert use_of(amount, limit) == used


@given(st.integers(1, 10**6), LIMITS)
def test_calls_of_one_size_never_exceed_a_limit_in_a_minute_and_small_ones_use_95_percent(
    amount: int, limit: int
) -> None:
    """Calls follow each other after its use / pace, so that a minute has as many as fit into it."""
    per_s = pace(limit)
    assert per_s is not None
    gap_s = use_of(amount, limit) / per_s
    most_in_a_minute = -(-60 // gap_s)
    assert most_in_a_minute * amount <= limit or most_in_a_minute <= 1 or amount < limit / 50
    if amount <= limit / 50:
        assert amount / gap_s * 60 >= 0.95 * limit


@given(st.integers(0, 10**6), LIMITS)
def test_a_call_never_uses_less_than_its_amount(amount: int, limit: int) -> None:
    assert use_of(amount, limit) >= amount


ACME = Provider(
    "acme",
    lambda *_: FakeEmbedder(),
    settings=(
        ProviderSetting("ACME_KEY", "a key", secret=True),
        ProviderSetting("ACME_URL", "an address"),
        *rate_limit_settings("acme"),
    ),
    endpoint=lambda values: values.get("ACME_URL", "https://acme.example"),
)
VALUES = {"ACME_KEY": "s3cret"}


def test_the_key_of_a_credential_is_the_beginning_of_a_hash() -> None:
    key = ACME.credential_key(VALUES)
    assert len(key) == 16
    assert set(key) <= set("0123456789abcdef")


@pytest.mark.parametrize("same", [{"ACME_KEY": "s3cret\n"}, VALUES | {"EMBEDDING_ACME_TEXTS_PER_MINUTE": "5"}])
def test_the_same_credential_has_the_same_key_whatever_the_limits_are(same: dict[str, str]) -> None:
    assert ACME.credential_key(same) == ACME.credential_key(VALUES)


@pytest.mark.parametrize("other", [{"ACME_KEY": "other"}, VALUES | {"ACME_URL": "https://other.example"}, {}])
def test_another_credential_or_endpoint_has_another_key(other: dict[str, str]) -> None:
    assert ACME.credential_key(other) != ACME.credential_key(VALUES)
