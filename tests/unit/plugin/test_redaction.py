"""What may be a secret is removed, by its place or by its form, and the rest stays readable."""

from typing import Any

import pytest

from kubectl_embeddings.redaction import REDACTED, Redactor

MARKER = "MARKERMARKER1234"


@pytest.mark.parametrize(
    "text",
    [
        f"connect to postgresql://u:{MARKER}@h:5432/d?sslmode=require failed",
        f"POSTGRES://u:{MARKER}@h/d",
        f"postgresql://h/d?user=u&password={MARKER}",
        f"proxy http://me:{MARKER}@proxy.example:3128 refuses",
        f"https://{MARKER}@host/path",
        f"key AIzaSy{MARKER}-_x is refused",
        f"sk-{MARKER}",
        f"sk-proj-{MARKER}",
        f"AKIA{MARKER}",
        f"ghp_{MARKER}",
        f"Authorization: Bearer {MARKER}",
        f"authorization: bearer {MARKER}.x-y_z",
        f"Authorization: Basic {MARKER}==",
        f"eyJhbGciOiJIUzI1NiJ9.{MARKER}.c2lnbmF0dXJl",
        f"host=h user=u password={MARKER} dbname=d",
        f"PGPASSWORD='{MARKER} with blanks'",
        f'{{"api_key": "{MARKER}"}}',
        f'{{"clientSecret": "{MARKER}"}}',
        f"x-goog-api-key: {MARKER}",
        f"--token={MARKER}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{MARKER}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{MARKER}",
    ],
)
def test_a_text_loses_what_has_the_form_of_a_secret(text: str) -> None:
    redactor = Redactor()
    redacted = redactor.text(f"before {text}")
    assert MARKER not in redacted
    assert redacted.startswith("before ")
    assert REDACTED in redacted
    assert redactor.removed > 0


@pytest.mark.parametrize(
    "text",
    [
        "secret rotated",
        "GEMINI_API_KEY_FILE can't be read: correct its path",
        "the provider answered 401 (API_KEY_INVALID)",
        '{"event": "source ready", "table": "public.businesses", "fingerprint": "any@8/RETRIEVAL_DOCUMENT"}',
        'embedding_operator_tokens_total{source="shops"} 5.0',
        "https://generativelanguage.googleapis.com/v1beta/models",
        "risk-management@example",
    ],
)
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert Redactor().text(text) == text


def variable(name: str, **value: Any) -> dict[str, Any]:
    return {"name": name, **value}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (variable("EMBEDDING_LOG_LEVEL", value="debug"), True),
        (variable("DATABASE_URL_FILE", value="/etc/database/DATABASE_URL"), True),
        (variable("TZ", value="UTC"), True),
        (variable("DATABASE_URL", value="anything"), False),
        (variable("EMBEDDING_ACME_API_KEY", value="anything"), False),
        (variable("EMBEDDING_GEMINI_ENDPOINT", value="anything"), False),
        (variable("HTTPS_PROXY", value="anything"), False),
        (variable("ANYTHING", value="anything"), False),
        (variable("X-Header", value="anything"), False),
    ],
)
def test_of_variables_and_headers_only_harmless_ones_keep_their_values(given: dict[str, Any], kept: bool) -> None:
    expected = given if kept else {**given, "value": REDACTED}
    assert Redactor().tree({"env": [given]}) == {"env": [expected]}


def test_a_reference_to_a_secret_says_its_name() -> None:
    given = variable("KEY", valueFrom={"secretKeyRef": {"name": "the-secret", "key": "key"}})
    assert Redactor().tree(given) == given


def test_arguments_are_removed_unless_they_are_ours() -> None:
    given = {"args": ["run"], "command": ["sh", "-c", "login hunter2"], "probe": {"exec": {"command": ["check"]}}}
    assert Redactor().tree(given) == {
        "args": ["run"],
        "command": [REDACTED] * 3,
        "probe": {"exec": {"command": ["check"]}},
    }


def test_copies_of_the_object_in_its_metadata_are_left_out() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "other": "stays"}
    given = {"metadata": {"name": "a", "managedFields": [{}], "annotations": annotations}}
    assert Redactor().tree(given) == {"metadata": {"name": "a", "annotations": {"other": "stays"}}}


def test_the_value_of_a_variable_is_removed_wherever_it_is_repeated() -> None:
    redactor = Redactor()
    redactor.learn(
        {"spec": {"containers": [{"env": [variable("LOGIN", value="hunter2"), variable("N", value="8080")]}]}}
    )
    assert redactor.text("tried hunter2 on port 8080") == f"tried {REDACTED} on port 8080"
    assert redactor.tree({"hunter2": ["hunter2"]}) == {REDACTED: [REDACTED]}


def test_numbers_and_nothing_stay() -> None:
    assert Redactor().tree({"a": 1, "b": None, "c": True, "d": 0.5}) == {"a": 1, "b": None, "c": True, "d": 0.5}
