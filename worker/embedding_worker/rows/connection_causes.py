"""Decides why no connection could be made, and says it with the remedy. Pure; called by connections.py.

It never shows a message of libpq or of the server: such a message may quote parts of the URL, and so of the password.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """What libpq says of a connection that failed and, if a server answered with an error, the error's fields."""

    message: str
    sqlstate: str = ""
    routine: str = ""
    """The function of PostgreSQL's source that refused: the same in every language, as opposed to the message."""
    encrypted: bool = False


ADD_HBA_LINE = "add a line for this role, this database and the operator's addresses"
CHECK_OPTIONS = "correct `options` and the other settings in DATABASE_URL"

# The same state has several meanings, which differ by the function that reports it.
BY_ROUTINE = {
    ("28000", "ClientAuthentication"): f"its pg_hba.conf does not let this connection in: {ADD_HBA_LINE}",
    ("28000", "InitializeSessionUserId"): "the role does not exist, or may not log in: ALTER ROLE … LOGIN",
    ("42501", "CheckMyDatabase"): "the role may not connect to the database: GRANT CONNECT ON DATABASE … TO …",
    (
        "53300",
        "InitializeSessionUserId",
    ): "the role has reached its connection limit: ALTER ROLE … CONNECTION LIMIT 10",
    ("53300", "CheckMyDatabase"): "the database has reached its connection limit: ALTER DATABASE … CONNECTION LIMIT -1",
}
WITHOUT_TLS = (
    f"its pg_hba.conf does not let this connection in, which has no TLS: {ADD_HBA_LINE}, or add sslmode=require to "
    "DATABASE_URL if it has lines with hostssl only"
)
BY_SQLSTATE = {
    "28P01": "the password is refused: correct it in DATABASE_URL, or see whether the role exists and its password has expired",
    "28000": "the role may not log in this way: let pg_hba.conf ask for a password (scram-sha-256)",
    "3D000": "the database does not exist: correct its name in DATABASE_URL, or create it",
    "42501": f"a setting in the URL needs a right that the role does not have: {CHECK_OPTIONS}",
    "42704": f"it does not know a setting in the URL: {CHECK_OPTIONS}",
    "42601": f"it does not accept a setting in the URL: {CHECK_OPTIONS}",
    "22023": f"it does not accept a setting in the URL: {CHECK_OPTIONS}",
    "53300": "it has too many connections: raise max_connections, close others, or connect through PgBouncer",
    "55000": "the database accepts no connections: ALTER DATABASE … ALLOW_CONNECTIONS true, or name another one",
    "57P01": "it is shutting down: it is tried again until it is back",
    "57P02": "it has crashed and restarts: it is tried again until it is back",
    "57P03": "it does not accept connections at this moment, as when it starts up: it is tried again until it does",
    "0A000": "it speaks another protocol: check that PostgreSQL 14 or newer listens at host and port of DATABASE_URL",
    "53100": "its disk is full: free or add space",
    "53200": "it is out of memory: lower max_connections, or give it more memory",
    "25006": "it accepts no writes: name the primary in DATABASE_URL, or all hosts",
}
STATEMENT_POOLING = (
    "PgBouncer pools single statements, and the operator needs transactions: set pool_mode = transaction or session for this "
    "database in PgBouncer"
)
NOT_TRUSTED = "its certificate is not trusted: mount the certificate of its authority, and name it as sslrootcert"
NO_WRITES = (
    "it accepts no writes: name the primary in DATABASE_URL, or all hosts, or set default_transaction_read_only = off"
)
NO_ANSWER = (
    "its address does not answer: correct the host in DATABASE_URL, let firewalls and NetworkPolicies pass it, or see the "
    "log of PgBouncer if it is there"
)

