"""Reads secrets that are mounted as files again every few seconds, so that rotating one needs no restart.

Run by the process. The kubelet replaces a whole folder through a symbolic link, so the contents are compared. A value that
can't be used is not accepted: the old one stays in force, one warning is logged, and the file is read again. No value is ever
logged.
"""

import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from embedding_worker.clock import Clock
from embedding_worker.errors import EmbeddingError

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
Rotate = Callable[[str], Awaitable[None]]
"""Puts a new value in force, for all that begins from now on. Raises EmbeddingError where it can't be used (yet)."""


class SecretUnreadable(Exception):
    """The message is a sentence that begins with the variable's name."""


@dataclass(frozen=True)
class MountedSecret:
    """The variable that names the file, or the name of a key as SECRET/KEY; the file, and the value that was read last."""

    variable: str
    path: Path
    value: str = field(repr=False)


def read_secret(variable: str, path: str | Path) -> str:
    """What is in the file, without the line end that files have. Raises SecretUnreadable."""
    shown = _shown(path)
    try:
        secret = Path(path).read_bytes().decode("utf-8-sig").strip()  # Windows puts a mark before the text
    except UnicodeDecodeError:
        raise SecretUnreadable(f"{variable} is {shown}, which cannot be read as UTF-8: save it as UTF-8 text") from None
    except (OSError, ValueError) as exc:
        raise SecretUnreadable(
            f"{variable} is {shown}, which cannot be read ({type(exc).__name__}): mount the file, or correct its path"
        ) from None
    if not secret:
        raise SecretUnreadable(f"{variable} is {shown}, which is empty: write the secret into it")
    if (lines := len(secret.splitlines())) > 1:
        raise SecretUnreadable(
            f"{variable} is {shown}, which has {lines} lines: leave the secret alone in it, on one line"
        )
    if any(character < " " or character == "\x7f" for character in secret):
        raise SecretUnreadable(f"{variable} is {shown}, which contains a control character, such as NUL: remove it")
    return secret


def _shown(path: str | Path) -> str:
    """The path for a message, unless it may be the secret itself, given to the wrong variable."""
    return (
        repr(str(path)) if Path(path).is_absolute() else "no absolute path, and is not shown because it may be a secret"
    )


class Rotation:
    """Looks at mounted secrets, and rotates those that have changed. `rotate` has one function for each variable."""

    def __init__(self, secrets: Sequence[MountedSecret], rotate: Mapping[str, Rotate], *, clock: Clock) -> None:
        self._secrets = [secret for secret in secrets if secret.variable in rotate]
        self._rotate = rotate
        self._clock = clock
        self._in_force = {secret.variable: secret.value for secret in self._secrets}
        self._reported: dict[str, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while self._secrets:
            await self._clock.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Look at each file once."""
        for secret in self._secrets:
            try:
                await self._look_at(secret)
            except (SecretUnreadable, EmbeddingError) as exc:
                self._report(secret.variable, str(exc))
            except Exception as exc:  # a bug that shows with one secret must not end the rotation of all
                if self._reported.get(secret.variable) != type(exc).__name__:
                    where = "".join(traceback.format_tb(exc.__traceback__))  # its message may contain the value
                    log.error(
                        "secret not rotated because of an unexpected error", variable=secret.variable, where=where
                    )
                self._report(secret.variable, type(exc).__name__)

    async def _look_at(self, secret: MountedSecret) -> None:
        value = read_secret(secret.variable, secret.path)
        if value != self._in_force[secret.variable]:
            await self._rotate[secret.variable](value)
            self._in_force[secret.variable] = value
            log.info("secret rotated", variable=secret.variable)
        self._reported.pop(secret.variable, None)

    def _report(self, variable: str, problem: str) -> None:
        """Log the problem once, until there is another one or none."""
        if self._reported.get(variable) != problem:
            self._reported[variable] = problem
            log.warning("secret not rotated: the old value stays in force", variable=variable, message=problem)


RotateNamed = Callable[[str, str], Awaitable[None]]
"""As Rotate, for the secret of this name."""


def make_rotation(
    secrets: Sequence[MountedSecret],
    keys: Sequence[MountedSecret],
    *,
    rotate: RotateNamed,
    rotate_key: RotateNamed,
    clock: Clock,
) -> Rotation:
    """The rotation of the settings' secrets, named by their variables without _FILE, and of the keys that sources name."""
    rotations = {secret.variable: partial(rotate, secret.variable.removesuffix("_FILE")) for secret in secrets}
    rotations |= {key.variable: partial(rotate_key, key.variable) for key in keys}
    return Rotation([*secrets, *keys], rotations, clock=clock)
