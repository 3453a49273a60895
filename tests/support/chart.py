"""Renders and installs the chart with a real Helm. Called by all tests of the chart, and by tests of its rights."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import yaml

import hack.installation.helm
from embedding_operator.settings import Settings, settings_from
from hack.control_plane.pins import pins
from hack.repository import CHART

Json = dict[str, Any]
RELEASE, NAMESPACE = "embedding-operator", "yellow-book"
DATABASE = {"database": {"existingSecret": "yellow-book-database"}}
"""The values that the chart requires."""
COMPONENT = "app.kubernetes.io/component"
NO_CRDS = {"crds": {"install": False}}
"""Leaves out the CRDs, which most tests do not need, and whose parsing takes longer than everything else."""


class Objects(list[Json]):
    """Rendered objects of Kubernetes."""

    def of(self, kind: str) -> "Objects":
        return Objects(found for found in self if found["kind"] == kind)

    def one(self, kind: str, name: str | None = None) -> Json:
        """The only object of this kind, or of this kind and name."""
        found = [it for it in self.of(kind) if name in (None, it["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of kind {kind}, name {name or 'any'}"
        return found[0]

    def secret(self, name: str) -> dict[str, str]:
        """The decoded data of the Secret with this name."""
        return {key: b64decode(value).decode() for key, value in self.one("Secret", name)["data"].items()}

    def operator(self) -> Json:
        """The operator's Deployment."""
        operators = Objects(it for it in self.of("Deployment") if it["metadata"]["labels"][COMPONENT] == "operator")
        return operators.one("Deployment")

    def pod(self) -> Json:
        """The spec of the operator's pod."""
        spec: Json = self.operator()["spec"]["template"]["spec"]
        return spec

    def container(self) -> Json:
        (container,) = self.pod()["containers"]
        found: Json = container
        return found

    def environment(self) -> dict[str, str]:
        """The variables with a value. That of EMBEDDING_POD_NAME is a field of the pod, which is not known before it exists."""
        return {entry["name"]: entry["value"] for entry in self.container()["env"] if "valueFrom" not in entry}


def settings_of(rendered: Objects) -> Settings:
    """The settings that the operator reads from its environment. Values take the place of mounted files."""
    given = {
        "DATABASE_URL_FILE": ("DATABASE_URL", "postgresql://u@h/d"),
        "GEMINI_API_KEY_FILE": ("GEMINI_API_KEY", "k"),
        "OPENAI_API_KEY_FILE": ("OPENAI_API_KEY", "k"),
    }
    environment = rendered.environment()
    return settings_from(dict(given.get(name, (name, value)) for name, value in environment.items()))


def workers_template(rendered: Objects) -> Json:
    """The template of the workers' Job, as the operator reads it."""
    (config,) = rendered.of("ConfigMap")
    found: Json = yaml.safe_load(config["data"]["job.yaml"])
    return found


class Helm(hack.installation.helm.Helm):
    """Helm with this chart."""

    def render(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
        crds: bool = False,
    ) -> Objects:
        """All objects that the chart renders with these values and the required ones, hooks included."""
        whole = {**DATABASE, **({} if crds else NO_CRDS), **(values or {})}
        text = self.template(whole, release, namespace)
        return Objects(document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document)

    def template(self, values: Mapping[str, Any], release: str = RELEASE, namespace: str = NAMESPACE) -> str:
        version = pins().kubernetes  # a Helm that was built from its Go module has no default version
        arguments = ("template", release, str(CHART), "--namespace", namespace, "--kube-version", version)
        return self.run(*arguments, values=values)

    def refusal(self, values: Mapping[str, Any], *, release: str = RELEASE) -> str:
        """Helm's message for values that the chart refuses."""
        arguments = ("template", release, str(CHART), "--kube-version", pins().kubernetes)
        done = self.try_run(*arguments, values=values)
        assert done.returncode != 0, "Helm accepted the values"
        return done.stderr
