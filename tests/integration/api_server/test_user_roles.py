"""The rights of people who have Kubernetes' ClusterRole view, edit or admin in a namespace where the chart is installed.

A controller aggregates the roles, so these tests start a control plane with that controller, and install the chart with Helm.
Each person is a service account with a real token.
"""

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.resources import JOBS, SOURCES
from hack.cluster_choice.choice import Cluster
from hack.control_plane.kubeconfig import service_account_kubeconfig
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import wait_until_served
from hack.processes.run import run_to_end
from hack.repository import CHART, ROOT
from tests.support.chart import DATABASE, NAMESPACE, RELEASE, Helm, Json
from tests.support.deadline import wait_until
from tests.support.forwarding_kubelet import ForwardingKubelet, create_pod
from tests.support.kubectl import kubectl
from tests.support.manifests import a_job, a_source

pytestmark = pytest.mark.timeout(900)  # the first of them waits for a control plane and the installation

AGGREGATED = ("view", "edit", "admin")
EXPLAINER = f"{RELEASE}:{NAMESPACE}:row-explainer"
REPLAYER = f"{RELEASE}:{NAMESPACE}:job-replayer"
PEOPLE = {**{role: role for role in AGGREGATED}, "on-call": REPLAYER, "curious": EXPLAINER}
"""A person → the ClusterRole that is bound to them in the namespace; the last two have one role of the chart only."""
AGGREGATED_WITHIN_S = 240.0
SECRETS = ("MARKER-PASSWORD", "hunter2-of-a-variable", "hunter3-of-a-secret")
LOG = f'{{"event": "no connection", "url": "postgresql://u:{SECRETS[0]}@h/d", "login": "{SECRETS[1]}"}}\n'

READ = [(verb, "") for verb in ("get", "list", "watch")]
WRITE = [(verb, "") for verb in ("create", "update", "patch", "delete", "deletecollection")]
REPLAY, DELETE = ("patch", "status"), ("delete", "")
MAY: dict[str, dict[str, list[tuple[str, str]]]] = {
    "view": {JOBS: READ, SOURCES: []},
    "edit": {JOBS: [*READ, *WRITE, REPLAY], SOURCES: []},
    "admin": {JOBS: [*READ, *WRITE, REPLAY], SOURCES: [*READ, *WRITE]},
    "on-call": {JOBS: [*READ, DELETE, REPLAY], SOURCES: []},
    "curious": {JOBS: READ, SOURCES: []},
}
"""A person → a resource → verbs, each with its subresource."""
ASKED = [
    (person, resource, verb, subresource, (verb, subresource) in MAY[person][resource])
    for person in PEOPLE
    for resource in (JOBS, SOURCES)
    for verb, subresource in [*READ, *WRITE, REPLAY, ("update", "status")]
]


@dataclass(frozen=True)
class Aggregated:
    """A cluster with the installed chart, and a kubeconfig for each person."""

    admin: Kubectl
    kubeconfigs: dict[str, Path]

    def as_person(
        self, person: str, *arguments: str, manifest: Json | None = None, namespace: str = NAMESPACE
    ) -> "subprocess.CompletedProcess[str]":
        text = None if manifest is None else yaml.safe_dump(manifest)
        where = ("--namespace", namespace)
        return kubectl(self.admin.cluster.kubectl, self.kubeconfigs[person], *where, *arguments, manifest=text)

    def may(self, person: str, verb: str, resource: str, subresource: str = "", *, namespace: str = NAMESPACE) -> bool:
        below = [f"--subresource={subresource}"] if subresource else []
        asked = ("auth", "can-i", verb, f"{resource}.embeddings.yellowbook.dev", *below)
        return self.as_person(person, *asked, namespace=namespace).stdout.strip() == "yes"


