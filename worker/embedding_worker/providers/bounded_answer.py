"""Reads an answer of a server no further than the vectors of a call may be long, so that no server can use up the memory.

Called by the providers, from the HTTP clients of their SDKs, for every answer: also for errors.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from embedding_worker.errors import AnswerUnusable

BYTES_PER_NUMBER = 32
"""The longest number of 64 bits takes 24 in JSON, and stands on a line of its own where a server indents its answers."""
BYTES_BESIDES = 1_000_000
READ_AT_ONCE = 65_536
NO_SUCH_HEADERS = {"content-encoding", "content-length", "transfer-encoding"}
"""What is not true any more of an answer that was read."""

most_bytes: ContextVar[int] = ContextVar("how long the answer to the call of this task may be", default=BYTES_BESIDES)


def most_bytes_for(texts: int, dimensions: int) -> int:
    return texts * dimensions * BYTES_PER_NUMBER + BYTES_BESIDES


async def bounded(response: Any, most: int) -> Any:
    """The same httpx2.Response, read, if it is no longer than `most` bytes when it is decoded. Raises AnswerUnusable."""
    content = bytearray()
    try:
        refuse_several_encodings(response.headers)
        async for part in response.aiter_bytes():
            add_to(content, part, most)
    finally:
        await response.aclose()
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in NO_SUCH_HEADERS]
    return type(response)(response.status_code, headers=headers, content=bytes(content), request=response.request)


def bounded_content(response: Any, most: int) -> bytes:
    """The content of a requests.Response that was not read yet, as `bounded`."""
    content = bytearray()
    try:
        refuse_several_encodings(response.headers)
        for part in response.iter_content(READ_AT_ONCE):
            add_to(content, part, most)
    except AnswerUnusable:
        response.close()
        raise
    return bytes(content)


def add_to(content: bytearray, part: bytes, most: int) -> None:
    content += part
    if len(content) > most:
        raise AnswerUnusable(
            f"an answer of more than {most:,} bytes came, which is longer than the vectors of the call can be"
        )


def refuse_several_encodings(headers: Mapping[str, str]) -> None:
    """Each may make a thousand bytes of one, before any of them can be counted."""
    if "," in headers.get("content-encoding", ""):
        raise AnswerUnusable("an answer came that was compressed several times")
