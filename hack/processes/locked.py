"""A lock between processes, by a file. Called where two runs at once would make the same thing."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, when_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock; `when_waiting` is called once if another process has it. The system frees it when we end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