@pytest.fixture(scope="module")
def aggregated(programs: Binaries, helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aggregated]:
    folder = tmp_path_factory.mktemp("aggregated")
    controllers = ["clusterrole-aggregation-controller"]
    with ControlPlane(folder / "control-plane", programs=programs, controllers=controllers) as plane:
        admin = Kubectl(Cluster(plane.kubeconfig, plane.kubectl, "with aggregation"), NAMESPACE)
        in_cluster = Helm(helm.program, helm.home, plane.kubeconfig)
        in_cluster.run("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--create-namespace", values=DATABASE)
        wait_until_served(admin, [f"{plural}.embeddings.yellowbook.dev" for plural in (JOBS, SOURCES)])
        kubeconfigs = {person: _create_person(admin, person, role, folder) for person, role in PEOPLE.items()}
        everything = Aggregated(admin, kubeconfigs)
        wait_until(
            lambda: (
                all(everything.may(person, "list", JOBS) for person in PEOPLE)
                and all(everything.may(person, "create", JOBS) for person in ("edit", "admin"))
                and everything.may("admin", "create", SOURCES)
            ),
            within_s=AGGREGATED_WITHIN_S,
            every_s=0.2,
            because="the controller adds the chart's roles to view, edit and admin",
        )
        yield everything


def _create_person(admin: Kubectl, person: str, role: str, folder: Path) -> Path:
    admin.run("create", "serviceaccount", person)
    admin.run("create", "rolebinding", person, f"--clusterrole={role}", f"--serviceaccount={NAMESPACE}:{person}")
    cluster = admin.cluster
    out = folder / f"{person}.kubeconfig"
    return service_account_kubeconfig(cluster.admin_kubeconfig, NAMESPACE, person, out, kubectl=cluster.kubectl)


async def told(source: str, row_id: str) -> dict[str, Any]:
    """The answer of a leader: the row is up to date."""
    row = {"state": "UpToDate", "exists": True, "blank": False, "embeddedAt": None, "dueSince": None}
    return {"source": source, "id": row_id, "row": row, "job": None, "why": [], "queue": None, "lastOutcomes": []}


@pytest.fixture(scope="module")
def leader(aggregated: Aggregated, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pod that holds the Lease, on a node whose kubelet forwards ports and does nothing else."""
    with ForwardingKubelet(tmp_path_factory.mktemp("kubelet"), told) as kubelet:
        kubelet.log = LOG
        ports = {"local": kubelet.local_port}
        create_pod(aggregated.admin, kubelet, "operator-1", ports=ports, env={"LOGIN": "hunter2-of-a-variable"})
        for kind, version, name, body in (
            ("Lease", "coordination.k8s.io/v1", "embedding-operator", {"spec": {"holderIdentity": "operator-1"}}),
            ("Secret", "v1", "any-secret", {"stringData": {"key": "hunter3-of-a-secret"}}),
        ):
            manifest = {"apiVersion": version, "kind": kind, "metadata": {"name": name}} | body
            aggregated.admin.run("create", "-f", "-", stdin=yaml.safe_dump(manifest))
        yield "operator-1"


def explained(aggregated: Aggregated, person: str, row: str) -> "subprocess.CompletedProcess[str]":
    return embeddings(aggregated, person, "explain", row)


def embeddings(aggregated: Aggregated, person: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("kubectl-embeddings")
    where = ["--kubeconfig", str(aggregated.kubeconfigs[person]), "-n", NAMESPACE]
    return run_to_end([str(program), *arguments, *where], within_s=120)


def reported(aggregated: Aggregated, person: str, path: Path) -> tuple[dict[str, str], set[str]]:
    """The files of the person's report, and the parts that are missing."""
    done = embeddings(aggregated, person, "report", "-o", str(path))
    assert (done.returncode, done.stdout) == (0, f"{path}\n"), done.stderr
    with tarfile.open(path) as archive:
        opened = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive.getmembers()}
        files = {name: file.read().decode() for name, file in opened.items() if file is not None}
    return files, {one["part"] for one in json.loads(files["manifest.json"])["missing"]}


@pytest.fixture
def dead_letter(aggregated: Aggregated, name: str) -> str:
    """A job in the phase DeadLettered."""
    aggregated.admin.run("create", "-f", "-", stdin=yaml.safe_dump(a_job(name)))
    patch_phase(aggregated, "DeadLettered", name)
    return name


