"""What may be a secret is removed, by its place or by its form, and the rest stays readable."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from embedding_operator.serve.settings import ServeSettings
from kubectl_embeddings.redaction import SAFE_VARIABLES, Redactor
from kubectl_embeddings.secret_forms import REDACTED

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
        (variable("EMBEDDING_ACME_PASS", value="anything"), False),
        (variable("EMBEDDING_ACME_DSN", value="anything"), False),
        (variable("EMBEDDING_ACME_AUTH", value="anything"), False),
        (variable("EMBEDDING_OF_A_LATER_VERSION", value="anything"), False),
        (variable("PASSWORD_FILE", value="no path, but the password"), False),
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


def test_the_settings_that_keep_their_values_are_those_of_ours_that_hold_no_secret() -> None:
    ours = {field.alias for field in ServeSettings.model_fields.values() if field.alias}
    kept = {name for name in ours if Redactor().tree(variable(name, value="/x"))["value"] == "/x"}
    assert ours - kept == {"DATABASE_URL", "EMBEDDING_SERVE_TOKEN", "KUBECONFIG"}
    assert SAFE_VARIABLES - ours == {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TZ", "LANG", "LC_ALL"}


def sql(secret: str) -> str:
    return "'" + secret.replace("'", "''") + "'"


def as_json(secret: str, depth: int = 1, name: str = "api_key") -> str:
    """A line of a log in which so many objects of JSON are in each other, as texts."""
    text = secret
    for level in range(depth):
        text = json.dumps({name if level == 0 else "message": text, "next": "stays"})
    return text


SECRETS = [
    "hunter2Zq9",
    "it's-hunter2Zq9",
    "hunter2'Zq9",
    'hunter2"Zq9',
    "hunter2/Zq9",
    "hunter2@Zq9",
    "hunter2,Zq9;Qz7",
    "hunter2)Zq9}Qz7]",
    "hunter2&Zq9",
    "hunter2\\Zq9",
    "hunter2Zq9\\",
]
"""What a part of would stay is found by its other part."""
PIECES = re.compile("hunter2|Zq9|Qz7")
PLACES: dict[str, Callable[[str], str]] = {
    "of JSON": as_json,
    "of JSON in JSON": lambda secret: as_json(secret, 2),
    "of JSON in JSON in JSON": lambda secret: as_json(secret, 3),
    "of a camel-cased name": lambda secret: as_json(secret, 2, "dbPass"),
    "of SQL": lambda secret: f"ALTER ROLE x PASSWORD {sql(secret)} VALID",
    "of SQL in JSON": lambda secret: as_json(f"ALTER ROLE x PASSWORD {sql(secret)} VALID", 1, "statement"),
    "of a connection": lambda secret: f"host=h password={sql(secret)} user=u",
    "of an assignment": lambda secret: f"export DB_PASSWORD={secret} x=y",
    "of YAML": lambda secret: f"clientSecret: {secret}\nnext: stays",
    "of an option": lambda secret: f"run --db-password {secret} x",
    "of an option with its sign": lambda secret: f"run --auth-token={secret} x",
    "of a header": lambda secret: f"Authorization: Token {secret}",
    "of a header in JSON": lambda secret: as_json(f"Token {secret}", 2, "Authorization"),
    "of a URL": lambda secret: f"proxy http://user:{secret}@host:1/path refuses",
    "of a database": lambda secret: f"mysql+x://user:{secret}@host:1/path refuses",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_stays_in_a_text(place: str, secret: str) -> None:
    redactor = Redactor()
    redacted = redactor.text(f"before {PLACES[place](secret)}")
    assert PIECES.findall(redacted) == []
    assert redacted.startswith("before ")
    assert redactor.removed > 0


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_json_around_a_secret_stays(depth: int) -> None:
    read = json.loads(Redactor().text(as_json('hunter2"Zq9', depth)))
    for _ in range(depth - 1):
        assert read["next"] == "stays"
        read = json.loads(read["message"])
    assert read == {"api_key": REDACTED, "next": "stays"}


@pytest.mark.parametrize(
    "text", ["https://host/v1?key=AQ.hunter2Zq9", "?a=b&key=hunter2Zq9&x=y", "the key AQ.Ab8RN6hunter2Zq9 is refused"]
)
def test_keys_of_apis_are_removed_from_urls_and_texts(text: str) -> None:
    assert PIECES.findall(Redactor().text(text)) == []


TELLING: list[tuple[Any, Any]] = [
    ({"annotations": {"password": "hunter2"}}, {"annotations": {"password": REDACTED}}),
    ({"annotations": {"example.com/api-key": "hunter2"}}, {"annotations": {"example.com/api-key": REDACTED}}),
    (
        {"csi": {"volumeAttributes": {"clientSecret": "hunter2"}}},
        {"csi": {"volumeAttributes": {"clientSecret": REDACTED}}},
    ),
    ({"tokens": ["hunter2"]}, {"tokens": [REDACTED]}),
    ({"credentials": {"user": "hunter2"}}, {"credentials": {"user": REDACTED}}),
]
REFERENCES: list[Any] = [
    {"volumes": [{"name": "v", "secret": {"secretName": "of-a-database", "items": [{"key": "k", "path": "p"}]}}]},
    {"imagePullSecrets": [{"name": "registry"}]},
    {"automountServiceAccountToken": True, "serviceAccountName": "operator"},
    {"status": {"today": {"tokens": 12_000}}},
    {
        "projected": {
            "sources": [{"serviceAccountToken": {"path": "token", "audience": "api", "expirationSeconds": 3607}}]
        }
    },
]


@pytest.mark.parametrize(("given", "expected"), TELLING)
def test_the_value_of_a_telling_key_is_removed(given: Any, expected: Any) -> None:
    assert Redactor().tree(given) == expected


@pytest.mark.parametrize("given", REFERENCES)
def test_the_names_of_secrets_and_numbers_stay(given: Any) -> None:
    assert Redactor().tree(given) == given


@pytest.mark.parametrize(
    "node",
    [
        {"args": ["--login", "hunter2Zq9"]},
        {"args": ["--login", "correct-horse"]},
        {"args": ["--login=hunter2Zq9"]},
        {"command": ["sh", "-c", "login hunter2Zq9 && run"]},
        {"annotations": {"password": "hunter2Zq9"}},
    ],
)
def test_what_is_removed_by_its_place_is_removed_wherever_it_is_repeated(node: Any) -> None:
    redactor = Redactor()
    redactor.learn({"spec": [node]})
    said = redactor.text("operator: hunter2Zq9 or correct-horse is refused by login")
    assert said.count(REDACTED) == 1
    assert said.endswith("is refused by login")


def test_the_name_of_the_operator_and_of_a_source_that_a_worker_fills_are_never_learned() -> None:
    redactor = Redactor()
    redactor.learn({"args": ["--name=embedding-operator"], "env": [variable("NAME", value="embedding-operator")]})
    redactor.learn({"args": ["backfill-worker", "shops/photos2", "--run=20260301-1"]})
    said = "embedding-operator fills shops/photos2 in run 20260301-1"
    assert redactor.text(said) == said


@pytest.mark.parametrize("value", ['hunter2"Zq9', "hunter2 Zq9/Qz7", "hunter2Zq9\n"])
def test_a_value_is_recognized_in_json_in_a_url_and_in_base64(value: str) -> None:
    redactor = Redactor()
    redactor.learn({"env": [variable("LOGIN", value=value)]})
    for form in (json.dumps({"note": value}), f"/login/{quote(value, safe='')}", b64encode(value.encode()).decode()):
        assert PIECES.findall(redactor.text(form)) == []
        assert REDACTED in redactor.text(form)


@pytest.mark.parametrize(
    "unit",
    ["a-", "a.", "a", "token", "token ", "password=", "password='", "-", "--a-token", "eyJ-", "://", "a://", "\\", "sk-", "&a",
     "-----BEGIN ", 'token"', "authorization: ", "[", " ", "'", '\\"', "bearer ", "AQ.", "password \\"],
)  # fmt: skip
def test_the_time_is_in_proportion_to_the_text(unit: str) -> None:
    text = unit * (64 * 1024 // len(unit))
    began = time.process_time()
    Redactor().text(text)
    assert time.process_time() - began < 5
