"""Counts what is sent to the provider for one table and column, by UTC day, within the limits of the source. Called by store.py.

Tokens are estimated before a call, and corrected after it where the provider reports them. The rate limits (rate_limits.py) are
another count: by minute, and for all sources with the same endpoint and credential.
"""

from collections.abc import Sequence

from embedding_worker.limits import Granted, Limits, Sent, reached
from embedding_worker.rows.database import Transaction
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.rate_limits import acquire as acquire_rate
from embedding_worker.rows.records import UsageNote, Used
from embedding_worker.rows.table_access import TableAccess

__all__ = [
    "Granted",
    "Limits",
    "acquire_rate",
    "acquire_texts",
    "read_used_today",
    "record_usage",
    "return_texts",
    "used_today",
]

TODAY = "(now() AT TIME ZONE 'UTC')::date"
MONTH = "date_trunc('month', now() AT TIME ZONE 'UTC')::date"
OF_TODAY = f"FILTER (WHERE u.day = {TODAY})"
# `embedding-operator plan` reads a table of an earlier version too, which lacks two columns.
REPORTED, CUT = (f"coalesce((to_jsonb(u) ->> '{name}')::bigint, 0)" for name in ("tokens_reported", "texts_cut"))
# Days of earlier months are read for the texts that were cut: one row for each day on which something was sent.
USED_TODAY = f"""
SELECT {TODAY}::text, coalesce(sum(u.texts) {OF_TODAY}, 0)::bigint, coalesce(sum(u.tokens) {OF_TODAY}, 0)::bigint,
    coalesce(sum({REPORTED}) {OF_TODAY}, 0)::bigint, coalesce(sum({CUT}) {OF_TODAY}, 0)::bigint,
    coalesce(sum(u.tokens) FILTER (WHERE u.day >= {MONTH}), 0)::bigint, coalesce(sum({CUT}), 0)::bigint
FROM {SCHEMA}.usage u WHERE u.bookkeeping = $1 HAVING count(*) > 0
"""
BEGIN_DAY = f"INSERT INTO {SCHEMA}.usage (bookkeeping, day) VALUES ($1, {TODAY}) ON CONFLICT DO NOTHING"
# A call that was counted on another day than today is not given back.
RETURN_TEXTS = f"""
UPDATE {SCHEMA}.usage u SET texts = greatest(0, u.texts - $2::bigint), tokens = greatest(0, u.tokens - $3::bigint)
WHERE u.bookkeeping = $1 AND u.day = {TODAY} AND u.day = ((now() - make_interval(secs => $4)) AT TIME ZONE 'UTC')::date
"""
ACQUIRE_TEXTS = f"""
UPDATE {SCHEMA}.usage u SET texts = u.texts + g.granted, tokens = u.tokens + coalesce(($2::bigint[])[g.granted], 0)
FROM (SELECT o.texts, o.tokens, o.tokens + m.tokens AS of_month,
          (SELECT count(*) FROM unnest($2::bigint[]) WITH ORDINALITY t(tokens, number)
           WHERE o.texts + t.number <= $3::bigint AND (o.tokens + t.tokens <= $4::bigint) IS NOT FALSE
               AND (o.tokens + m.tokens + t.tokens <= $5::bigint) IS NOT FALSE)::int AS granted
      FROM {SCHEMA}.usage o CROSS JOIN (
          SELECT coalesce(sum(e.tokens), 0)::bigint AS tokens FROM {SCHEMA}.usage e
          WHERE e.bookkeeping = $1 AND e.day >= {MONTH} AND e.day < {TODAY} AND $5::bigint IS NOT NULL) m
      WHERE o.bookkeeping = $1 AND o.day = {TODAY} FOR UPDATE OF o) g
WHERE u.bookkeeping = $1 AND u.day = {TODAY} RETURNING g.granted, g.texts, g.tokens, g.of_month
"""
"""$2 the tokens of the first text, of the first two, and so on; $3 texts and $4 tokens of a day, $5 tokens of a month (null: no
limit) → how many of the texts may be sent, and what was sent before.

The subquery locks the row of today, so that two replicas never grant the same texts twice.
"""
RECORD_USAGE = f"""
UPDATE {SCHEMA}.usage u SET tokens = greatest(0, u.tokens + n.more), tokens_reported = u.tokens_reported + n.reported,
    texts_cut = u.texts_cut + n.cut
FROM (SELECT ((now() - make_interval(secs => t.ago)) AT TIME ZONE 'UTC')::date AS day, sum(t.more)::bigint AS more,
          sum(t.reported)::bigint AS reported, sum(t.cut)::bigint AS cut
      FROM unnest($2::float8[], $3::bigint[], $4::bigint[], $5::bigint[]) t(ago, more, reported, cut) GROUP BY 1) n
WHERE u.bookkeeping = $1 AND u.day = n.day
"""
"""$2 how many seconds ago the texts of each call were counted, $3 further tokens, $4 reported tokens, $5 cut texts."""


async def acquire_texts(access: TableAccess, stem: str, tokens: Sequence[int], limits: Limits) -> Granted:
    """Count texts as sent, as many as the limits allow. `tokens` are those of the first text, of the first two, and so on."""
    most = (limits.texts_per_day, limits.tokens_per_day, limits.tokens_per_month)
    while True:
        async with access.transaction() as transaction:
            found = await transaction.fetch_and_commit(ACQUIRE_TEXTS, stem, list(tokens), *most)
        if found:
            return _granted(tokens, limits, *found[0])
        await access.fetch(BEGIN_DAY, stem)


def _granted(tokens: Sequence[int], limits: Limits, granted: int, texts: int, of_day: int, of_month: int) -> Granted:
    if granted == len(tokens):
        return Granted(granted)
    counted = tokens[granted - 1] if granted else 0
    sent = Sent(texts + granted, of_day + counted, of_month + counted)
    return Granted(granted, reached(limits, sent, next_tokens=tokens[granted] - counted))


async def return_texts(access: TableAccess, stem: str, texts: int, *, tokens: int, counted_s_ago: float) -> None:
    """Give back texts that were counted so long ago, if that was today."""
    async with access.transaction() as transaction:  # not with `fetch`, which may run it twice
        await transaction.fetch_and_commit(RETURN_TEXTS, stem, texts, tokens, counted_s_ago)


async def record_usage(access: TableAccess, stem: str, notes: Sequence[UsageNote], *, now: float) -> None:
    """Correct the days on which these calls were counted. `now` is the moment by the monotonic clock."""
    columns = (
        [max(0.0, now - note.at) for note in notes],
        [note.more_tokens for note in notes],
        [note.reported for note in notes],
        [note.cut for note in notes],
    )
    async with access.transaction() as transaction:  # not with `fetch`, which may run it twice
        await transaction.fetch_and_commit(RECORD_USAGE, stem, *columns)


async def used_today(access: TableAccess, stem: str) -> Used | None:
    """What was sent today and in this month; None if nothing ever was."""
    async with access.transaction() as transaction:
        return await read_used_today(transaction, stem)


async def read_used_today(transaction: Transaction, stem: str) -> Used | None:
    found = await transaction.fetch(USED_TODAY, stem)
    return Used(*found[0]) if found else None
