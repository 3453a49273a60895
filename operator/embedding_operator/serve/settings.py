"""The settings of `embedding-operator serve`: those of the operator without a database, and its own."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, SecretStr

from embedding_operator.settings import DATABASE_URL, SERVE_TOKEN, Settings


class ServeSettings(Settings):
    """It connects to no database, so that DATABASE_URL is not read."""

    own_secrets: ClassVar[tuple[str, ...]] = (SERVE_TOKEN,)

    database_url: SecretStr = Field(SecretStr(""), alias=DATABASE_URL)
    token: SecretStr | None = Field(None, alias=SERVE_TOKEN, description="what clients send as a bearer token")
    texts_per_minute: int = Field(
        600,
        alias="EMBEDDING_SERVE_TEXTS_PER_MINUTE",
        ge=1,
        le=1_000_000,
        description="search texts that this process sends to models; those in its cache do not count",
    )
    cached_vectors: int = Field(
        2000, alias="EMBEDDING_SERVE_CACHED_VECTORS", ge=0, le=1_000_000, description="vectors of search texts kept"
    )

    def own_secret_values(self) -> Mapping[str, str]:
        return {} if self.token is None else {SERVE_TOKEN: self.token.get_secret_value()}
