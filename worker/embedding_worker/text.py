"""Computes a row's content hash, decides whether its text is blank, and fits it to a model's limit. Pure.

`content_hash` and `is_blank` have SQL counterparts in rows/statements.py; a test checks that each pair gives the same results.
"""

import hashlib

from embedding_worker.errors import InputRejected
from embedding_worker.source import TooLong

BLANKS = " \t\n\r\f\v"


def content_hash(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_blank(text: str) -> bool:
    """Whether there is nothing to embed: such a row's vector is null, and the row is up to date with that."""
    return not text.strip(BLANKS)


def fit_text(text: str, *, max_bytes: int, too_long: TooLong) -> str:
    """The text as it is sent to a model that accepts `max_bytes` of UTF-8: cut at a character if it is longer.

    Raises InputRejected if the text is longer and the source refuses such texts.
    """
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    if too_long is TooLong.REFUSE:
        raise InputRejected(
            "TextTooLong",
            f"the text has {len(encoded)} bytes and the model accepts {max_bytes}: "
            "shorten the row's text, or set spec.model.tooLong to Truncate",
        )
    return encoded[:max_bytes].decode(errors="ignore")
