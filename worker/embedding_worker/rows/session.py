"""The settings that every transaction has, and the statement that begins one. Pure; called by database.py."""

from functools import lru_cache

Settings = tuple[tuple[str, str], ...]
"""Names and values."""

# Below PostgreSQL's deadlock_timeout (1 s), so that in a deadlock with an application it is the operator that gives way.
LOCK_TIMEOUT = "100ms"
# A text expression must give the same text in every session, or every audit would find every row due.
SETTINGS = (
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
)


@lru_cache
def begin_with(settings: Settings) -> bytes:
    """Begins a transaction with these settings, which end with it: two statements, for one message to the server.

    BEGIN names the isolation: with a default such as SERIALIZABLE, the application's transactions could fail because of the
    operator's. In `options` of the connection PgBouncer would refuse it.
    """
    pairs = ", ".join(
        f"pg_catalog.set_config({_literal(name)}, {_literal(value)}, true)" for name, value in (*SETTINGS, *settings)
    )
    return f"BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE; SELECT {pairs}".encode()


def _literal(value: str) -> str:
    """Means the same whatever standard_conforming_strings is."""
    doubled = value.replace("\\", "\\\\").replace("'", "''")
    return f"E'{doubled}'"