def patch_phase(aggregated: Aggregated, phase: str, name: str) -> None:
    aggregated.admin.run("patch", JOBS, name, *patch_of_phase(phase))


def patch_of_phase(phase: str = "Pending") -> tuple[str, ...]:
    return ("--subresource=status", "--type=merge", "-p", f'{{"status":{{"phase":"{phase}"}}}}')


def phase_of(aggregated: Aggregated, name: str) -> str:
    return str(aggregated.admin.get(JOBS, name)["status"]["phase"])


def forbidden(done: "subprocess.CompletedProcess[str]", person: str) -> bool:
    who = f'User "system:serviceaccount:{NAMESPACE}:{person}" cannot'
    return done.returncode != 0 and "Forbidden" in done.stderr and who in done.stderr


@pytest.mark.parametrize(("person", "resource", "verb", "subresource", "allowed"), ASKED)
def test_each_person_has_the_documented_rights(
    aggregated: Aggregated, person: str, resource: str, verb: str, subresource: str, allowed: bool
) -> None:
    assert aggregated.may(person, verb, resource, subresource) is allowed


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("resource", [JOBS, SOURCES])
def test_no_person_has_a_right_in_another_namespace(aggregated: Aggregated, person: str, resource: str) -> None:
    assert not aggregated.may(person, "get", resource, namespace="default")


@pytest.mark.parametrize("person", ["edit", "admin", "on-call"])
def test_a_dead_letter_is_replayed_by(aggregated: Aggregated, dead_letter: str, person: str) -> None:
    done = aggregated.as_person(person, "patch", JOBS, dead_letter, *patch_of_phase())
    assert done.returncode == 0, done.stderr
    assert phase_of(aggregated, dead_letter) == "Pending"


@pytest.mark.parametrize("person", ["edit", "admin", "on-call"])
def test_a_dead_letter_is_deleted_by(aggregated: Aggregated, dead_letter: str, person: str) -> None:
    done = aggregated.as_person(person, "delete", JOBS, dead_letter)
    assert done.returncode == 0, done.stderr


def test_a_person_with_view_lists_jobs_and_replays_none(aggregated: Aggregated, dead_letter: str) -> None:
    assert dead_letter in aggregated.as_person("view", "get", JOBS).stdout
    assert forbidden(aggregated.as_person("view", "patch", JOBS, dead_letter, *patch_of_phase()), "view")
    assert forbidden(aggregated.as_person("view", "delete", JOBS, dead_letter), "view")
    assert phase_of(aggregated, dead_letter) == "DeadLettered"


def test_a_person_who_may_replay_changes_nothing_else_of_a_job(aggregated: Aggregated, dead_letter: str) -> None:
    assert forbidden(aggregated.as_person("on-call", "annotate", JOBS, dead_letter, "a=b"), "on-call")
    assert forbidden(aggregated.as_person("on-call", "create", "-f", "-", manifest=a_job("another")), "on-call")


@pytest.mark.parametrize("person", ["view", "edit", "on-call"])
def test_a_source_is_neither_read_nor_written_by(aggregated: Aggregated, name: str, person: str) -> None:
    """The text of a source is SQL, which runs with the operator's database role."""
    aggregated.admin.run("create", "-f", "-", stdin=yaml.safe_dump(a_source(name)))
    for arguments in (
        ("get", SOURCES),
        ("get", SOURCES, name),
        ("delete", SOURCES, name),
        ("annotate", SOURCES, name, "a=b"),
    ):
        assert forbidden(aggregated.as_person(person, *arguments), person), arguments
    assert forbidden(aggregated.as_person(person, "create", "-f", "-", manifest=a_source(f"{name}-more")), person)


