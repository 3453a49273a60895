"""Why a connection was refused: by PostgreSQL's code, in whichever language its message is, and never in its own words."""

import pytest

from embedding_worker.rows.connection_causes import (
    BY_ROUTINE,
    BY_SQLSTATE,
    BY_WORD,
    BY_WORD_OF_POOLER,
    Refusal,
    cause_of,
)

FRENCH = "la connexion au serveur a échoué : FATAL: authentification refusée pour « s3cr3t »"


@pytest.mark.parametrize(
    ("sqlstate", "routine", "encrypted", "cause"),
    [
        ("28P01", "auth_failed", False, "the password is refused (28P01): correct it in DATABASE_URL"),
        ("28000", "ClientAuthentication", False, "does not let this connection in, which has no TLS (28000): add a line"),
        ("28000", "ClientAuthentication", True, "its pg_hba.conf does not let this connection in (28000): add a line"),
        ("28000", "InitializeSessionUserId", False, "may not log in (28000): ALTER ROLE … LOGIN"),
        ("28000", "auth_failed", False, "the role may not log in this way (28000): let pg_hba.conf ask for a password"),
        ("3D000", "InitPostgres", False, "the database does not exist (3D000): correct its name"),
        ("42501", "CheckMyDatabase", False, "may not connect to the database (42501): GRANT CONNECT ON DATABASE"),
        ("42501", "set_config_with_handle", False, "needs a right that the role does not have (42501): correct `options`"),
        ("53300", "InitializeSessionUserId", False, "the role has reached its connection limit (53300): ALTER ROLE"),
        ("53300", "CheckMyDatabase", False, "the database has reached its connection limit (53300): ALTER DATABASE"),
        ("53300", "InitProcess", False, "it has too many connections (53300): raise max_connections"),
        ("55000", "CheckMyDatabase", False, "the database accepts no connections (55000): ALTER DATABASE"),
        ("57P03", "ProcessStartupPacket", False, "it does not accept connections at this moment, as when it starts up (57P03)"),
        ("XX000", "", False, "the server refuses the connection (XX000): see its log, which says why"),
    ],
)  # fmt: skip
def test_a_refusal_is_known_by_its_code_in_any_language(
    sqlstate: str, routine: str, encrypted: bool, cause: str
) -> None:
    said = cause_of(Refusal(FRENCH, sqlstate, routine, encrypted))
    assert cause in said
    assert "s3cr3t" not in said


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ('FATAL:  password authentication failed for user "bob"', "the password is refused: "),
        ('FATAL:  database "nowhere" does not exist', "the database does not exist: "),
        ('FATAL:  role "nobody" does not exist', "the role does not exist, or may not log in: "),
        ('FATAL:  no pg_hba.conf entry for host "::1", user "a", database "d"', "its pg_hba.conf does not let this"),
        ('FATAL:  permission denied for database "d"', "the role may not connect to the database: "),
        ('FATAL:  too many connections for role "a"', "the role has reached its connection limit: "),
        ("FATAL:  sorry, too many clients already", "it has too many connections: "),
        ("FATAL:  the database system is starting up", "it does not accept connections at this moment, as when it"),
        ("FATAL:  the database system is shutting down", "it is shutting down: "),
        ("failed to resolve host 's3cr3t@h.invalid': Name or service not known", "its host name is not known: "),
        ("connection to server failed: Connection refused\n\tIs the server running", "nothing listens at its address: "),
        ("timeout expired", "its address does not answer: "),
        ("server does not support SSL, but SSL was required", "it offers no TLS, which sslmode in DATABASE_URL demands: "),
        ("SSL error: certificate verify failed", "its certificate is not trusted: "),
        ('server certificate for "a" does not match host name "s3cr3t"', "its certificate is for another host name: "),
        ('root certificate file "/s3cr3t" does not exist', "the file that sslrootcert names is missing or unusable: "),
        ("server closed the connection unexpectedly", "the connection is closed at once: "),
        ("local user with ID 65532 does not exist", "DATABASE_URL names no role: "),
        ("something s3cr3t", "libpq gives a reason that is not known here: connect with psql and the same URL"),
    ],
)  # fmt: skip
def test_where_no_code_is_known_the_words_of_the_message_are_looked_for(message: str, cause: str) -> None:
    said = cause_of(Refusal(message))
    assert said.startswith(cause)
    assert "s3cr3t" not in said


@pytest.mark.parametrize(
    "cause", [cause for causes in (BY_ROUTINE, BY_SQLSTATE, BY_WORD, BY_WORD_OF_POOLER) for cause in causes.values()]
)
def test_each_cause_has_a_remedy(cause: str) -> None:
    said, _, remedy = cause.partition(": ")
    assert said
    assert remedy
