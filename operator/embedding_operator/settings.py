"""What this process is told by its environment: read here, once, and nowhere else.

Everything that is wrong is reported at once, each by the variable's name; a secret's value is never part of a message.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from embedding_operator.rotation import MountedSecret, SecretUnreadable, read_secret
from embedding_worker.providers import Credentials
from embedding_worker.rows.database import unusable_url

PREFIX = "EMBEDDING_"
SECRETS = ("DATABASE_URL", "GEMINI_API_KEY")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Kubernetes puts such variables into every pod for each Service of the namespace; one named embedding-… is no typo of ours.
SERVICE_VARIABLE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)$")


class SettingsRefused(Exception):
    """One sentence for each variable that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseModel):
    """Each field is the environment variable of its alias."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr = Field(alias="DATABASE_URL", description="the database of all sources, as a libpq URL")
    database_url_file: Path | None = Field(
        None, alias="DATABASE_URL_FILE", description="the file that holds it, read again when it changes"
    )
    kubeconfig: Path | None = Field(None, alias="KUBECONFIG", description="outside a cluster: where the API server is")
    namespace: str | None = Field(
        None,
        alias="EMBEDDING_NAMESPACE",
        min_length=1,
        description="where sources and jobs are; by default the pod's namespace, or the kubeconfig's",
    )
    interval_s: float = Field(
        0.5, alias="EMBEDDING_INTERVAL_SECONDS", ge=0.05, le=60, description="between two looks at the due rows"
    )
    max_open_jobs: int = Field(500, alias="EMBEDDING_MAX_OPEN_JOBS", ge=1, le=1500, description="jobs open at once")
    max_finished_jobs: int = Field(
        500, alias="EMBEDDING_MAX_FINISHED_JOBS", ge=0, le=5000, description="finished jobs kept to be looked at"
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
    gemini_api_key: SecretStr | None = Field(None, alias="GEMINI_API_KEY", description="for sources of provider gemini")
    gemini_api_key_file: Path | None = Field(
        None, alias="GEMINI_API_KEY_FILE", description="the file that holds it, read again when it changes"
    )
    gemini_endpoint: str | None = Field(
        None, alias="EMBEDDING_GEMINI_ENDPOINT", description="another server that answers as Google's does"
    )
    audit_rows_per_s: float = Field(
        500,
        alias="EMBEDDING_AUDIT_ROWS_PER_SECOND",
        gt=0,
        allow_inf_nan=False,
        description="pace of the audit, after its first pass",
    )
    log_format: Literal["json", "console"] = Field("json", alias="EMBEDDING_LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="EMBEDDING_LOG_LEVEL")

    def credentials(self) -> Credentials:
        """What the providers are given."""
        key = self.gemini_api_key
        return Credentials(key.get_secret_value() if key else None, self.gemini_endpoint)

    def mounted_secrets(self) -> list[MountedSecret]:
        """Those that files hold, as they were read."""
        pairs = ((self.database_url_file, self.database_url), (self.gemini_api_key_file, self.gemini_api_key))
        return [
            MountedSecret(f"{name}_FILE", path, value.get_secret_value())
            for name, (path, value) in zip(SECRETS, pairs, strict=True)
            if path is not None and value is not None
        ]


def settings_from(environ: Mapping[str, str]) -> Settings:
    """The settings that these variables spell. Raises SettingsRefused with all that is wrong, at once."""
    problems: list[str] = []
    known = {str(field.alias) for field in Settings.model_fields.values()}
    values: dict[str, Any] = {name: environ[name] for name in known if environ.get(name, "").strip()}
    for name in SECRETS:
        _read_secret(name, environ, values, problems)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not SERVICE_VARIABLE.match(name):
            problems.append(f"{name} is no setting of this version: correct its name, or remove it")
    if (url := values.get("DATABASE_URL")) and (reason := unusable_url(url)):
        problems.append(f"DATABASE_URL is no database URL: {reason}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as exc:
        told = {problem.split()[0].removesuffix("_FILE") for problem in problems}
        errors = exc.errors(include_input=True, include_url=False)
        problems += [_problem(error) for error in errors if str(error["loc"][0]) not in told]
        raise SettingsRefused(sorted(problems)) from None
    if problems:
        raise SettingsRefused(sorted(problems))
    return settings


def _read_secret(name: str, environ: Mapping[str, str], values: dict[str, Any], problems: list[str]) -> None:
    """A secret may also be mounted: NAME_FILE names the file that holds it."""
    file_name = environ.get(f"{name}_FILE")
    if not file_name:
        return
    if name in values:
        problems.append(f"{name} and {name}_FILE are both set: keep one of them")
        return
    try:
        values[name] = read_secret(f"{name}_FILE", file_name)
    except SecretUnreadable as exc:
        problems.append(str(exc))


def _problem(error: Any) -> str:
    name = str(error["loc"][0]) if error["loc"] else "the settings"
    if error["type"] == "missing":
        return f"{name} is not set: it is needed{', or ' + name + '_FILE' if name in SECRETS else ''}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{name} is {error['input']!r}: {message}" if name not in SECRETS else f"{name}: {message}"


def settings_of_this_process() -> Settings:
    """Raises SettingsRefused."""
    return settings_from(os.environ)


def pod_namespace() -> str | None:
    """The namespace of the pod that this runs in; None outside of a cluster."""
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else None
