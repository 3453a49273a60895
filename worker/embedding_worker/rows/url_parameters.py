"""The parameters of database URLs that other tools have and libpq has not. Pure; called by database_url.py."""

from dataclasses import dataclass
from urllib.parse import unquote

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# They concern the tool itself: its pool, its cache, its timeouts, its default schema. A source names its table's schema.
OF_TOOLS = {
    "Prisma": (
        *("schema", "connection_limit", "pool_timeout", "pgbouncer", "statement_cache_size", "socket_timeout"),
        *("single_use_connections", "max_connection_lifetime", "max_idle_connection_lifetime"),
    ),
    "JDBC": (
        *("currentSchema", "ApplicationName", "loginTimeout", "connectTimeout", "socketTimeout", "tcpKeepAlive"),
        *("prepareThreshold", "preparedStatementCacheQueries", "preparedStatementCacheSizeMiB", "defaultRowFetchSize"),
        *("reWriteBatchedInserts", "stringtype", "binaryTransfer", "autosave", "assumeMinServerVersion", "readOnly"),
        *("targetServerType", "loggerLevel"),
    ),
    "SQLAlchemy and asyncpg": (
        *("prepared_statement_cache_size", "prepared_statement_name_func", "async_fallback", "command_timeout"),
        *("max_cached_statement_lifetime", "max_cacheable_statement_size"),
    ),
    "Rails": (
        *("pool", "prepared_statements", "encoding", "timeout", "reaping_frequency", "checkout_timeout"),
        *("idle_timeout", "min_messages", "advisory_locks", "schema_search_path"),
    ),
    "Django": ("conn_max_age", "conn_health_checks", "disable_server_side_cursors"),
    "pgx": (
        *("pool_max_conns", "pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter"),
        *("pool_max_conn_idle_time", "pool_health_check_period", "default_query_exec_mode", "search_path"),
        *("statement_cache_capacity", "description_cache_capacity"),
    ),
    "node-postgres": ("uselibpqcompat",),
}
IGNORED = frozenset(name for names in OF_TOOLS.values() for name in names)
# They concern the security of the connection, so they are neither ignored nor guessed.
REMEDIES = {
    "sslidentity": "mount certificate and key as files, and name them as sslcert and sslkey",
    "sslfactory": "write sslmode, and sslrootcert for the server's authority",
    "sslhostnameverifier": "write sslmode=verify-full",
    "sslpasswordcallback": "write sslpassword",
    "sslaccept": "write sslmode=verify-full or sslmode=require",
    "ssl": "write sslmode=require or sslmode=verify-full",
    "gsslib": "remove it",
    "username": "write user",
    "database": "write dbname",
    "Username": "write user",
    "Password": "write password",
    "Database": "write dbname",
    "Host": "write host",
    "Port": "write port",
}
TRUE, FALSE = ("true", "1", "on", "yes", "t"), ("false", "0", "off", "no", "f")


def named_elsewhere(parameter: str) -> str | None:
    """What to write instead of a parameter of another tool; None if it is not known here."""
    return "remove it" if parameter in IGNORED else REMEDIES.get(parameter)


@dataclass(frozen=True)
class _Demand:
    """What a parameter says about TLS."""

    name: str
    mode: str
    """The sslmode that means the same."""
    fits: tuple[str, ...]
    """Every sslmode that does not contradict it."""


def translated(query: str, *, jdbc: bool) -> str:
    """The query of a URL, without the parameters that concern other tools, and with TLS as libpq has it."""
    kept, has_sslmode = [], False
    for pair, name, value in _pairs(query):
        has_sslmode |= name == "sslmode"
        if name == "sslmode" or (name not in IGNORED and _demand(name, value, jdbc=jdbc) is None):
            kept.append(pair)
    demands = _demands(query, jdbc=jdbc)
    return "&".join(kept if has_sslmode or not demands else [*kept, f"sslmode={_decisive(demands).mode}"])


def tls_contradiction(query: str, *, jdbc: bool) -> str | None:
    """What is wrong with parameters of a URL's query that contradict each other about TLS, in a sentence; None if none do."""
    demands = _demands(query, jdbc=jdbc)
    if not demands:
        return None
    decisive = _decisive(demands)
    other = next((demand.name for demand in demands if decisive.mode not in demand.fits), None)
    if other is None:
        return None
    wanted = "with the protection that you want"
    if other == decisive.name:
        return f"its parameter {other} is there twice with different meanings: write sslmode once, {wanted}"
    removed = other if decisive.name == "sslmode" else "both"
    said = f"its parameters {decisive.name} and {other} contradict each other about TLS"
    return f"{said}: write sslmode {wanted}, and remove {removed}"


def _pairs(query: str) -> list[tuple[str, str, str]]:
    """Each parameter: as it is written, its name, its value."""
    parted = [(pair, *pair.partition("=")) for pair in query.split("&")] if query else []
    return [(pair, unquote(name), unquote(value)) for pair, name, _, value in parted]


def _demands(query: str, *, jdbc: bool) -> list[_Demand]:
    found = (_demand(name, value, jdbc=jdbc) for _, name, value in _pairs(query))
    return [demand for demand in found if demand is not None]


def _decisive(demands: list[_Demand]) -> _Demand:
    """sslmode, where there is one; otherwise the parameter that demands most."""
    return max(demands, key=lambda demand: (demand.name == "sslmode", SSL_MODES.index(demand.mode)))


def _demand(name: str, value: str, *, jdbc: bool) -> _Demand | None:
    """None for a parameter that says nothing about TLS, or whose value is unknown."""
    if name in ("sslmode", "ssl") and value in SSL_MODES:  # ssl: asyncpg
        return _Demand(name, value, (value,))
    if name == "ssl" and value.lower() in TRUE:
        return _Demand(name, "verify-full" if jdbc else "require", ("require", "verify-ca", "verify-full"))
    if name == "ssl" and value.lower() in FALSE:
        return _Demand(name, "disable", ("disable", "allow", "prefer"))
    if name == "sslaccept" and value == "strict":  # Prisma
        return _Demand(name, "verify-full", ("verify-full",))
    if name == "sslaccept" and value == "accept_invalid_certs":
        return _Demand(name, "require", ("disable", "allow", "prefer", "require"))
    return None
