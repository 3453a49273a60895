"""The chart without Helm in the cluster: rendered by helm or kustomize and applied with kubectl, as docs/gitops.md says."""

import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.control_plane.pins import pins
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import wait_until_served
from hack.repository import CHART, ROOT
from tests.chart.test_releases import CRD_NAMES, OURS, cleared_afterwards
from tests.support.chart import DATABASE, RELEASE, Helm, Json

EXAMPLE = ROOT / "docs" / "examples" / "kustomize"
POSTGRESQL: Json = {
    "postgresql": {"enabled": True, "password": "x", "persistence": {"enabled": True, "size": "1024Mi"}}
}
VALUE_SETS: dict[str, Json] = {"the least": DATABASE, "a PostgreSQL of its own": POSTGRESQL}
APPLIED = {"client-side": ("apply",), "server-side": ("apply", "--server-side")}


@pytest.fixture
def kubectl(chart_cluster: Cluster) -> Iterator[Kubectl]:
    with cleared_afterwards(chart_cluster, "rendered") as administrator:
        administrator.run("create", "namespace", administrator.namespace)
        yield administrator


def rendered(helm: Helm, kubectl: Kubectl, values: Json, *flags: str) -> str:
    where = ("--namespace", kubectl.namespace, "--kube-version", pins().kubernetes)
    return helm.run("template", RELEASE, str(CHART), *where, *flags, values=values)


def apply(kubectl: Kubectl, text: str, *command: str) -> "subprocess.CompletedProcess[str]":
    return kubectl.try_run(*(command or ("apply",)), "-f", "-", stdin=text)


def pods_in(text: str) -> list[str]:
    return [found["metadata"]["name"] for found in yaml.safe_load_all(text) if found and found["kind"] == "Pod"]


@pytest.mark.parametrize("command", APPLIED.values(), ids=APPLIED)
@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_rendered_without_tests_it_can_be_applied_again_and_changed(
    helm: Helm, kubectl: Kubectl, values: Json, command: tuple[str, ...]
) -> None:
    changed = {**values, "settings": {"logLevel": "debug"}}
    for given in (values, values, changed):
        done = apply(kubectl, rendered(helm, kubectl, given, "--skip-tests"), *command)
        assert done.returncode == 0, done.stderr
    environment = kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "EMBEDDING_LOG_LEVEL", "value": "debug"} in environment


def test_applied_twice_nothing_differs(helm: Helm, kubectl: Kubectl) -> None:
    text = rendered(helm, kubectl, DATABASE, "--skip-tests")
    apply(kubectl, text)
    assert {line.rpartition(" ")[2] for line in apply(kubectl, text).stdout.splitlines()} == {"unchanged"}
    assert apply(kubectl, text, "diff").stdout == ""


def test_with_its_tests_a_change_is_refused_because_a_pod_is_immutable(helm: Helm, kubectl: Kubectl) -> None:
    """Which is why docs/gitops.md says --skip-tests."""
    assert apply(kubectl, rendered(helm, kubectl, DATABASE)).returncode == 0
    done = apply(kubectl, rendered(helm, kubectl, {**DATABASE, "settings": {"logLevel": "debug"}}))
    assert done.returncode == 1
    assert f'The Pod "{RELEASE}-check" is invalid: spec: Forbidden: pod updates may not change fields' in done.stderr


def test_the_check_is_the_only_hook(each_helm: Helm, kubectl: Kubectl) -> None:
    """kubectl applies a hook as any other object."""
    text = rendered(each_helm, kubectl, POSTGRESQL)
    hooks = [it for it in yaml.safe_load_all(text) if it and "helm.sh/hook" in it["metadata"].get("annotations", {})]
    assert [(it["kind"], it["metadata"]["annotations"]["helm.sh/hook"]) for it in hooks] == [("Pod", "test")]
    assert pods_in(text) == [f"{RELEASE}-check"]
    assert pods_in(rendered(each_helm, kubectl, POSTGRESQL, "--skip-tests")) == []


