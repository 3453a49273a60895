"""What a provider registers: its name, the settings that it needs, and how its embedders are made.

A provider is one module that ends with `PROVIDER = Provider(...)`, named by an entry point of the group
`embedding_operator.providers`. Nothing else in this project knows a provider by its name.
"""

import hashlib
import importlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points

from embedding_worker.errors import SourceRefused
from embedding_worker.providers.embedder import Embedder
from embedding_worker.source import Model

SOURCE_ENDPOINT = "spec.model.endpoint"
"""Its value stands among the values of the settings with which a provider is called for a source that names an endpoint."""
ENTRY_POINT_GROUP = "embedding_operator.providers"
Values = Mapping[str, str]
"""The values of provider settings, by environment variable. A setting that is not set is missing. See also SOURCE_ENDPOINT."""


@dataclass(frozen=True)
class ProviderSetting:
    """One environment variable of a provider."""

    variable: str
    description: str
    """What the value is, as a noun phrase."""
    secret: bool = False
    """Its value is never shown, may also be mounted (VARIABLE_FILE names the file), and is rotated without a restart."""
    required: bool = False
    """Sources of this provider are refused while it is not set."""
    usable: Callable[[str], str] = str.strip
    """The value as it is used. Raises SourceRefused where it can't be used."""


def no_endpoint(values: Values) -> str:
    """The endpoint of a provider that calls no server."""
    return ""


def same_task_type(model: Model) -> str | None:
    """The task type of the texts themselves: what a provider without other ones for search texts has."""
    return model.task_type


@dataclass(frozen=True)
class Provider:
    """The registration of a provider."""

    name: str
    """The value of spec.model.provider."""
    make: Callable[[Model, Values], Embedder]
    """An embedder, ready to be called; it loads nothing and calls nothing yet. Raises SourceRefused."""
    sdk_module: str = ""
    """The module that must be installed. It is imported before the first call, and not earlier; empty where none is needed."""
    extra: str = ""
    """The extra of this package that installs it."""
    import_sdk: Callable[[str], object] = importlib.import_module
    """Imports the whole SDK, given `sdk_module`: once, in a thread. Whatever it raises, the source is refused.

    What an SDK imports only for its first client or call belongs to it too.
    """
    settings: tuple[ProviderSetting, ...] = ()
    endpoint: Callable[[Values], str] = no_endpoint
    """The server that is called with these values. Raises SourceRefused."""
    has_own_models: bool = False
    """Whether a model's name determines its vectors, whichever provider with this attribute makes them, if no endpoint is set."""
    limits_name: str = ""
    """The name in the variables of its rate limits, where several providers share them; empty for its own."""
    query_task_type: Callable[[Model], str | None] = same_task_type
    """The task type of a search text that is to find texts of this model."""

    @property
    def calls_server(self) -> bool:
        """Whether a call goes to a server; otherwise the model is in this process."""
        return self.endpoint is not no_endpoint

    def usable_values(self, values: Values) -> dict[str, str]:
        """The values of this provider's own settings, as they are used. Raises SourceRefused."""
        given = (setting for setting in self.settings if values.get(setting.variable))
        of_source = {SOURCE_ENDPOINT: values[SOURCE_ENDPOINT]} if SOURCE_ENDPOINT in values else {}
        return {setting.variable: setting.usable(values[setting.variable]) for setting in given} | of_source

    def credential_key(self, values: Values) -> str:
        """What the endpoint and the credential are known by in PostgreSQL, where neither is stored. Raises SourceRefused."""
        usable = self.usable_values(values)
        secrets = [usable.get(setting.variable) for setting in self.settings if setting.secret]
        return hashlib.sha256(json.dumps([self.endpoint(usable), secrets]).encode()).hexdigest()[:16]

    @property
    def key_setting(self) -> ProviderSetting | None:
        """The setting of its key, in whose place a source may name a mounted one; None if it has no key."""
        return next((setting for setting in self.settings if setting.secret), None)

    def has_setting(self, variable: str) -> bool:
        return any(setting.variable == variable for setting in self.settings)


def registered_providers() -> dict[str, Provider]:
    """The providers that are installed, by name. Imports their modules, and none of their SDKs.

    Raises TypeError where an entry point does not name a Provider of its own name.
    """
    found = {point.name: point.load() for point in entry_points(group=ENTRY_POINT_GROUP)}
    for name, provider in found.items():
        if not isinstance(provider, Provider) or provider.name != name:
            raise TypeError(f"the entry point {name!r} of {ENTRY_POINT_GROUP} names no Provider called {name!r}")
    return found


def query_model(model: Model, providers: Mapping[str, Provider]) -> Model:
    """The model that embeds search texts, of which each comes after `model.query_prefix`. Raises SourceRefused."""
    chosen = model.query_task_type or known_provider(model.provider, providers).query_task_type(model)
    return replace(model, task_type=chosen)


def known_provider(name: str, providers: Mapping[str, Provider]) -> Provider:
    """The provider of this name. Raises SourceRefused where there is none, or its SDK is not installed."""
    if name not in providers:
        known = ", ".join(repr(known) for known in sorted(providers))
        raise SourceRefused("ProviderUnknown", f"spec.model.provider is {name!r}: this version knows {known or 'none'}")
    provider = providers[name]
    if provider.sdk_module and not _is_installed(provider.sdk_module):
        raise SourceRefused("ProviderNotInstalled", not_installed(provider))
    return provider


def not_installed(provider: Provider) -> str:
    """What to do where its SDK is missing."""
    return (
        f"spec.model.provider is {provider.name!r}, which is not installed here: "
        f"install embedding-operator[{provider.extra or provider.name}]"
    )


def refuse_missing_settings(provider: Provider, values: Values) -> None:
    """Raises SourceRefused where a setting that the provider requires is not set."""
    for setting in provider.settings:
        if setting.required and not values.get(setting.variable):
            if SOURCE_ENDPOINT in values and setting == provider.key_setting:
                raise SourceRefused(
                    "ProviderKeyMissing",
                    f"spec.model.provider is {provider.name!r} and {SOURCE_ENDPOINT} is {values[SOURCE_ENDPOINT]!r}, to which "
                    f"{setting.variable} is not sent: name a key of this server by spec.model.apiKeySecretRef",
                )
            or_file = f", or {setting.variable}_FILE," if setting.secret else ""
            raise SourceRefused(
                "ProviderKeyMissing" if setting.secret else "ProviderSettingMissing",
                f"spec.model.provider is {provider.name!r} and {setting.variable} is not set: "
                f"set it{or_file} to {setting.description}",
            )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent of it
        return False
