"""What a row's text means to us: its hash, whether there is anything in it, and what a model's limit makes of it.

The SQL twins of `content_hash` and `is_blank` stand in rows/statements.py; a test holds each pair together.
"""

import hashlib

from embedding_worker.errors import InputRejected
from embedding_worker.source import TooLong

BLANKS = " \t\n\r\f\v"


def content_hash(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes, in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_blank(text: str) -> bool:
    """True where there is nothing to embed: such a row's vector is null, and it is fresh."""
    return not text.strip(BLANKS)


def fit_text(text: str, *, max_bytes: int, too_long: TooLong) -> str:
    """The text as it goes to a model that takes `max_bytes` of UTF-8: cut at a character, or refused.

    Raises InputRejected where the source says that a text over the limit is to be refused.
    """
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    if too_long is TooLong.REFUSE:
        raise InputRejected(
            "TextTooLong",
            f"the text has {len(encoded)} bytes and the model takes {max_bytes}: "
            "shorten the row's text, or set spec.model.tooLong to Truncate",
        )
    return encoded[:max_bytes].decode(errors="ignore")