def test_kubectl_deletes_the_crds_although_helm_would_keep_them(helm: Helm, kubectl: Kubectl) -> None:
    """docs/gitops.md warns of it, and says what to do instead."""
    text = rendered(helm, kubectl, DATABASE, "--skip-tests")
    apply(kubectl, text)
    wait_until_served(kubectl, CRD_NAMES)
    kubectl.run("delete", "-f", "-", "--timeout=60s", stdin=text, within_s=90)
    assert [crd for crd in kubectl.get("crds")["items"] if crd["spec"]["group"] == OURS] == []


def kustomization(folder: Path, namespace: str, **more: Any) -> Path:
    """The documented kustomization in `folder`, with the chart beside it, for a namespace of a test."""
    shutil.copytree(CHART, folder / "charts" / CHART.name)
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    file = folder / "kustomization.yaml"
    written = yaml.safe_load(file.read_text().replace("yellow-book", namespace, 1))
    (chart,) = written["helmCharts"]
    for remote in ("repo", "version"):
        chart.pop(remote, None)
    chart["namespace"] = written["namespace"] = namespace
    chart.update({"kubeVersion": pins().kubernetes, **more})
    file.write_text(yaml.safe_dump({**written, "helmGlobals": {"chartHome": "charts"}}))
    return folder


def built(helm: Helm, kubectl: Kubectl, folder: Path) -> str:
    return kubectl.run("kustomize", "--enable-helm", "--helm-command", str(helm.program), str(folder))


def test_kustomize_renders_applies_and_changes_the_chart(each_helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    folder = kustomization(tmp_path / "deploy", kubectl.namespace)
    text = built(each_helm, kubectl, folder)
    assert pods_in(text) == []
    for applied in (text, text, re.sub(r"\bvalue: info\b", "value: debug", text)):
        done = apply(kubectl, applied)
        assert done.returncode == 0, done.stderr
    container = kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "EMBEDDING_LOG_LEVEL", "value": "debug"} in container["env"]


def test_a_patch_of_kustomize_reaches_the_deployment(helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    """The documented patch; what is rendered is otherwise the same as helm's."""
    folder = kustomization(tmp_path / "deploy", kubectl.namespace)
    by_kustomize = {(it["kind"], it["metadata"]["name"]): it for it in yaml.safe_load_all(built(helm, kubectl, folder))}
    patched = by_kustomize["Deployment", RELEASE]["spec"]["template"]["spec"]
    assert patched.pop("hostAliases") == [{"ip": "10.0.0.7", "hostnames": ["db.example"]}]
    by_helm = list(yaml.safe_load_all(rendered(helm, kubectl, DATABASE, "--skip-tests")))
    assert by_kustomize == {(it["kind"], it["metadata"]["name"]): it for it in by_helm if it}


def test_a_rendered_file_can_be_patched_by_kustomize_without_helm(helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "operator.yaml").write_text(rendered(helm, kubectl, DATABASE, "--skip-tests"))
    shutil.copy(EXAMPLE / "patch.yaml", tmp_path)
    patches = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["patches"]
    described = {"resources": ["operator.yaml"], "patches": patches}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(described))
    for _ in range(2):
        done = kubectl.try_run("apply", "-k", str(tmp_path))
        assert done.returncode == 0, done.stderr
    assert kubectl.get("deployment", RELEASE)["spec"]["template"]["spec"]["hostAliases"][0]["ip"] == "10.0.0.7"


def test_two_environments_of_kustomize_share_nothing(helm: Helm, kubectl: Kubectl, tmp_path: Path) -> None:
    namespaces = (kubectl.namespace, f"{kubectl.namespace}-{secrets.token_hex(2)}")
    found = []
    for namespace in namespaces:
        folder = kustomization(tmp_path / namespace, namespace, valuesInline={**DATABASE, "crds": {"install": False}})
        objects = yaml.safe_load_all(built(helm, kubectl, folder))
        found.append({(it["kind"], it["metadata"].get("namespace", ""), it["metadata"]["name"]) for it in objects})
    assert found[0] & found[1] == set()
