"""docs/install.md, "Without rights in the cluster": an administrator runs its commands, then a person with only the Role of
docs/examples/helm/installer-role.yaml installs with Helm 3 and 4, on an API server that logs each request.

No pods run here, so the test writes their final states.
"""

import json
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.go_build.programs import go_program
from hack.installation.kubectl import Kubectl
from hack.repository import CHART, ROOT
from tests.support.chart import NAMESPACE, RELEASE, Helm, Json
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines
from tests.support.rights import single_rules

pytestmark = pytest.mark.timeout(900)  # the first of them waits for two Helms

PAGE = ROOT / "docs" / "install.md"
EXAMPLES = ROOT / "docs" / "examples" / "helm"
ROLE = EXAMPLES / "installer-role.yaml"
VALUES = ("--values", str(EXAMPLES / "values-without-cluster-rights.yaml"))
INSTALLER = "installer"
Request = tuple[str, str, str]
"""Verb, API group, and resource with its subresource."""
OPTIONAL: Request = ("get", "", "namespaces")
"""Helm requests it if a pod does not exist yet, and continues without it."""


@dataclass(frozen=True)
class Prepared:
    """A cluster whose administrator has run the commands of the page, and the kubeconfig of a person who installs there."""

    admin: Kubectl
    installer: Path
    audit_log: Path

    def requests(self) -> dict[Request, set[int]]:
        """The requests of the installer so far, with the status codes of the answers."""
        found: dict[Request, set[int]] = {}
        for entry in json_lines(self.audit_log):
            if entry["user"]["username"].endswith(f":{INSTALLER}") and {"objectRef", "responseStatus"} <= entry.keys():
                at = entry["objectRef"]
                resource = "/".join(filter(None, (at["resource"], at.get("subresource"))))
                codes = found.setdefault((entry["verb"], at.get("apiGroup", ""), resource), set())
                codes.add(entry["responseStatus"]["code"])
        return found


@pytest.fixture(scope="module")
def prepared(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("without-admin")
    with ControlPlane(folder / "control-plane", programs=programs, audit_log=True) as plane:
        admin = Kubectl(Cluster(plane.kubeconfig, plane.kubectl, "one with an administrator"), NAMESPACE)
        admin.run("create", "namespace", NAMESPACE)
        admin.run("create", "serviceaccount", INSTALLER)
        helm = Helm(go_program("helm4"), folder)
        admin.run("apply", "--server-side", "-f", "-", stdin=helm.run(*administrators_template()))
        admin.run("apply", "-f", str(ROLE))
        role = yaml.safe_load(ROLE.read_text())["metadata"]["name"]
        admin.run("create", "rolebinding", INSTALLER, f"--role={role}", f"--serviceaccount={NAMESPACE}:{INSTALLER}")
        out = folder / "installer.kubeconfig"
        installer = service_account_kubeconfig(plane.kubeconfig, NAMESPACE, INSTALLER, out, kubectl=plane.kubectl)
        assert plane.audit_log is not None
        yield Prepared(admin, installer, plane.audit_log)


def administrators_template() -> list[str]:
    """The arguments of the page's `helm template` command, with the chart of this checkout."""
    (command,) = re.findall(r"helm (template .*?--show-only templates/crds.yaml.*?)\|", PAGE.read_text(), re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))
    return [str(CHART) if word.endswith("/embedding-operator") else word for word in words]


def test_the_administrator_creates_crds_the_operators_rights_and_peoples_roles(prepared: Prepared) -> None:
    created = prepared.admin.get(
        "crds,serviceaccounts,roles,rolebindings,clusterroles", "-l", f"app.kubernetes.io/name={RELEASE}"
    )
    kinds = [item["kind"] for item in created["items"]]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "CustomResourceDefinition": 2,
        "ServiceAccount": 1,
        "Role": 1,
        "RoleBinding": 1,
        "ClusterRole": 6,
    }


@pytest.fixture(scope="module")
def requests(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> dict[Request, set[int]]:
    """The requests of Helm 3 and 4 from the installation of a release to its removal, with the status codes of the answers."""
    for program in ("helm3", "helm4"):
        helm = Helm(go_program(program), tmp_path_factory.mktemp(program), prepared.installer)
        use_release(prepared.admin, helm, "--namespace", NAMESPACE)
    return prepared.requests()


def use_release(admin: Kubectl, helm: Helm, *flags: str) -> None:
    """Install, upgrade, roll back, test, inspect and remove a release."""
    helm.run("install", RELEASE, str(CHART), *flags, *VALUES)
    pod = admin.get("deployment", RELEASE)["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "embedding-operator"
    upgraded = helm.try_run("upgrade", RELEASE, str(CHART), *flags, *VALUES, "--wait", "--timeout=3s")
    assert "deadline exceeded" in upgraded.stderr  # no pod runs in this cluster
    helm.run("rollback", RELEASE, "1", *flags)
    run_the_check(admin, helm, *flags)
    helm.run("status", RELEASE, *flags)
    helm.run("uninstall", RELEASE, *flags)


def run_the_check(admin: Kubectl, helm: Helm, *flags: str) -> None:
    """Run `helm test`, and write the status of its pod as soon as the pod exists."""
    check = f"{RELEASE}-check"
    with ThreadPoolExecutor() as executor:
        testing = executor.submit(helm.run, "test", RELEASE, *flags, "--logs", "--timeout=180s", within_s=200)
        wait_until(
            lambda: admin.try_run("get", "pod", check).returncode == 0, within_s=120, because="Helm creates the pod"
        )
        patch = json.dumps({"status": {"phase": "Succeeded", "conditions": [{"type": "Ready", "status": "False"}]}})
        admin.run("patch", "pod", check, "--subresource=status", "--type=merge", "-p", patch)
        testing.result()
    admin.run("delete", "pod", check, "--force", "--grace-period=0")


def test_the_documented_role_is_sufficient_for_both_helms(requests: dict[Request, set[int]]) -> None:
    assert {request for request, codes in requests.items() if 403 in codes} <= {OPTIONAL}


def test_the_documented_role_contains_no_unused_right(requests: dict[Request, set[int]]) -> None:
    """Compared by resource, because the server's version decides how Helm's clients list and watch."""
    resources = {resource for _, _, resource in requests}
    rules: list[Json] = yaml.safe_load(ROLE.read_text())["rules"]
    assert {resource for rule in rules for resource in rule["resources"]} - resources == set()


def test_the_installer_cannot_create_what_the_administrator_created(prepared: Prepared, tmp_path: Path) -> None:
    helm = Helm(go_program("helm4"), tmp_path, prepared.installer)
    done = helm.try_run("install", "other", str(CHART), "--namespace", NAMESPACE, *VALUES, "--set=rbac.create=true")
    assert done.returncode != 0
    assert "forbidden" in done.stderr


def test_a_person_with_edit_in_a_namespace_can_install(prepared: Prepared) -> None:
    """The page says that Kubernetes' ClusterRole edit contains all rights of the documented Role."""
    parts = ("system:aggregate-to-view", "system:aggregate-to-edit")
    edit = [rule for part in parts for rule in prepared.admin.get("clusterrole", part)["rules"]]
    assert set(single_rules(yaml.safe_load(ROLE.read_text())["rules"])) - set(single_rules(edit)) == set()
