"""Parses the declaration of the keys that sources name by spec.model.apiKeySecretRef. Called by settings.py.

The chart mounts each key as a file, and writes the declaration from its value apiKeys. A file that is missing is no error of the
settings: the sources that name its key are refused until it is there.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from embedding_operator.rotation import SecretUnreadable, read_secret
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.http_settings import usable_endpoint, usable_key
from embedding_worker.rows.records import RateLimits

EXAMPLE = "https://api.openai.com/v1"


class DeclaredKey(BaseModel):
    """One key: its Secret, the file that holds it, where it may be sent, and how much in a minute."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid")

    secret_name: str = Field(min_length=1)
    key: str = Field(min_length=1)
    file: Path
    endpoints: tuple[str, ...] = Field(min_length=1)
    requests_per_minute: int | None = Field(None, ge=1)
    texts_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)

    @field_validator("endpoints")
    @classmethod
    def _usable(cls, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(
                usable_endpoint(endpoint, setting="one of its endpoints", default=EXAMPLE) for endpoint in endpoints
            )
        except SourceRefused as exc:
            raise ValueError(exc.message) from None

    @property
    def ref(self) -> str:
        return f"{self.secret_name}/{self.key}"

    def read(self) -> ApiKey:
        """With the value that the file holds now; None where it holds none that can be used."""
        limits = RateLimits(self.requests_per_minute, self.texts_per_minute, self.tokens_per_minute)
        try:
            value: str | None = usable_key(read_secret(self.ref, self.file), setting=self.ref)
        except (SecretUnreadable, SourceRefused):
            value = None
        return ApiKey(self.ref, self.endpoints, value, limits)


def declared_keys(written: Any) -> Any:
    """Of the variable's JSON. Raises ValueError for a text that is none; pydantic checks the rest."""
    if not isinstance(written, str):
        return written
    try:
        return json.loads(written)
    except ValueError:
        raise ValueError("it is no JSON: write a list of objects, as the chart does") from None
