"""One server's URL turned into those of its databases and roles."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from hack.database.embedded_postgres import LONGEST_PARENT, parent_folder
from hack.database.postgres import Database, url_with

SOCKET = "postgresql://postgres@/postgres?host=/tmp/eo-pg-1&port=5432"
OVER_TCP = "postgres://admin:a%40b@db.example:6432/postgres?sslmode=require"


@pytest.mark.parametrize("url", [SOCKET, OVER_TCP, "postgresql:///postgres", "postgresql://%2Fvar%2Frun/postgres"])
def test_only_the_database_is_replaced(url: str) -> None:
    before, after = conninfo_to_dict(url), conninfo_to_dict(url_with(url, database="a b/ü"))
    assert after == before | {"dbname": "a b/ü"}


@pytest.mark.parametrize("url", [SOCKET, OVER_TCP, "postgresql:///postgres", "postgresql://h1:1,h2:2/postgres"])
def test_another_role_has_its_own_password(url: str) -> None:
    before, after = conninfo_to_dict(url), conninfo_to_dict(url_with(url, role="reader", password="p@:/?#&"))
    assert after == before | {"user": "reader", "password": "p@:/?#&"}


def test_the_query_does_not_override_what_is_replaced() -> None:
    url = "postgresql://db.example/?user=admin&password=secret&dbname=postgres&sslmode=require"
    database = Database("app", url_with(url, database="app"))
    assert conninfo_to_dict(database.url_for("reader", "hers")) == {
        "host": "db.example",
        "dbname": "app",
        "user": "reader",
        "password": "hers",
        "sslmode": "require",
    }


def test_a_database_does_not_show_its_password() -> None:
    assert "secret" not in repr(Database("app", "postgresql://admin:secret@db.example/app"))


def test_a_temporary_folder_with_a_long_path_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + "long" * 30)
    assert len(str(parent_folder(as_root=False))) <= LONGEST_PARENT
