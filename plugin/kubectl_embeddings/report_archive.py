"""Writes the archive of a report: each part without secrets, and a manifest of what is in it, and of what is missing and why.

Called by report.py. Nothing is written before every part was read, because what one part says is a secret is removed from all.
"""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from kubectl_embeddings.redaction import Redactor

FOLDER = "embedding-operator-report"
MANIFEST = "manifest.json"
READ_ME = (
    "Made by `kubectl embeddings report` for a bug report. Values of variables, arguments, URLs with a password, keys and "
    "tokens were removed; no Secret was read, and no text of a row. Ids and names are in it: look through it before you send it."
)


class Archive:
    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}
        self._missing: dict[str, str] = {}

    def add(self, name: str, content: Any) -> None:
        """A part: a text, or what becomes JSON."""
        self._parts[name] = content

    def miss(self, name: str, why: str) -> None:
        """This part could not be read."""
        self._missing[name] = why

    @property
    def missing(self) -> int:
        return len(self._missing)

    def write(self, path: Path, about: Mapping[str, Any], *, now: datetime) -> int:
        """Write the file, for its owner only. Returns how many values were removed. Raises OSError."""
        redactor = Redactor()
        for content in self._parts.values():
            redactor.learn(content)
        files = {name: _bytes(content, redactor) for name, content in sorted(self._parts.items())}
        listed = [{"file": name, "bytes": len(content)} for name, content in files.items()]
        missing = [{"part": name, "why": redactor.text(why)} for name, why in sorted(self._missing.items())]
        said = {"about": READ_ME, **redactor.tree(dict(about)), "removedValues": redactor.removed}
        manifest = _bytes(said | {"files": listed, "missing": missing}, None)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:
            for name, content in {MANIFEST: manifest, **files}.items():
                _add(archive, name, content, now)
        return redactor.removed


def _bytes(content: Any, redactor: Redactor | None) -> bytes:
    if isinstance(content, str):
        return (redactor.text(content) if redactor else content).encode()
    tree = redactor.tree(content) if redactor else content
    return (json.dumps(tree, indent=2, ensure_ascii=False) + "\n").encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes, now: datetime) -> None:
    entry = tarfile.TarInfo(f"{FOLDER}/{name}")
    entry.size, entry.mtime, entry.mode = len(content), int(now.timestamp()), 0o600
    archive.addfile(entry, io.BytesIO(content))
