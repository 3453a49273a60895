"""The parameters of database URLs that other tools have and libpq has not. Pure; called by database_url.py."""

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


def translated(query: str, *, jdbc: bool) -> str:
    """The query of a URL, without the parameters that concern other tools, and with TLS as libpq has it."""
    kept = []
    for pair in query.split("&") if query else ():
        name, _, value = pair.partition("=")
        mode = _ssl_mode(unquote(name), unquote(value), jdbc=jdbc)
        if mode is not None:
            kept.append(f"sslmode={mode}")
        elif unquote(name) not in IGNORED:
            kept.append(pair)
    return "&".join(kept)


def _ssl_mode(name: str, value: str, *, jdbc: bool) -> str | None:
    if name == "sslaccept":  # Prisma
        return {"strict": "verify-full", "accept_invalid_certs": "require"}.get(value)
    if name != "ssl":
        return None
    if value in SSL_MODES:  # asyncpg
        return value
    if value.lower() in TRUE:
        return "verify-full" if jdbc else "require"
    return "disable" if value.lower() in FALSE else None