def test_a_source_is_applied_changed_and_deleted_by_an_admin(aggregated: Aggregated, name: str) -> None:
    suspended = a_source(name, suspend=True)
    for arguments, manifest in (
        (("create", "-f", "-"), a_source(name)),
        (("apply", "--server-side", "--force-conflicts", "-f", "-"), suspended),
        (("annotate", SOURCES, name, "reconcile.embeddings.yellowbook.dev/requestedAt=1"), None),
        (("get", SOURCES, name), None),
        (("delete", SOURCES, name), None),
    ):
        done = aggregated.as_person("admin", *arguments, manifest=manifest)
        assert done.returncode == 0, done.stderr


def test_the_status_of_a_source_cannot_be_written_by_an_admin(aggregated: Aggregated, name: str) -> None:
    aggregated.admin.run("create", "-f", "-", stdin=yaml.safe_dump(a_source(name)))
    faked = ("--subresource=status", "--type=merge", "-p", '{"status":{"fingerprint":"x@1"}}')
    assert forbidden(aggregated.as_person("admin", "patch", SOURCES, name, *faked), "admin")


@pytest.mark.parametrize("person", ["edit", "admin", "curious"])
def test_a_row_is_explained_through_the_leaders_port_to(aggregated: Aggregated, leader: str, person: str) -> None:
    done = explained(aggregated, person, "shops/a b/&c")
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        "row 'a b/&c' of shops: fresh: it has the vector of its present text",
    ), done.stderr


def test_a_person_who_may_not_forward_ports_is_told_which_right_is_missing(aggregated: Aggregated, leader: str) -> None:
    bound = ("create", "rolebinding", "leases", "--clusterrole=leases", f"--serviceaccount={NAMESPACE}:view")
    aggregated.admin.run("create", "clusterrole", "leases", "--verb=get", "--resource=leases")
    aggregated.admin.run(*bound)
    wait_until(
        lambda: "pods/portforward" in explained(aggregated, "view", "shops/1").stderr,
        within_s=120,
        because="the right to read Leases is effective",
    )
    assert explained(aggregated, "view", "shops/1").returncode == 1


def test_a_report_of_an_administrator_has_the_log_of_the_leader_and_no_secret(
    aggregated: Aggregated, leader: str, name: str, tmp_path: Path
) -> None:
    aggregated.admin.run("create", "-f", "-", stdin=yaml.safe_dump(a_job(name)))
    files, missing = reported(aggregated, "admin", tmp_path / "report.tar.gz")
    assert {"no connection", "[redacted]"} <= set(
        re.findall(r"no connection|\[redacted\]", files["logs/operator-1-operator.log"])
    )
    assert name in files["jobs.json"]
    assert "gitVersion" in files["versions.json"]
    assert '"name": "operator"' in files["pods.json"]
    assert [(name, secret) for name, text in files.items() for secret in SECRETS if secret in text] == []
    assert missing == {
        "crds/embeddingjobs.json",
        "crds/embeddingsources.json",
        "metrics.txt",
    }  # no one serves port 8080


def test_a_report_of_a_person_with_few_rights_has_what_they_may_read(
    aggregated: Aggregated, leader: str, tmp_path: Path
) -> None:
    files, missing = reported(aggregated, "on-call", tmp_path / "report.tar.gz")
    assert {"versions.json", "jobs.json"} <= set(files)
    assert {"sources.json", "pods.json", "events.json", "lease.json", "metrics.txt"} <= missing


def test_the_role_of_the_page_is_enough_to_explain_and_to_report(
    aggregated: Aggregated, leader: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "kubectl.md").read_text()
    (role,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    aggregated.admin.run("create", "-f", "-", stdin=role)
    account = f"--serviceaccount={NAMESPACE}:support"
    aggregated.admin.run("create", "clusterrolebinding", "support", "--clusterrole=embeddings-support", account)
    aggregated.kubeconfigs["support"] = _create_person(aggregated.admin, "support", "embeddings-support", tmp_path)
    wait_until(
        lambda: explained(aggregated, "support", "shops/1").returncode == 0,
        within_s=120,
        because="the role is effective",
    )
    assert reported(aggregated, "support", tmp_path / "report.tar.gz")[1] == {"metrics.txt"}  # no one serves port 8080
