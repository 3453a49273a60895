"""The settings that every transaction has, and the statements that begin one. Pure; called by database.py and round_trip.py."""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

Settings = tuple[tuple[str, str], ...]
"""Names and values."""

# Below PostgreSQL's deadlock_timeout (1 s), so that in a deadlock with an application it is the operator that gives way.
LOCK_TIMEOUT = "100ms"
STATEMENT_TIMEOUT_S = 30.0
# A text expression must give the same text in every session, or every audit would find every row due.
SETTINGS = (
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
)


# BEGIN names the isolation: with a default such as SERIALIZABLE, the application's transactions could fail because of the
# operator's. In `options` of the connection PgBouncer would refuse it.
BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE"
COMMIT = b"COMMIT"


class Given(TypedDict, total=False):
    """What the caller of a transaction may choose."""

    search_path: Sequence[str]
    statement_timeout_s: float
    lock_timeout: str
    row_security: bool
    planner: Settings


def settings_of(given: Given) -> Settings:
    """The settings of a transaction, except those that are the same in all.

    Without `row_security` a statement fails where a policy would hide rows, which would be taken for deleted ones.
    """
    return (
        ("search_path", ", ".join(given.get("search_path", ())) or "pg_catalog"),
        ("lock_timeout", given.get("lock_timeout", LOCK_TIMEOUT)),
        ("row_security", "on" if given.get("row_security") else "off"),
        ("statement_timeout", f"{given.get('statement_timeout_s', STATEMENT_TIMEOUT_S) * 1000:.0f}ms"),
        *given.get("planner", ()),
    )


def begin_with(settings: Settings) -> bytes:
    """Begins a transaction with these settings: two statements, for one message to the server by the simple protocol."""
    return BEGIN + b"; " + apply(settings)


@lru_cache
def apply(settings: Settings) -> bytes:
    """Applies these settings, which end with the transaction."""
    pairs = ", ".join(
        f"pg_catalog.set_config({_literal(name)}, {_literal(value)}, true)" for name, value in (*SETTINGS, *settings)
    )
    return f"SELECT {pairs}".encode()


def _literal(value: str) -> str:
    """Means the same whatever standard_conforming_strings is."""
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{doubled}'"
