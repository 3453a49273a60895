"""Computes a row's content hash, decides whether its text is blank, and fits it to a model's limit. Pure.

`content_hash` and `is_blank` have SQL counterparts in rows/statements.py; a test checks that each pair gives the same results.
"""

import hashlib

from embedding_worker.errors import InputRejected
from embedding_worker.source import TooLong

BLANKS = " \t\n\r\f\v"
TEXT_FAILS = "0" * 64
"""Stands for the content hash of a row that has no text, because the text expression fails for it."""


def content_hash(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_blank(text: str) -> bool:
    """Whether there is nothing to embed: such a row's vector is null, and the row is up to date with that."""
    return not text.strip(BLANKS)


def fit_text(text: str, *, whole_bytes: int, max_bytes: int, too_long: TooLong) -> str:
    """The text as it is sent to a model that accepts `max_bytes` of UTF-8: cut at a character if it is longer.

    `text` may be only the beginning of a longer one, which has `whole_bytes`. Raises InputRejected if the text is longer and the
    source refuses such texts.
    """
    if whole_bytes <= max_bytes:
        return text
    if too_long is TooLong.REFUSE:
        raise InputRejected(
            "TextTooLong",
            f"the text has {whole_bytes} bytes and the model accepts {max_bytes}: "
            "shorten the row's text, or set spec.model.tooLong to Truncate",
        )
    return text.encode()[:max_bytes].decode(errors="ignore")