# By a word of the message: what PgBouncer says in English only, with one state for everything.
BY_WORD_OF_POOLER = {
    "statement pooling mode": STATEMENT_POOLING,
    "unsupported startup parameter": (
        "PgBouncer refuses a setting in the URL, such as `options`: remove it, or add it to PgBouncer's ignore_startup_parameters"
    ),
    "no such database": "PgBouncer does not know the database: add it to [databases] in PgBouncer, or correct DATABASE_URL",
    "no such user": "PgBouncer does not know the role: add it to auth_file or auth_query in PgBouncer",
    "no more connections allowed": "PgBouncer has too many clients: raise max_client_conn in PgBouncer",
    "query_wait_timeout": "PgBouncer has no free connection to the server: raise default_pool_size in PgBouncer",
    "server login failed": "PgBouncer cannot log in to the server: correct the role and its password in PgBouncer",
    "server login has been failing": "PgBouncer cannot connect to the server: see PgBouncer's log",
    "pgbouncer cannot connect": "PgBouncer cannot connect to the server: see PgBouncer's log",
    "bouncer config error": "PgBouncer's configuration is wrong: see PgBouncer's log",
    "pgbouncer is in suspend": "PgBouncer is suspended: resume it",
}
# What libpq and psycopg say themselves and, where a server's state is not known, what it says in English.
BY_WORD = {
    "no password supplied": "it asks for a password, and DATABASE_URL has none: add it",
    "failed to resolve host": "its host name is not known: correct the host in DATABASE_URL, or the name service",
    "could not translate host name": "its host name is not known: correct the host in DATABASE_URL, or the name service",
    "root certificate file": "the file that sslrootcert names is missing or unusable: mount it, or correct its path",
    "root.crt": "the file that sslrootcert names is missing or unusable: mount it, or correct its path",
    "certificate file": "the file that sslcert names is missing or unusable: mount it, or correct its path",
    "private key file": "the file that sslkey names is missing or unusable: mount it with mode 0600, or correct its path",
    "does not match host name": "its certificate is for another host name: use that name as host in DATABASE_URL",
    "certificate": NOT_TRUSTED,
    "signature failure": NOT_TRUSTED,  # another authority with the same name
    "does not support SSL": (
        "it offers no TLS, which sslmode in DATABASE_URL demands: switch ssl on in the server, or use sslmode=disable if the "
        "network can be trusted"
    ),
    "is read-only": NO_WRITES,
    "hot standby": NO_WRITES,
    "Connection refused": "nothing listens at its address: correct host and port in DATABASE_URL, or start the server",
    "No such file": "nothing listens at its socket: correct the host in DATABASE_URL, or start the server",
    "timeout": NO_ANSWER,
    "timed out": NO_ANSWER,
    "unreachable": "its address cannot be reached: correct the host in DATABASE_URL, or the network's routes",
    "No route to host": "its address cannot be reached: correct the host in DATABASE_URL, or the network's routes",
    "invalid response": "what answers there is not PostgreSQL: correct host and port in DATABASE_URL",
    "expected authentication request": "what answers there is not PostgreSQL: correct host and port in DATABASE_URL",
    "closed the connection unexpectedly": (
        "the connection is closed at once: check that PostgreSQL listens at host and port of DATABASE_URL, and see its log"
    ),
    "reset by peer": (
        "the connection is closed at once: check that PostgreSQL listens at host and port of DATABASE_URL, and see its log"
    ),
    "SSL": "TLS could not be agreed on: check sslmode and the other parameters of TLS in DATABASE_URL, and ssl in the server",
    "GSS": "GSSAPI could not be agreed on: set gssencmode=disable in DATABASE_URL",
    "local user with ID": "DATABASE_URL names no role: add it",
    "invalid ": "libpq does not accept the value of a parameter in DATABASE_URL (such as port or sslmode): correct it",
    "service": "libpq does not find the `service` that DATABASE_URL names: write host, port and database instead",
    "password authentication failed": BY_SQLSTATE["28P01"],
    "pg_hba.conf": BY_ROUTINE["28000", "ClientAuthentication"],
    "permission denied for database": BY_ROUTINE["42501", "CheckMyDatabase"],
    "too many connections for role": BY_ROUTINE["53300", "InitializeSessionUserId"],
    "too many connections for database": BY_ROUTINE["53300", "CheckMyDatabase"],
    "too many": BY_SQLSTATE["53300"],
    "connection slots": BY_SQLSTATE["53300"],
    "accepting connections": BY_SQLSTATE["57P03"],
    "starting up": BY_SQLSTATE["57P03"],
    "shutting down": BY_SQLSTATE["57P01"],
    "not permitted to log in": BY_ROUTINE["28000", "InitializeSessionUserId"],
    'role "': BY_ROUTINE["28000", "InitializeSessionUserId"],
    'database "': BY_SQLSTATE["3D000"],
}


def cause_of(refusal: Refusal) -> str:
    """The cause and the remedy, with PostgreSQL's code for it if it gave one."""
    state, message = refusal.sqlstate, refusal.message
    if not state:
        unknown = "libpq gives a reason that is not known here: connect with psql and the same URL, which shows it"
        return _by_word(BY_WORD_OF_POOLER | BY_WORD, message) or unknown
    if (said := _by_word(BY_WORD_OF_POOLER, message)) is not None:
        return _with_state(said, state)
    if (state, refusal.routine) == ("28000", "ClientAuthentication") and not refusal.encrypted:
        return _with_state(WITHOUT_TLS, state)
    known = BY_ROUTINE.get((state, refusal.routine)) or BY_SQLSTATE.get(state) or _by_word(BY_WORD, message)
    return _with_state(known or "the server refuses the connection: see its log, which says why", state)


def _by_word(causes: dict[str, str], message: str) -> str | None:
    return next((cause for word, cause in causes.items() if word in message), None)


def _with_state(cause: str, state: str) -> str:
    """The code behind the cause, in front of the remedy."""
    said, _, remedy = cause.partition(": ")
    return f"{said} ({state}): {remedy}"
