"""What the providers that call a server have in common: the address, the key, and the pause that an answer asks for. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from embedding_worker.errors import EmbeddingError, SourceRefused
from embedding_worker.providers.provider import SOURCE_ENDPOINT
from embedding_worker.source import Model


@dataclass(frozen=True)
class Access:
    """How the server of a model is reached, and what messages about that name."""

    endpoint: str
    key_name: str
    """Where the key stands: a variable, or a key of a Secret."""
    endpoint_name: str
    """Where the endpoint stands: a variable, or a field of the source."""


def access_of(model: Model, endpoint: str, *, key_setting: str, endpoint_setting: str) -> Access:
    """With the names of what this model's source says, and otherwise of the settings."""
    secret, _, key = model.api_key_ref.rpartition("/")
    return Access(
        endpoint,
        key_name=f"the key {key!r} of Secret {secret!r}" if secret else key_setting,
        endpoint_name=SOURCE_ENDPOINT if model.endpoint else endpoint_setting,
    )


NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def usable_endpoint(endpoint: str | None, *, setting: str, default: str) -> str:
    """The address that paths are added to. Raises SourceRefused, without its words where they may hold a password."""
    address = (endpoint or default).rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        plain = parts.username is None and not parts.query and not parts.fragment
    except ValueError:
        usable, plain = False, "@" not in address
    if not (usable and plain):
        shown = repr(address) if plain else "one with a user, a query or a fragment"
        raise SourceRefused("EndpointInvalid", f"{setting} is {shown}: set an address such as {default}, or unset it")
    return address


def usable_key(api_key: str, *, setting: str) -> str:
    """The key, without the line end that files have. Raises SourceRefused: what cannot be a header would fail each call."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise SourceRefused(
            "ProviderKeyInvalid", f"{setting} holds no key: it is empty, or has characters in it that no key has"
        )
    return key


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long an answer asks not to be asked again: seconds, or a date (RFC 9110, 10.2.3). None if it does not say."""
    given = {name.lower(): value.strip() for name, value in headers.items()}
    if (milliseconds := _number(given.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1_000
    value = given.get("retry-after", "")
    if (seconds := _number(value)) is not None:
        return seconds
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError, OverflowError):  # TypeError: a date without a zone
        return None


def _number(value: str) -> float | None:
    return float(value) if NUMBER.fullmatch(value) else None


def kind_of(error: BaseException) -> str:
    """The classes of an error and of its first cause, such as ConnectError (SSLCertVerificationError).

    They are all that a message says of an error of an SDK, because its own message may quote the request.
    """
    first, cause = error, error.__cause__ or error.__context__
    while isinstance(cause, Exception) and not isinstance(cause, EmbeddingError):  # which a caller is working on
        first, cause = cause, cause.__cause__ or cause.__context__
    outer, inner = type(error).__name__, type(first).__name__
    return outer if outer == inner else f"{outer} ({inner})"
