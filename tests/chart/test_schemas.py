"""The rendered objects match the schemas of the oldest and the newest supported Kubernetes."""

from functools import cache
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_validate import utils

from embedding_operator.resources.embedding_source import parse_source
from embedding_operator.resources.workers_job import job_manifest
from tests.support.chart import Helm, Json, workers_template
from tests.support.chart_values import VALUE_SETS
from tests.support.manifests import a_source
from tests.support.workers import a_run

OLDEST, NEWEST = "1.32", utils.major_minor(kubernetes_validate.latest_version())


@pytest.fixture(autouse=True)
def schemas_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads megabytes of JSON for each object."""
    monkeypatch.setattr(utils, "schema_contents", _schema_contents)


@cache
def _schema_contents(filename: str, version: str, *, read: Any = utils.schema_contents) -> Any:
    return read(filename, version)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_object_matches_the_schema(helm: Helm, values: Json, version: str) -> None:
    for found in helm.render(values, crds=True):
        assert kubernetes_validate.validate(found, version, strict=True) == version


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_the_job_of_workers_matches_the_schema(helm: Helm, version: str) -> None:
    template = workers_template(helm.render(VALUE_SETS["everything"]))
    job = job_manifest(template, parse_source(a_source("businesses")), a_run(workers=3))
    assert kubernetes_validate.validate(job, version, strict=True) == version


def test_a_misspelt_field_is_refused(helm: Helm) -> None:
    deployment = helm.render().one("Deployment")
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 45
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)
