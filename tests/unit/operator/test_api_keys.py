"""The declaration of the keys that sources name: what is read of it and of the files, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from embedding_operator.rotation import MountedSecret
from embedding_operator.settings import Settings, SettingsRefused, settings_from
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.rows.records import RateLimits

MARKER = "s3cr3t-Marker"
ENDPOINT = "https://api.openai.com/v1"


def settings_with(*declared: dict[str, Any]) -> Settings:
    return settings_from({"DATABASE_URL": "postgresql://u@h/d", "EMBEDDING_API_KEYS": json.dumps(declared)})


def declaration(file: Path, **changed: Any) -> dict[str, Any]:
    return {"secretName": "team-b", "key": "api-key", "file": str(file), "endpoints": [ENDPOINT]} | changed


def problem(written: str) -> str:
    with pytest.raises(SettingsRefused) as refused:
        settings_from({"DATABASE_URL": "postgresql://u@h/d", "EMBEDDING_API_KEYS": written})
    (found,) = refused.value.problems
    return found


def test_a_key_is_read_from_its_file_with_its_endpoints_and_limits(tmp_path: Path) -> None:
    (file := tmp_path / "key").write_text(f"{MARKER}\n")
    made = settings_with(declaration(file, endpoints=[f"{ENDPOINT}/"], tokensPerMinute=1_000))
    key = ApiKey("team-b/api-key", (ENDPOINT,), MARKER, RateLimits(tokens=1_000))
    assert made.credentials().keys == {"team-b/api-key": key}
    mounted = made.mounted_keys(made.credentials().keys)
    assert mounted == [MountedSecret("team-b/api-key", file, MARKER)]
    assert MARKER not in repr(made) + repr(made.credentials()) + repr(mounted)


def test_a_key_that_has_changed_since_it_was_read_is_still_to_be_rotated(tmp_path: Path) -> None:
    (file := tmp_path / "key").write_text(MARKER)
    made = settings_with(declaration(file))
    in_force = made.credentials().keys
    file.write_text("another")
    assert made.mounted_keys(in_force)[0].value == MARKER


@pytest.mark.parametrize("content", [None, "", "two words", "two\nlines"])
def test_a_key_that_is_missing_or_none_has_no_value_and_stops_nothing(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    made = settings_with(declaration(file))
    assert made.credentials().keys["team-b/api-key"].value is None
    assert made.mounted_keys(made.credentials().keys)[0].value == ""


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("key", "it is no JSON: write a list of objects, as the chart does"),
        ("{}", "valid tuple"),
        (
            json.dumps([{name: value for name, value in declaration(Path("/f")).items() if name != "key"}]),
            "0.key: field req",
        ),
        (json.dumps([declaration(Path("/f"), endpoints=[])]), "at least 1 item"),
        (json.dumps([declaration(Path("/f"), endpoints=["tei:8080"])]), "one of its endpoints is 'tei:8080'"),
        (json.dumps([declaration(Path("/f"), tokensPerMinute=0)]), "greater than or equal to 1"),
        (json.dumps([declaration(Path("/f"), another=1)]), "extra inputs are not permitted"),
    ],
)
def test_a_declaration_that_can_not_be_used_is_refused(written: str, said: str) -> None:
    found = problem(written)
    assert found.startswith("EMBEDDING_API_KEYS")
    assert said in found
