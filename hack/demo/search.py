"""Asks `embedding-operator serve` for the vector of a search text. Called by the story, which shows the commands.

curl does it where it is installed; elsewhere the same request is sent from here.
"""

import json
import shutil
import urllib.request
from dataclasses import dataclass
from urllib.error import HTTPError, URLError

from hack.errors import ToolError
from hack.processes.run import run_to_end

ANSWERED_WITHIN_S = 30.0


@dataclass(frozen=True)
class SearchText:
    """A text, the source in which it is searched, and the address that is asked."""

    url: str
    source: str
    text: str

    @property
    def body(self) -> str:
        return json.dumps({"model": self.source, "input": self.text}, ensure_ascii=False)

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v1/embeddings"

    @property
    def command(self) -> list[str]:
        return ["curl", "-sS", self.endpoint, "-H", "Content-Type: application/json", "-d", self.body]


def answer(asked: SearchText) -> str:
    """What is answered, in JSON. Raises ToolError."""
    if shutil.which("curl") is None:
        return _sent_from_here(asked)
    done = run_to_end([*asked.command, "--noproxy", "*"], within_s=ANSWERED_WITHIN_S)
    if done.returncode != 0:
        raise ToolError(f"curl {asked.endpoint}: {done.stderr.strip()}")
    return done.stdout


def vector_in(answered: str) -> list[float]:
    """Raises ToolError with the sentence of a refusal."""
    try:
        found = json.loads(answered)
        if "error" in found:
            raise ToolError(f"embedding-operator serve: {found['error']['message']}")
        vector: list[float] = found["data"][0]["embedding"]
    except (ValueError, KeyError, IndexError):
        raise ToolError(f"embedding-operator serve has answered {answered[:200]!r}") from None
    return vector


def shortened(answered: str, *, shown: int = 3) -> str:
    """The answer with the first numbers of the vector only."""
    whole = json.loads(answered)
    vector = vector_in(answered)
    whole["data"][0]["embedding"] = [*(round(value, 4) for value in vector[:shown]), f"… {len(vector) - shown} more"]
    return json.dumps(whole, ensure_ascii=False).replace(
        f'"… {len(vector) - shown} more"', f"… {len(vector) - shown} more"
    )


def _sent_from_here(asked: SearchText) -> str:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(asked.endpoint, asked.body.encode(), headers)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWERED_WITHIN_S) as response:
            return str(response.read().decode())
    except HTTPError as exc:
        return exc.read().decode()
    except URLError as exc:
        raise ToolError(f"embedding-operator serve does not answer at {asked.url}: {exc.reason}") from exc
