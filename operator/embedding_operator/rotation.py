"""Secrets that are mounted as files, read again every few seconds: a rotation needs no restart.

The kubelet swaps a whole folder by a symbolic link, so what is compared is the content. A value that can't be used is never
taken: the one before stays in force, one sentence is logged, and the file is looked at again. No value is ever logged.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from embedding_worker.errors import EmbeddingError

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
Take = Callable[[str], Awaitable[None]]
"""Puts a new value in force, for what begins from now on. Raises EmbeddingError where it is of no use (yet)."""


class SecretUnreadable(Exception):
    """In a sentence that begins with the variable's name."""


@dataclass(frozen=True)
class MountedSecret:
    """The variable that names the file, the file, and the value that was read last."""

    variable: str
    path: Path
    value: str = field(repr=False)


def read_secret(variable: str, path: str | Path) -> str:
    """What is in the file, without the line end that files have. Raises SecretUnreadable."""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SecretUnreadable(f"{variable} is {str(path)!r}, which cannot be read ({type(exc).__name__})") from None
    if not secret:
        raise SecretUnreadable(f"{variable} is {str(path)!r}, which is empty: write the secret into it")
    return secret


class Rotation:
    """Looks at mounted secrets, and hands on what has changed, to the one who takes the secret of that variable."""

    def __init__(self, secrets: Sequence[MountedSecret], take: Mapping[str, Take]) -> None:
        self._secrets = [secret for secret in secrets if secret.variable in take]
        self._take = take
        self._in_force = {secret.variable: secret.value for secret in self._secrets}
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while self._secrets:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look at each file once."""
        for secret in self._secrets:
            try:
                await self._look_at(secret)
            except (SecretUnreadable, EmbeddingError) as exc:
                self._say(secret.variable, str(exc))
            except Exception as exc:  # a fault of ours with one secret must not end the rotation of all
                if self._said.get(secret.variable) != type(exc).__name__:
                    log.exception("secret not taken by an unexpected error", variable=secret.variable)
                self._say(secret.variable, type(exc).__name__)

    async def _look_at(self, secret: MountedSecret) -> None:
        value = read_secret(secret.variable, secret.path)
        if value != self._in_force[secret.variable]:
            await self._take[secret.variable](value)
            self._in_force[secret.variable] = value
            log.info("secret rotated", variable=secret.variable)
        self._said.pop(secret.variable, None)

    def _say(self, variable: str, problem: str) -> None:
        """Once, until it is another problem or none."""
        if self._said.get(variable) != problem:
            self._said[variable] = problem
            log.warning("secret not rotated: the value before stays in force", variable=variable, message=problem)
