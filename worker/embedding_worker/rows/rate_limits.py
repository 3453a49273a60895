"""Keeps the rate limits of a provider for all processes together, with one row in PostgreSQL for each endpoint and credential.

Called by store.py before each call to a provider that has limits. One statement reserves the time of a call, and holds the lock
on that row only until its commit; the caller waits afterwards, without a transaction.

It is a token bucket for each of requests, texts and tokens, with reservation. `requests`, `texts` and `tokens` are what has been
sent or reserved and not been worked off at `as_of`. This decreases at 98% of the limit, and a call waits until there is room for
it in what the limit allows in 0.6 s, or, if it is larger, until nothing is left of what was sent before it. So

    sent within any 60 s  <=  0.98 * limit * (60 + 0.6) / 60  <  0.99 * limit

while the whole 98% is used as long as there is always a call that waits. A call that uses more than 0.6 s of the limit may come
on top of that, but calls of one size never exceed the limit (see use_of). The times follow the order in which processes ask.
Each of the three increases from the time at which the call will be made: a call that waits for one limit would otherwise save up
room in the others, for a burst that exceeds them.

What is not worked off is an amount and not a time. So a limit that is raised or lowered applies to it at once, and a clock that
was set back only stops the decrease until the next call; what it had been ahead is forgotten with that call.
"""

from embedding_worker.providers.rate_limits import BURST_S, KINDS, pace, use_of
from embedding_worker.rows.database import Database
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.rows.records import RateGrant, RateLimits

ADD_CONNECTION = f"INSERT INTO {SCHEMA}.rate_limits (connection) VALUES ($1) ON CONFLICT DO NOTHING"


def _each(expression: str) -> str:
    """The expression for each kind of limit, with the parameters for the use of it and its pace."""
    return ", ".join(
        expression.format(kind=kind, use=f"${2 * n + 3}::float8", pace=f"${2 * n + 4}::float8")
        for n, kind in enumerate(KINDS)
    )


# If there is no limit, its pace is null, and so is what is computed from it, which `greatest` ignores.
REMAINING = _each("greatest(0, o.{kind} - {pace} * p.passed_s) AS {kind}")
ROOM_IN_S = _each(f"(r.{{kind}} + least({{use}}, {BURST_S} * {{pace}})) / {{pace}} - {BURST_S}")
RESERVED = _each(
    "CASE WHEN w.wait_s <= $2::float8 THEN greatest(r.{kind}, {pace} * w.wait_s) + {use} ELSE r.{kind} END AS {kind}"
)
# The clock is read after the row has been locked, because it is asked for together with a column of that row.
ACQUIRE = f"""
UPDATE {SCHEMA}.rate_limits l SET as_of = g.now, {_each("{kind} = g.{kind}")}
FROM (SELECT t.now, w.wait_s, {RESERVED}
      FROM (SELECT * FROM {SCHEMA}.rate_limits WHERE connection = $1 FOR UPDATE) o
      CROSS JOIN LATERAL (SELECT clock_timestamp() AS now, o.as_of) t
      CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM t.now - t.as_of)::float8) AS passed_s) p
      CROSS JOIN LATERAL (SELECT {REMAINING}) r
      CROSS JOIN LATERAL (SELECT greatest(0, {ROOM_IN_S}) AS wait_s) w) g
WHERE l.connection = $1 RETURNING g.wait_s <= $2::float8, g.wait_s
"""
"""$1 connection, $2 the longest wait, then for each kind of limit how much of it the call uses, and its pace → whether the call
is reserved, and how long to wait for it."""


async def acquire(
    database: Database, connection: str, limits: RateLimits, *, texts: int, tokens: int, longest_wait_s: float
) -> RateGrant:
    """Reserve one request with these texts and tokens, unless it would have to wait for longer than `longest_wait_s`.

    A call that is larger than a limit is reserved too, and the next one waits for as long as it takes. Raises RowsLocked or
    DatabaseUnavailable.
    """
    if not limits.are_set:
        return RateGrant(granted=True, wait_s=0.0)
    amounts = {"requests": 1, "texts": texts, "tokens": tokens}
    parameters: list[float | None] = []
    for kind, amount in amounts.items():
        limit: int | None = getattr(limits, kind)
        parameters += [use_of(amount, limit), pace(limit)]
    async with database.transaction() as transaction:
        found = await transaction.fetch(ACQUIRE, connection, longest_wait_s, *parameters)
        if not found:  # the first call with this credential
            await transaction.fetch(ADD_CONNECTION, connection)
            found = await transaction.fetch(ACQUIRE, connection, longest_wait_s, *parameters)
    granted, wait_s = found[0]
    return RateGrant(granted=granted, wait_s=wait_s)
