"""Decides with which endpoint and which key the calls of a model are made. Pure; called by registry.py.

The key of the settings is for the endpoint of the settings, and a mounted key for the endpoints that its declaration names. So a
person who may declare sources cannot send a key to a server of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple
from urllib.parse import urlsplit

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.http_settings import usable_endpoint
from embedding_worker.providers.provider import SOURCE_ENDPOINT, Provider, Values, registered_providers
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model, refuse_other_dimensions

KEY_REF = "spec.model.apiKeySecretRef"


@dataclass(frozen=True)
class ApiKey:
    """A key that sources name by spec.model.apiKeySecretRef."""

    ref: str
    """SECRET/KEY."""
    endpoints: tuple[str, ...]
    """The servers that it may be sent to, as usable_endpoint returns them."""
    value: str | None = field(repr=False)
    """None while the Secret or its key is missing."""
    limits: RateLimits = field(default_factory=RateLimits)

    @property
    def name(self) -> str:
        """What it is called in messages."""
        secret, _, key = self.ref.rpartition("/")
        return f"the key {key!r} of Secret {secret!r}"


class Account(NamedTuple):
    """What the models that share a connection have in common."""

    provider: str
    endpoint: str = ""
    """Empty for that of the provider's settings."""
    api_key_ref: str = ""
    """Empty for the key of the settings, or for none at an endpoint of the source."""

    @property
    def name(self) -> str:
        """What it is called in metrics and logs. Contains no secret."""
        at = f" at {address_of(self.endpoint)}" if self.endpoint else ""
        return f"{self.provider}{at}" + (f" with {self.api_key_ref}" if self.api_key_ref else "")


def account_of(model: Model, provider: Provider, values: Values) -> Account:
    """Raises SourceRefused where an endpoint can't be used, or the provider takes no endpoint or key."""
    refuse_other_dimensions(model)
    if model.endpoint and not provider.calls_server:
        raise SourceRefused(
            "EndpointUnknown",
            f"{SOURCE_ENDPOINT} is {model.endpoint!r}: the provider {provider.name!r} calls no server, leave it out",
        )
    if model.api_key_ref and provider.key_setting is None:
        raise SourceRefused(
            "ApiKeyUnknown",
            f"{KEY_REF} is {model.api_key_ref!r}: the provider {provider.name!r} has no key, leave it out",
        )
    endpoint = ""
    if model.endpoint:
        endpoint = usable_endpoint(model.endpoint, setting=SOURCE_ENDPOINT, default=provider.endpoint({}))
        if endpoint == provider.endpoint(values):
            endpoint = ""
    return Account(provider.name, endpoint, model.api_key_ref)


def values_for(account: Account, provider: Provider, values: Values, keys: Mapping[str, ApiKey]) -> dict[str, str]:
    """The values with which the calls of this account are made. Raises SourceRefused where it has no key that it may use."""
    found = dict(values)
    key = provider.key_setting
    if account.endpoint:
        found[SOURCE_ENDPOINT] = account.endpoint
        for secret in (setting for setting in provider.settings if setting.secret):
            found.pop(secret.variable, None)
        if provider.endpoint(found) != account.endpoint:
            raise SourceRefused(
                "EndpointUnknown",
                f"{SOURCE_ENDPOINT} is {account.endpoint!r}: the provider {provider.name!r} has its own endpoint, leave it out",
            )
    if not account.api_key_ref or key is None:
        return found
    mounted = _mounted(account.api_key_ref, keys)
    endpoint = provider.endpoint(found)
    if endpoint not in mounted.endpoints:
        allowed = ", ".join(mounted.endpoints)
        raise SourceRefused(
            "ApiKeyNotAllowed",
            f"{mounted.name} may be sent to {allowed}, and not to {endpoint}: correct {SOURCE_ENDPOINT}, "
            "or add the endpoint to the key in the value apiKeys of the chart",
        )
    found[key.variable] = mounted.value or ""
    return found


def _mounted(ref: str, keys: Mapping[str, ApiKey]) -> ApiKey:
    if ref not in keys:
        known = ", ".join(sorted(keys)) or "none"
        raise SourceRefused(
            "ApiKeyUnknown",
            f"{KEY_REF} is {ref!r}, and the operator has {known}: add it to the value apiKeys of the chart",
        )
    if keys[ref].value is None:
        raise SourceRefused(
            "ProviderKeyMissing",
            f"{keys[ref].name}, which {KEY_REF} names, is missing or can't be used: create it",
        )
    return keys[ref]


def address_of(endpoint: str) -> str:
    """Host, port and path, without the scheme."""
    parts = urlsplit(endpoint)
    return f"{parts.netloc.lower()}{parts.path.rstrip('/')}"


def vector_origin(provider: str, endpoint: str) -> str:
    """Where the vectors of a model come from, for its fingerprint: an address, or a provider's name.

    Empty where the model's name says that.
    """
    default, has_own_models = _default_of(provider)
    address = address_of(endpoint) if endpoint else default
    return "" if has_own_models and address == default else address or provider


@cache
def _default_of(name: str) -> tuple[str, bool]:
    """The address of a provider without settings, and whether its models' names determine their vectors."""
    provider = registered_providers().get(name)
    if provider is None:
        return "", False
    try:
        return address_of(provider.endpoint({})), provider.has_own_models
    except (SourceRefused, LookupError):  # it has no endpoint without settings
        return "", provider.has_own_models
