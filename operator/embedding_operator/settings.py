"""The settings of this process, read from its environment: here, once, and nowhere else.

The settings of providers are those that the providers register. Everything that is wrong is reported at once, each by the
variable's name; a secret's value is never part of a message.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from embedding_operator.api_keys import DeclaredKey, declared_keys
from embedding_operator.rotation import MountedSecret, SecretUnreadable, read_secret
from embedding_worker.errors import SourceRefused
from embedding_worker.providers.accounts import ApiKey
from embedding_worker.providers.provider import Provider, ProviderSetting, registered_providers
from embedding_worker.providers.registry import Credentials
from embedding_worker.rows.database_url import unusable_url

PREFIX = "EMBEDDING_"
DATABASE_URL = "DATABASE_URL"
SERVE_PREFIX = "EMBEDDING_SERVE_"
"""Of the settings of `embedding-operator serve`, which other commands leave alone."""
SERVE_TOKEN = f"{SERVE_PREFIX}TOKEN"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Kubernetes sets such variables in every pod for each Service of the namespace, also for one that is named embedding-….
SERVICE_VARIABLE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)$")


class SettingsRefused(Exception):
    """One sentence for each variable that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseModel):
    """Each field is the environment variable of its alias; the last two hold what has no field of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    own_secrets: ClassVar[tuple[str, ...]] = (DATABASE_URL,)
    """Those that belong to no provider."""

    database_url: SecretStr = Field(alias=DATABASE_URL, description="the database of all sources, as a libpq URL")
    kubeconfig: Path | None = Field(None, alias="KUBECONFIG", description="outside a cluster: where the API server is")
    namespace: str | None = Field(
        None,
        alias="EMBEDDING_NAMESPACE",
        min_length=1,
        description="where sources and jobs are; by default the pod's namespace, or the kubeconfig's",
    )
    pod_name: str | None = Field(
        None,
        alias="EMBEDDING_POD_NAME",
        min_length=1,
        max_length=253,
        description="who holds the Lease, as `kubectl get lease` shows it; by default the host's name",
    )
    interval_s: float = Field(
        0.5,
        alias="EMBEDDING_INTERVAL_SECONDS",
        ge=0.05,
        le=60,
        description="between two looks at the due rows while there is work; an edit ends the pause",
    )
    max_open_jobs: int = Field(500, alias="EMBEDDING_MAX_OPEN_JOBS", ge=1, le=1500, description="jobs open at once")
    max_finished_jobs: int = Field(
        500, alias="EMBEDDING_MAX_FINISHED_JOBS", ge=0, le=5000, description="finished jobs that may be kept"
    )
    finished_job_age_s: float = Field(
        600,
        alias="EMBEDDING_FINISHED_JOB_SECONDS",
        ge=1,
        allow_inf_nan=False,
        description="how long a finished job is kept",
    )
    price_per_million_tokens: float = Field(
        0,
        alias="EMBEDDING_PRICE_PER_MILLION_TOKENS",
        ge=0,
        allow_inf_nan=False,
        description="for the estimates of cost in a source's status",
    )
    http_port: int = Field(
        8080, alias="EMBEDDING_HTTP_PORT", ge=0, le=65535, description="/healthz, /readyz, /metrics; 0: any free one"
    )
    local_port: int = Field(
        8081,
        alias="EMBEDDING_LOCAL_PORT",
        ge=0,
        le=65535,
        description="for questions about rows, on 127.0.0.1 of the pod; 0: any free one",
    )
    audit_rows_per_s: float = Field(
        500,
        alias="EMBEDDING_AUDIT_ROWS_PER_SECOND",
        gt=0,
        allow_inf_nan=False,
        description="pace of the audit, after its first pass",
    )
    api_keys: Annotated[tuple[DeclaredKey, ...], BeforeValidator(declared_keys)] = Field(
        (), alias="EMBEDDING_API_KEYS", description="the keys that sources may name, as JSON that the chart writes"
    )
    backfill_pod_template: Path | None = Field(
        None,
        alias="EMBEDDING_BACKFILL_POD_TEMPLATE_FILE",
        description="where the chart enables worker pods: the template of their Job",
    )
    log_format: Literal["json", "console"] = Field("json", alias="EMBEDDING_LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="EMBEDDING_LOG_LEVEL")
    provider_settings: Mapping[str, SecretStr] = Field(
        default_factory=dict, description="the values of the providers' own settings, by variable"
    )
    secret_files: Mapping[str, Path] = Field(
        default_factory=dict, description="the files that hold secrets, by the secret's variable without _FILE"
    )

    def provider_values(self) -> Mapping[str, str]:
        """The values of all provider settings that are set, by variable: what the provider registry needs."""
        return {name: value.get_secret_value() for name, value in self.provider_settings.items()}

    def credentials(self) -> Credentials:
        """What the provider registry needs. Reads the files of the keys that sources name."""
        return Credentials(self.provider_values(), {declared.ref: declared.read() for declared in self.api_keys})

    def mounted_secrets(self) -> list[MountedSecret]:
        """The secrets that files hold, with the values that were read."""
        values = {**self.provider_values(), **self.own_secret_values()}
        return [MountedSecret(f"{name}_FILE", path, values[name]) for name, path in self.secret_files.items()]

    def own_secret_values(self) -> Mapping[str, str]:
        return {DATABASE_URL: self.database_url.get_secret_value()}

    def mounted_keys(self, in_force: Mapping[str, ApiKey]) -> list[MountedSecret]:
        """The files of the keys that sources name, with the values in force; empty where one is missing."""
        return [MountedSecret(key.ref, key.file, in_force[key.ref].value or "") for key in self.api_keys]


Kind = TypeVar("Kind", bound=Settings)


def settings_from(environ: Mapping[str, str], *, providers: Mapping[str, Provider] | None = None) -> Settings:
    """The settings that these variables spell. Raises SettingsRefused with everything that is wrong, at once."""
    return settings_of_kind(Settings, environ, providers=providers)


def settings_of_kind(
    kind: type[Kind], environ: Mapping[str, str], *, providers: Mapping[str, Provider] | None = None
) -> Kind:
    """The same for a command that has settings of its own."""
    providers = registered_providers() if providers is None else providers
    declared = _declared(providers)
    values = {name: environ[name] for name in own_variables(kind) | set(declared) if environ.get(name, "").strip()}
    secrets = [*kind.own_secrets, *(name for name, setting in declared.items() if setting.secret)]
    files, problems = _read_secrets(secrets, environ, values)
    problems += _unknown_variables(environ, known=variables(providers, kind))
    if (url := values.get(DATABASE_URL)) and (reason := unusable_url(url)):
        problems.append(f"{DATABASE_URL}{'_FILE' if DATABASE_URL in files else ''} is no database URL: {reason}")
    of_providers = {name: values.pop(name) for name in declared if name in values}
    problems += _unusable(declared, of_providers)
    try:
        settings = kind.model_validate(values | {"provider_settings": of_providers, "secret_files": files})
    except ValidationError as exc:
        reported = {problem.split()[0].removesuffix("_FILE") for problem in problems}
        errors = exc.errors(include_input=True, include_url=False)
        problems += [_problem(error) for error in errors if str(error["loc"][0]) not in reported]
        raise SettingsRefused(sorted(problems)) from None
    if problems:
        raise SettingsRefused(sorted(problems))
    return settings


def own_variables(kind: type[Settings] = Settings) -> set[str]:
    """The variables of the settings that belong to no provider, without those that name files."""
    aliases = {field.alias for field in kind.model_fields.values() if field.alias is not None}
    return aliases - ({DATABASE_URL} - set(kind.own_secrets))


def variables(providers: Mapping[str, Provider] | None = None, kind: type[Settings] = Settings) -> set[str]:
    """All variables that are read, those of the installed providers and those that name files among them."""
    declared = _declared(registered_providers() if providers is None else providers)
    secrets = {*kind.own_secrets, *(name for name, setting in declared.items() if setting.secret)}
    return own_variables(kind) | set(declared) | {f"{name}_FILE" for name in secrets}


def _declared(providers: Mapping[str, Provider]) -> dict[str, ProviderSetting]:
    return {setting.variable: setting for provider in providers.values() for setting in provider.settings}


def _unknown_variables(environ: Mapping[str, str], *, known: set[str]) -> list[str]:
    unknown = (name for name in environ if name.startswith(PREFIX) and name not in known)
    return [
        f"{name} is no setting of this version: correct its name, or remove it"
        for name in unknown
        if not SERVICE_VARIABLE.match(name) and (SERVE_TOKEN in known or not name.startswith(SERVE_PREFIX))
    ]


def _unusable(declared: Mapping[str, ProviderSetting], values: Mapping[str, str]) -> list[str]:
    """What is wrong with the values of providers that are no secrets; those are rotated, so their sources are refused instead."""
    problems = []
    for name, value in values.items():
        try:
            declared[name].secret or declared[name].usable(value)
        except SourceRefused as exc:
            problems.append(exc.message)
    return problems


def _read_secrets(
    names: Iterable[str], environ: Mapping[str, str], values: dict[str, str]
) -> tuple[dict[str, Path], list[str]]:
    """Add the secrets that files hold to the values: NAME_FILE names the file. Returns those files, and what is wrong."""
    files: dict[str, Path] = {}
    problems: list[str] = []
    for name in names:
        if not (file_name := environ.get(f"{name}_FILE")):
            continue
        if name in values:
            problems.append(f"{name} and {name}_FILE are both set: keep one of them")
            continue
        try:
            values[name] = read_secret(f"{name}_FILE", file_name)
            files[name] = Path(file_name)
        except SecretUnreadable as exc:
            problems.append(str(exc))
    return files, problems


def _problem(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else "the settings"
    is_secret = name in (DATABASE_URL, SERVE_TOKEN)
    if len(error["loc"]) > 1:
        within = ".".join(map(str, error["loc"][1:]))
        return f"{name} has a wrong {within}: {error['msg'][0].lower()}{error['msg'][1:]}"
    if error["type"] == "missing":
        return f"{name} is not set: it is needed{', or ' + name + '_FILE' if is_secret else ''}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name}: {message}" if is_secret else f"{name} is {error['input']!r}: {message}"


def settings_of_this_process() -> Settings:
    """Raises SettingsRefused."""
    return settings_from(os.environ)


def command_settings(kind: type[Kind]) -> Kind:
    """Those of a command that has settings of its own. Raises SettingsRefused."""
    return settings_of_kind(kind, os.environ)


def pod_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside a cluster."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else None


def pod_api_server() -> str | None:
    """The URL of the API server, as Kubernetes tells every pod; None outside a cluster."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return None
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def completion_index() -> int | None:
    """The index of this pod in its Indexed Job, as Kubernetes tells it; None elsewhere."""
    index = os.environ.get("JOB_COMPLETION_INDEX", "")
    return int(index) if index.isdecimal() else None


def environment_of_a_program() -> dict[str, str]:
    """The environment for a program that this process starts: without the settings of the operator, its secrets among them."""
    ours = variables()
    return {name: value for name, value in os.environ.items() if name not in ours and not name.startswith(SERVE_PREFIX)}
