"""The settings of `embedding-operator serve`: no database, its own token, and nothing of it in the operator's process."""

from pathlib import Path

import pytest

from embedding_operator.serve.http_server import Token
from embedding_operator.serve.messages import RequestRefused
from embedding_operator.serve.settings import ServeSettings
from embedding_operator.settings import SettingsRefused, environment_of_a_program, settings_from, settings_of_kind

SECRET = "s3cr3t-Marker"


def made(**environ: str) -> ServeSettings:
    return settings_of_kind(ServeSettings, environ)


def test_no_variable_is_needed_and_the_databases_url_is_not_read() -> None:
    assert (made().texts_per_minute, made().cached_vectors, made().token) == (600, 2000, None)
    ignoring = made(DATABASE_URL="postgresql://db.example/yellow_book", DATABASE_URL_FILE="/nothing")
    assert ignoring.database_url.get_secret_value() == ""


def test_the_token_is_a_variable_or_a_file_that_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    for given in (made(EMBEDDING_SERVE_TOKEN=SECRET), made(EMBEDDING_SERVE_TOKEN_FILE=str(path))):
        assert given.token is not None
        assert given.token.get_secret_value() == SECRET
        assert SECRET not in repr(given)
    (mounted,) = made(EMBEDDING_SERVE_TOKEN_FILE=str(path)).mounted_secrets()
    assert (mounted.variable, mounted.path, mounted.value) == ("EMBEDDING_SERVE_TOKEN_FILE", path, SECRET)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EMBEDDING_SERVE_TEXTS_PER_MINUTE", "0", "EMBEDDING_SERVE_TEXTS_PER_MINUTE is '0'"),
        ("EMBEDDING_SERVE_CACHED_VECTORS", "many", "EMBEDDING_SERVE_CACHED_VECTORS is 'many'"),
        ("EMBEDDING_SERVE_TEXTS", "80", "EMBEDDING_SERVE_TEXTS is no setting of this version"),
        ("EMBEDDING_SERVE_TOKEN_FILE", "/nothing", "EMBEDDING_SERVE_TOKEN_FILE is '/nothing', which cannot be read"),
    ],
)
def test_a_wrong_value_is_refused_by_name(variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingsRefused, match=words):
        made(**{variable: value})


def test_both_processes_may_be_started_from_one_environment() -> None:
    environ = {"DATABASE_URL": "postgresql://db.example/yellow_book", "EMBEDDING_MAX_OPEN_JOBS": "7"}
    environ["EMBEDDING_SERVE_TOKEN"] = SECRET
    assert settings_from(environ).max_open_jobs == 7
    assert made(**environ).token is not None


def test_a_program_that_is_started_does_not_get_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDING_SERVE_TOKEN", SECRET)
    assert SECRET not in environment_of_a_program().values()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer other", f"Basic {SECRET}", SECRET, "Bearer \udcff"])
def test_another_token_is_refused(header: str) -> None:
    with pytest.raises(RequestRefused) as raised:
        Token(SECRET).refuse_others(header)
    assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")


def test_the_token_is_accepted_and_a_rotated_one_replaces_it() -> None:
    token = Token(SECRET)
    token.refuse_others(f"Bearer {SECRET}")
    token.refuse_others(f"bearer  {SECRET} ")
    token.replace("new")
    token.refuse_others("Bearer new")
    with pytest.raises(RequestRefused):
        token.refuse_others(f"Bearer {SECRET}")
    Token(None).refuse_others("")
