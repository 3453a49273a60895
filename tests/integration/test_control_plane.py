"""The control plane that tests and demo use: it starts, it ends, and it affects no other cluster."""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane, free_ports
from hack.control_plane.state import read_state
from hack.database.postgres import DatabaseServer
from hack.errors import ToolError
from hack.processes.daemons import is_running, log_tail
from hack.processes.environment import program_environment
from hack.repository import ROOT
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines
from tests.support.kubectl import kubectl

MAY_READ_CONFIG_MAPS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reads-config-maps}
rules:
  - {apiGroups: [""], resources: [configmaps], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader-reads-config-maps}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reads-config-maps}
subjects:
  - {kind: ServiceAccount, name: reader}
"""


def run_python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A Python process with the repository's modules, and its input and output in pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=program_environment() | (environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def plane(programs: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane of this module, in addition to the run's cluster."""
    with ControlPlane(tmp_path_factory.mktemp("own") / "plane", audit_log=True) as started:
        yield started


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"test-{secrets.token_hex(4)}"
    created = kubectl(cluster.kubectl, cluster.admin_kubeconfig, "create", "namespace", name)
    assert created.returncode == 0, created.stderr
    yield name
    kubectl(cluster.kubectl, cluster.admin_kubeconfig, "delete", "namespace", name, "--wait=false")


def test_it_answers_with_the_pinned_version(programs: Binaries, cluster: Cluster) -> None:
    answer = kubectl(cluster.kubectl, cluster.admin_kubeconfig, "get", "--raw", "/version")
    assert json.loads(answer.stdout)["gitVersion"] == f"v{programs.kubernetes_version}"


def test_two_at_once_are_two_clusters(plane: ControlPlane, cluster: Cluster) -> None:
    made = kubectl(plane.kubectl, plane.kubeconfig, "create", "namespace", "only-in-one")
    assert made.returncode == 0, made.stderr
    assert kubectl(plane.kubectl, plane.kubeconfig, "get", "namespace", "only-in-one").returncode == 0
    missing = kubectl(cluster.kubectl, cluster.admin_kubeconfig, "get", "namespace", "only-in-one")
    assert "NotFound" in missing.stderr


def test_a_port_that_is_in_use_is_chosen_again(
    plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = read_state(plane.folder)
    assert state is not None
    chosen = [state.ports]
    monkeypatch.setattr("hack.control_plane.processes.free_ports", lambda: chosen.pop() if chosen else free_ports())
    with ControlPlane(tmp_path / "second") as second:
        assert not chosen
        assert kubectl(second.kubectl, second.kubeconfig, "get", "--raw", "/readyz").stdout == "ok"


def test_its_credentials_are_readable_by_their_owner_only(plane: ControlPlane) -> None:
    assert plane.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert plane.folder.stat().st_mode & 0o777 == 0o700


def test_the_audit_log_has_each_request(plane: ControlPlane) -> None:
    kubectl(plane.kubectl, plane.kubeconfig, "get", "limitranges", "--namespace=default")

    def verbs() -> set[str]:
        assert plane.audit_log is not None
        entries = json_lines(plane.audit_log)
        asked = [entry for entry in entries if entry.get("objectRef", {}).get("resource") == "limitranges"]
        return {entry["verb"] for entry in asked if entry["user"]["username"] == "admin"}

    assert wait_until(verbs, within_s=20, because="the request was answered") == {"list"}


def test_it_leaves_no_process_and_no_file(programs: Binaries, tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        state = read_state(plane.folder)
    assert state is not None
    assert state.ended == ["etcd", "kube-apiserver"]
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the end of a parent")
def test_it_ends_with_a_parent_that_is_killed(programs: Binaries, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from hack.control_plane.processes import ControlPlane
with ControlPlane(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""
    parent = run_python(code, str(tmp_path / "plane"))
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        state = read_state(tmp_path / "plane")
        assert state is not None
        assert state.ended == [], "\n".join(log_tail(daemon.log) for daemon in state.daemons)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(
        lambda: not any(is_running(daemon) for daemon in state.daemons), within_s=90, because="their parent was killed"
    )


def test_a_service_account_can_do_just_what_its_role_grants(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    admin = ["--namespace", namespace, "apply", "-f", "-"]
    made = kubectl(cluster.kubectl, cluster.admin_kubeconfig, *admin, manifest=MAY_READ_CONFIG_MAPS)
    assert made.returncode == 0, made.stderr
    reader = service_account_kubeconfig(
        cluster.admin_kubeconfig, namespace, "reader", tmp_path / "reader.kubeconfig", kubectl=cluster.kubectl
    )
    assert reader.stat().st_mode & 0o777 == 0o600

    def may_list_config_maps() -> bool:
        answer = kubectl(cluster.kubectl, reader, "get", "configmaps")
        assert answer.returncode == 0, answer.stderr
        return True

    wait_until(may_list_config_maps, within_s=30, because="its role in the context's namespace grants it")
    for refused in (
        ["get", "secrets"],
        ["create", "configmap", "made-by-reader"],
        ["get", "configmaps", "--namespace=default"],
    ):
        assert "forbidden" in kubectl(cluster.kubectl, reader, *refused).stderr


def test_a_missing_service_account_is_named(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=f"service account {namespace}/nobody: .*not found"):
        service_account_kubeconfig(
            cluster.admin_kubeconfig, namespace, "nobody", tmp_path / "none", kubectl=cluster.kubectl
        )


@pytest.mark.timeout(400)
def test_settings_of_a_real_cluster_or_database_are_not_read(cluster: Cluster, database_server: DatabaseServer) -> None:
    """The variables of a developer's shell, with values that would make everything fail that reads them."""
    code = """
import subprocess, sys, tempfile
from pathlib import Path
import psycopg
from hack.cluster_choice.choice import cluster_for_tests
from hack.processes.environment import program_environment
from hack.database.postgres import database_server
with tempfile.TemporaryDirectory() as folder, cluster_for_tests(Path(folder)) as cluster, database_server() as server:
    command = [cluster.kubectl, "--kubeconfig", cluster.admin_kubeconfig, "get", "--raw", "/readyz"]
    print(subprocess.run(command, env=program_environment(), capture_output=True, text=True, check=True).stdout)
    with psycopg.connect(server.create_database().url) as connection:
        print(connection.execute("SELECT '[1,2]'::vector").fetchone()[0])
"""
    garbage = {
        "DATABASE_URL": "postgresql://nobody@192.0.2.1/never",
        "DATABASE_URL_FILE": "/nonexistent",
        "GEMINI_API_KEY": "never",
        "KUBECONFIG": "/nonexistent",
        "PGHOST": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "never",
    }
    child = run_python(code, environment=garbage)
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    assert output.split() == ["ok", "[1,2]"]
