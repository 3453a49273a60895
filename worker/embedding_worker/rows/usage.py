"""Counts what is sent to the provider for one table and column, by UTC day, with the limit of the day. Called by store.py.

The rate limits (rate_limits.py) are another count: by minute, and for all sources with the same endpoint and credential.
"""

from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.rate_limits import acquire as acquire_rate
from embedding_worker.rows.records import Used
from embedding_worker.rows.table_access import TableAccess

__all__ = ["acquire_rate", "acquire_texts", "return_texts", "used_today"]

TODAY = "(now() AT TIME ZONE 'UTC')::date"
USED_TODAY = f"SELECT u.day::text, u.texts, u.tokens FROM {SCHEMA}.usage u WHERE u.bookkeeping = $1 AND u.day = {TODAY}"
BEGIN_DAY = f"INSERT INTO {SCHEMA}.usage (bookkeeping, day) VALUES ($1, {TODAY}) ON CONFLICT DO NOTHING"
# A call that was counted on another day than today is not given back.
RETURN_TEXTS = f"""
UPDATE {SCHEMA}.usage u SET texts = greatest(0, u.texts - $2::bigint), tokens = greatest(0, u.tokens - $3::bigint)
WHERE u.bookkeeping = $1 AND u.day = {TODAY} AND u.day = ((now() - make_interval(secs => $4)) AT TIME ZONE 'UTC')::date
"""
# The subquery locks the row, so that two replicas never grant the same texts twice.
ACQUIRE_TEXTS = f"""
UPDATE {SCHEMA}.usage u SET texts = u.texts + g.granted, tokens = u.tokens + $3::bigint * g.granted / $2::bigint
FROM (SELECT greatest(0, least($2::bigint, $4::bigint - o.texts)) AS granted FROM {SCHEMA}.usage o
      WHERE o.bookkeeping = $1 AND o.day = {TODAY} FOR UPDATE) g
WHERE u.bookkeeping = $1 AND u.day = {TODAY} RETURNING g.granted
"""


async def acquire_texts(access: TableAccess, stem: str, texts: int, *, tokens: int, most_a_day: int) -> int:
    """Count texts as sent today. Returns how many of them the day's limit still allows."""
    while True:
        async with access.transaction() as transaction:
            granted = await transaction.fetch_and_commit(ACQUIRE_TEXTS, stem, texts, tokens, most_a_day)
        if granted:
            return int(granted[0][0])
        await access.fetch(BEGIN_DAY, stem)


async def return_texts(access: TableAccess, stem: str, texts: int, *, tokens: int, counted_s_ago: float) -> None:
    """Give back texts that were counted so long ago, if that was today."""
    await access.fetch(RETURN_TEXTS, stem, texts, tokens, counted_s_ago)


async def used_today(access: TableAccess, stem: str) -> Used | None:
    """What was sent today; None if nothing was."""
    found = await access.fetch(USED_TODAY, stem)
    return Used(*found[0]) if found else None
