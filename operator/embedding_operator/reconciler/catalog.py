"""The EmbeddingSources that the API server shows, by name. Kept by Sources; read by handlers, row queues and loops."""

from collections.abc import Iterator

from embedding_operator.lifecycle.retry_policy import longest_pause_s
from embedding_operator.resources.embedding_source import EmbeddingSource, RetrySpec, older_on_the_same_column


class SourceCatalog:
    def __init__(self) -> None:
        self._sources: dict[str, EmbeddingSource] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def get(self, name: str) -> EmbeddingSource | None:
        return self._sources.get(name)

    def put(self, source: EmbeddingSource) -> None:
        """The API server shows this source."""
        self._sources[source.name] = source

    def remove(self, name: str) -> None:
        """The source was deleted."""
        self._sources.pop(name, None)

    def retry_policy(self, name: str) -> RetrySpec:
        """The source's policy; the defaults where the source is not known."""
        source = self._sources.get(name)
        return source.spec.retry if source is not None else RetrySpec()

    def longest_pause_s(self, name: str, reason: str = "") -> float:
        """No row of this source waits longer between two attempts, where the first one ended for this reason."""
        return longest_pause_s(self.retry_policy(name), reason)

    def older_on_the_same_column(self, source: EmbeddingSource) -> str | None:
        """The name of an older source of the same table and column; None where there is none."""
        return older_on_the_same_column(source, self._sources.values())
