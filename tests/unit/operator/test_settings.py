"""The settings from the environment: everything that is wrong is reported at once, and no secret is ever shown."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import pytest
from hypothesis import example, given
from hypothesis import settings as fuzz
from hypothesis import strategies as st
from pydantic import SecretStr

from embedding_operator import settings
from embedding_operator.rotation import MountedSecret
from embedding_operator.settings import SettingsRefused, settings_from, variables
from embedding_worker.providers.provider import Provider, ProviderSetting

URL = "postgresql://operator:hers@db.example/yellow_book"
GOOD = {"DATABASE_URL": URL}
MARKER = "s3cr3t-Marker"


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsRefused) as raised:
        settings_from(environ)
    return raised.value.problems


def test_a_database_url_is_enough() -> None:
    made = settings_from(GOOD)
    assert made.database_url.get_secret_value() == URL
    assert made.model_dump(exclude={"database_url"}) == {
        "kubeconfig": None,
        "namespace": None,
        "interval_s": 0.5,
        "max_open_jobs": 500,
        "pod_name": None,
        "max_finished_jobs": 500,
        "finished_job_age_s": 600,
        "price_per_million_tokens": 0,
        "http_port": 8080,
        "local_port": 8081,
        "audit_rows_per_s": 500,
        "api_keys": (),
        "backfill_pod_template": None,
        "log_format": "json",
        "log_level": "info",
        "provider_settings": {},
        "secret_files": {},
    }


def test_each_variable_is_read() -> None:
    made = settings_from(
        {
            **GOOD,
            "KUBECONFIG": "/home/me/kubeconfig",
            "EMBEDDING_NAMESPACE": "yellow-book",
            "EMBEDDING_POD_NAME": "operator-1",
            "EMBEDDING_INTERVAL_SECONDS": "0.05",
            "EMBEDDING_MAX_OPEN_JOBS": "1500",
            "EMBEDDING_MAX_FINISHED_JOBS": "0",
            "EMBEDDING_FINISHED_JOB_SECONDS": "1",
            "EMBEDDING_PRICE_PER_MILLION_TOKENS": "0.15",
            "EMBEDDING_HTTP_PORT": "0",
            "EMBEDDING_LOCAL_PORT": "8082",
            "GEMINI_API_KEY": MARKER,
            "EMBEDDING_GEMINI_ENDPOINT": "https://gemini.example",
            "EMBEDDING_AUDIT_ROWS_PER_SECOND": "0.5",
            "EMBEDDING_BACKFILL_POD_TEMPLATE_FILE": "/etc/embedding-operator/workers/job.yaml",
            "EMBEDDING_LOG_FORMAT": "console",
            "EMBEDDING_LOG_LEVEL": "debug",
        }
    )
    assert made.model_dump(exclude={"database_url"}) == {
        "kubeconfig": Path("/home/me/kubeconfig"),
        "namespace": "yellow-book",
        "interval_s": 0.05,
        "max_open_jobs": 1500,
        "pod_name": "operator-1",
        "max_finished_jobs": 0,
        "finished_job_age_s": 1,
        "price_per_million_tokens": 0.15,
        "http_port": 0,
        "local_port": 8082,
        "audit_rows_per_s": 0.5,
        "api_keys": (),
        "backfill_pod_template": Path("/etc/embedding-operator/workers/job.yaml"),
        "log_format": "console",
        "log_level": "debug",
        "provider_settings": {
            "GEMINI_API_KEY": SecretStr(MARKER),
            "EMBEDDING_GEMINI_ENDPOINT": SecretStr("https://gemini.example"),
        },
        "secret_files": {},
    }
    assert made.provider_values() == {
        "GEMINI_API_KEY": MARKER,
        "EMBEDDING_GEMINI_ENDPOINT": "https://gemini.example",
    }


def test_everything_that_is_wrong_is_said_at_once_each_by_its_name() -> None:
    wrong = {
        "DATABASE_URL": "no url",
        "EMBEDDING_INTERVAL_SECONDS": "often",
        "EMBEDDING_LOG_LEVEL": "loud",
        "EMBEDDING_MAX_OPEN_JOBS": "0",
        "EMBEDDING_MAX_OPEN_JOB": "5",
    }
    assert [problem.split()[0] for problem in problems(wrong)] == sorted(wrong)


def test_the_error_itself_says_every_problem_on_a_line_of_its_own() -> None:
    with pytest.raises(SettingsRefused) as raised:
        settings_from({"EMBEDDING_LOG_LEVEL": "loud"})
    assert str(raised.value).splitlines() == raised.value.problems
    assert len(raised.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("EMBEDDING_INTERVAL_SECONDS", value) for value in ("0.04", "61", "-1", "0,5", "nan", "inf", "soon")),
        *(("EMBEDDING_MAX_OPEN_JOBS", value) for value in ("0", "1501", "1.5", "many")),
        *(("EMBEDDING_MAX_FINISHED_JOBS", value) for value in ("-1", "5001")),
        *(("EMBEDDING_FINISHED_JOB_SECONDS", value) for value in ("0", "0.9", "nan")),
        *(("EMBEDDING_AUDIT_ROWS_PER_SECOND", value) for value in ("0", "-5", "nan")),
        *(("EMBEDDING_PRICE_PER_MILLION_TOKENS", value) for value in ("-0.1", "nan", "free")),
        *(("EMBEDDING_HTTP_PORT", value) for value in ("-1", "65536", "80.5", "http")),
        ("EMBEDDING_LOG_FORMAT", "yaml"),
        ("EMBEDDING_LOG_LEVEL", "INFO"),
    ],
)
def test_a_value_out_of_its_bounds_is_named_and_shown(name: str, value: str) -> None:
    (problem,) = problems(GOOD | {name: value})
    assert problem.startswith(f"{name} is {value!r}: ")


@pytest.mark.parametrize("kind", ["REQUESTS", "TEXTS", "TOKENS"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e6", "3,000", "1_000", "many", "1000000001", "9" * 5000, "٣"])
def test_a_rate_limit_that_is_no_whole_number_is_named_with_its_value_and_the_remedy(kind: str, value: str) -> None:
    name = f"EMBEDDING_GEMINI_{kind}_PER_MINUTE"
    assert problems(GOOD | {name: value}) == [
        f"{name} is {value!r}: set a whole number from 1 to 1000000000, or unset it for no limit"
    ]


def test_a_secret_that_its_provider_refuses_is_left_to_the_source(tmp_path: Path) -> None:
    assert settings_from(GOOD | {"GEMINI_API_KEY": "no key"}).provider_values() == {"GEMINI_API_KEY": "no key"}


def test_an_empty_variable_is_an_unset_one() -> None:
    assert settings_from(GOOD | {"EMBEDDING_INTERVAL_SECONDS": "", "KUBECONFIG": ""}) == settings_from(GOOD)


def test_a_database_url_that_is_missing_may_also_be_given_as_a_file() -> None:
    (problem,) = problems({})
    assert problem == "DATABASE_URL is not set: it is needed, or DATABASE_URL_FILE"


def test_a_secret_may_be_mounted(tmp_path: Path) -> None:
    mounted = tmp_path / "url"
    mounted.write_text(f"{URL}\n")
    made = settings_from({"DATABASE_URL_FILE": str(mounted)})
    assert made.database_url == SecretStr(URL)
    assert made.mounted_secrets() == [MountedSecret("DATABASE_URL_FILE", mounted, URL)]


def test_what_the_environment_holds_itself_is_not_mounted() -> None:
    assert settings_from(GOOD | {"GEMINI_API_KEY": MARKER}).mounted_secrets() == []


def test_a_secret_is_given_in_one_way_only(tmp_path: Path) -> None:
    mounted = tmp_path / "url"
    mounted.write_text(URL)
    (problem,) = problems(GOOD | {"DATABASE_URL_FILE": str(mounted)})
    assert problem == "DATABASE_URL and DATABASE_URL_FILE are both set: keep one of them"


@pytest.mark.parametrize("kind", ["missing", "a folder", "no text"])
def test_a_secrets_file_that_cannot_be_read_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "url"
    if kind == "a folder":
        path.mkdir()
    elif kind == "no text":
        path.write_bytes(b"\xff\xfe\x00")
    named = f"DATABASE_URL_FILE is {str(path)!r}, which cannot be read"
    assert any(problem.startswith(named) for problem in problems({"DATABASE_URL_FILE": str(path)}))


@pytest.mark.parametrize(
    "name", ["EMBEDDING_MAX_OPEN_JOB", "EMBEDDING_SERVICE", "EMBEDDING_PORTS", "EMBEDDING_", "EMBEDDING_LOGLEVEL"]
)
def test_a_variable_with_the_prefix_that_is_no_setting_is_refused(name: str) -> None:
    (problem,) = problems(GOOD | {name: "1"})
    assert problem.startswith(f"{name} is no setting of this version: ")


@pytest.mark.parametrize(
    "name",
    [
        "EMBEDDING_OPERATOR_SERVICE_HOST",
        "EMBEDDING_OPERATOR_SERVICE_PORT",
        "EMBEDDING_OPERATOR_SERVICE_PORT_METRICS",
        "EMBEDDING_OPERATOR_PORT",
        "EMBEDDING_OPERATOR_PORT_8080_TCP",
        "EMBEDDING_OPERATOR_PORT_8080_TCP_ADDR",
        "EMBEDDING_OPERATOR_PORT_8080_TCP_PORT",
        "EMBEDDING_OPERATOR_PORT_8080_TCP_PROTO",
        "EMBEDDING_DNS_PORT_53_UDP_ADDR",
    ],
)
def test_what_kubernetes_says_of_a_service_is_tolerated(name: str) -> None:
    assert settings_from(GOOD | {name: "tcp://10.0.0.1:8080"}) == settings_from(GOOD)


def test_variables_of_other_programs_are_ignored() -> None:
    assert settings_from(GOOD | {"PATH": "/bin", "MY_EMBEDDING_LOG_LEVEL": "loud"}) == settings_from(GOOD)


def test_settings_do_not_show_their_secrets() -> None:
    made = settings_from({"DATABASE_URL": f"postgresql://operator:{MARKER}@db.example/yellow_book"})
    assert MARKER not in repr(made) + str(made) + made.model_dump_json()


@pytest.mark.parametrize(
    "broken",
    [
        "postgresql://operator:{}@[::1/db",
        "postgresql://operator:{}@[::1]x/db",
        "postgresql://operator:{}@[]/db",
        "postgresql://operator:{}@db.example/db?pasword=x",
        "postgresql://operator:{}@db.example/db?sslmode",
        "postgresql://operator:{}@db.example/db?a=b=c",
        "postgresql://operator:{}@db.example/%zz",
        "postgresql://operator:{}@db.example%zz/db",
        "postgresql://operator@db.example/db?password={}&schemas=public",
        "postgres:/operator:{}@db.example/db",
        "https://operator:{}@db.example/db",
        '"postgresql://operator:{}@db.example/db"',
        "host=db.example password={} nonsense",
        "host=db.example password='{}",
        "host=db.example password={} pasword=x",
        "host=db.example password {}",
        "{}",
    ],
)
def test_no_broken_url_shows_its_password(broken: str) -> None:
    (problem,) = problems({"DATABASE_URL": broken.format(MARKER)})
    assert problem.startswith("DATABASE_URL is no database URL: ")
    assert MARKER not in problem


def test_an_unusable_url_in_a_file_is_named_by_the_variable_of_the_file(tmp_path: Path) -> None:
    mounted = tmp_path / "url"
    mounted.write_text(f"postgresql://operator:{MARKER}@h@db.example/db")
    (problem,) = problems({"DATABASE_URL_FILE": str(mounted)})
    assert problem.startswith("DATABASE_URL_FILE is no database URL: its password contains a raw @: ")


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://a:b@h/db", "jdbc:postgresql://h/db?user=a", f"{URL}?schema=public", f"{URL}\n"]
)
def test_a_url_of_another_tool_is_a_setting(url: str) -> None:
    assert settings_from({"DATABASE_URL": url}).database_url == SecretStr(url)


@given(
    before=st.binary(max_size=20),
    after=st.binary(max_size=20),
    variable=st.sampled_from(["DATABASE_URL", "GEMINI_API_KEY"]),
)
@fuzz(max_examples=100, deadline=None)
@example(before=b"postgresql://user:one@h/db\n# was: postgresql://user:", after=b"@h/db", variable="DATABASE_URL")
@example(before=b"postgresql://user:a?b=c&", after=b"=c@h/db", variable="DATABASE_URL")
def test_no_problem_shows_what_a_secret_holds(before: bytes, after: bytes, variable: str) -> None:
    value = before + MARKER.encode() + after
    with TemporaryDirectory() as folder:
        file = Path(folder) / "secret"
        file.write_bytes(value)
        in_file = {f"{variable}_FILE": str(file), "EMBEDDING_LOG_LEVEL": "loud"}
        instead_of_a_file = {f"{variable}_FILE": f"no-file:{os.fsdecode(value)}"}
        given_itself = {variable: os.fsdecode(value), "EMBEDDING_LOG_LEVEL": "loud"}
        for environ in (in_file, instead_of_a_file, given_itself):
            with pytest.raises(SettingsRefused) as raised:
                settings_from(({} if variable == "DATABASE_URL" else GOOD) | environ)
            assert MARKER not in f"{raised.value!r}"


def test_a_password_is_not_shown_by_what_is_wrong_elsewhere() -> None:
    wrong = {"DATABASE_URL": f"postgresql://operator:{MARKER}@db.example/db", "EMBEDDING_LOG_LEVEL": "loud"}
    with pytest.raises(SettingsRefused) as raised:
        settings_from(wrong)
    assert MARKER not in f"{raised.value!r} {raised.value.__cause__!r}"


def test_the_environment_of_the_process_is_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", URL)
    assert settings.settings_of_this_process() == settings_from(GOOD)


def test_a_pod_knows_its_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = tmp_path / "namespace"
    monkeypatch.setattr(settings, "NAMESPACE_FILE", mounted)
    assert settings.pod_namespace() is None
    mounted.write_text("yellow-book\n")
    assert settings.pod_namespace() == "yellow-book"


@pytest.mark.parametrize("content", ["", " \n"], ids=["empty", "blank"])
def test_a_secrets_file_that_is_empty_is_one_problem(tmp_path: Path, content: str) -> None:
    file = tmp_path / "url"
    file.write_text(content)
    (problem,) = problems({"DATABASE_URL_FILE": str(file)})
    assert problem == f"DATABASE_URL_FILE is {str(file)!r}, which is empty: write the secret into it"


def test_a_blank_database_url_counts_as_unset() -> None:
    assert problems({"DATABASE_URL": " "}) == ["DATABASE_URL is not set: it is needed, or DATABASE_URL_FILE"]


def test_a_secrets_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    (problem,) = problems({"DATABASE_URL_FILE": str(tmp_path / "missing")})
    assert problem.startswith("DATABASE_URL_FILE is ")


@pytest.mark.parametrize(
    "name",
    ["EMBEDDING_AUDIT_ROWS_PER_SECOND", "EMBEDDING_FINISHED_JOB_SECONDS", "EMBEDDING_PRICE_PER_MILLION_TOKENS"],
)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_pace_is_a_finite_number(name: str, value: str) -> None:
    (problem,) = problems({**GOOD, name: value})
    assert problem.startswith(f"{name} is '{value}'")


def test_the_providers_key_may_be_mounted(tmp_path: Path) -> None:
    mounted = tmp_path / "key"
    mounted.write_text(f"{MARKER}\n")
    made = settings_from(GOOD | {"GEMINI_API_KEY_FILE": str(mounted)})
    assert made.provider_values() == {"GEMINI_API_KEY": MARKER}
    assert made.mounted_secrets() == [MountedSecret("GEMINI_API_KEY_FILE", mounted, MARKER)]
    assert MARKER not in repr(made.mounted_secrets())


def test_the_providers_key_is_given_in_one_way_only(tmp_path: Path) -> None:
    mounted = tmp_path / "key"
    mounted.write_text(MARKER)
    (problem,) = problems(GOOD | {"GEMINI_API_KEY": MARKER, "GEMINI_API_KEY_FILE": str(mounted)})
    assert problem == "GEMINI_API_KEY and GEMINI_API_KEY_FILE are both set: keep one of them"


def test_a_file_for_the_providers_key_that_is_not_there_is_one_problem(tmp_path: Path) -> None:
    (problem,) = problems(GOOD | {"GEMINI_API_KEY_FILE": str(tmp_path / "missing")})
    assert problem.startswith("GEMINI_API_KEY_FILE is ")


def test_settings_do_not_show_the_providers_key() -> None:
    made = settings_from(GOOD | {"GEMINI_API_KEY": MARKER})
    assert MARKER not in repr(made) + str(made) + made.model_dump_json()


def test_the_providers_key_is_not_shown_by_what_is_wrong_elsewhere() -> None:
    wrong = GOOD | {"GEMINI_API_KEY": MARKER, "EMBEDDING_HTTP_PORT": "http"}
    with pytest.raises(SettingsRefused) as raised:
        settings_from(wrong)
    assert MARKER not in f"{raised.value!r} {raised.value.__cause__!r}"


def no_embedder(model: object, values: object) -> NoReturn:
    raise AssertionError("no embedder is made by reading settings")


ANOTHER = {
    "another": Provider(
        name="another",
        make=no_embedder,
        settings=(
            ProviderSetting("ANOTHER_KEY", "a key", secret=True, required=True),
            ProviderSetting("EMBEDDING_ANOTHER_REGION", "a region"),
        ),
    )
}


def test_the_settings_of_a_provider_are_those_that_it_registers(tmp_path: Path) -> None:
    mounted = tmp_path / "key"
    mounted.write_text(f"{MARKER}\n")
    environ = GOOD | {"ANOTHER_KEY_FILE": str(mounted), "EMBEDDING_ANOTHER_REGION": "north", "GEMINI_API_KEY": "k"}
    made = settings_from(environ, providers=ANOTHER)
    assert made.provider_values() == {"ANOTHER_KEY": MARKER, "EMBEDDING_ANOTHER_REGION": "north"}
    assert made.mounted_secrets() == [MountedSecret("ANOTHER_KEY_FILE", mounted, MARKER)]
    assert MARKER not in repr(made) + str(made) + made.model_dump_json()


def test_a_variable_of_a_provider_that_is_not_installed_is_no_setting() -> None:
    with pytest.raises(SettingsRefused) as raised:
        settings_from(GOOD | {"EMBEDDING_GEMINI_ENDPOINT": "https://gemini.example"}, providers=ANOTHER)
    assert raised.value.problems[0].startswith("EMBEDDING_GEMINI_ENDPOINT is no setting of this version: ")


def test_the_variables_are_those_of_the_process_and_of_its_providers_with_their_files() -> None:
    assert {"DATABASE_URL", "DATABASE_URL_FILE", "KUBECONFIG"} <= variables(ANOTHER)
    assert {"ANOTHER_KEY", "ANOTHER_KEY_FILE", "EMBEDDING_ANOTHER_REGION"} <= variables(ANOTHER)
    assert "EMBEDDING_ANOTHER_REGION_FILE" not in variables(ANOTHER)
