"""Go programs built from pinned modules into the cache outside of the repository."""
