"""The command lines of the control plane's programs. Pure; called by ControlPlane."""

from collections.abc import Sequence
from pathlib import Path

from hack.control_plane.state import Ports

ADDRESS = "127.0.0.1"
SERVICE_RANGE = "10.89.132.0/24"  # a range that no other cluster or network is likely to use
ADMIN_KUBECONFIG = "admin.kubeconfig"


def etcd_command(program: Path, folder: Path, ports: Ports) -> list[str | Path]:
    client = f"https://{ADDRESS}:{ports.etcd_client}"
    peer = f"https://{ADDRESS}:{ports.etcd_peer}"
    certified = [
        f"{kind}{flag}"
        for kind in ("--", "--peer-")
        for flag in (
            f"cert-file={folder / 'authority' / 'etcd.crt'}",
            f"key-file={folder / 'authority' / 'etcd.key'}",
            f"trusted-ca-file={folder / 'authority' / 'ca.crt'}",
            "client-cert-auth",
        )
    ]
    return [
        program,
        "--name=default",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # the data is removed with the cluster
        *certified,
    ]


def apiserver_command(
    program: Path, folder: Path, ports: Ports, audit_log: Path | None, *, pods_reach_it_at: str | None = None
) -> list[str | Path]:
    key = folder / "service-account.key"
    authority = folder / "authority"
    command: list[str | Path] = [
        program,
        f"--etcd-servers=https://{ADDRESS}:{ports.etcd_client}",
        f"--etcd-cafile={authority / 'ca.crt'}",
        f"--etcd-certfile={authority / 'kube-apiserver.crt'}",
        f"--etcd-keyfile={authority / 'kube-apiserver.key'}",
        f"--secure-port={ports.apiserver}",
        f"--cert-dir={folder / 'certificates'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
    ]
    if pods_reach_it_at:
        command += [
            "--bind-address=0.0.0.0",
            f"--advertise-address={pods_reach_it_at}",
            "--allow-privileged",
            "--kubelet-preferred-address-types=InternalIP",  # no resolver knows the node's name
            f"--kubelet-client-certificate={authority / 'kube-apiserver.crt'}",
            f"--kubelet-client-key={authority / 'kube-apiserver.key'}",
        ]
    else:
        command += [
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",  # otherwise it needs a default route, which an offline machine does not have
            "--endpoint-reconciler-type=none",  # without pods, no client uses the service `kubernetes`
            # It waits for the default service account of a namespace, which only a controller-manager creates.
            "--disable-admission-plugins=ServiceAccount",
        ]
    if audit_log is not None:
        command += [f"--audit-policy-file={folder / 'audit-policy.json'}", f"--audit-log-path={audit_log}"]
    return command


def controllers_command(program: Path, folder: Path, controllers: Sequence[str]) -> list[str | Path]:
    return [
        program,
        f"--kubeconfig={folder / ADMIN_KUBECONFIG}",
        f"--controllers={','.join(controllers)}",
        f"--service-account-private-key-file={folder / 'service-account.key'}",
        f"--root-ca-file={folder / 'certificates' / 'apiserver.crt'}",
        "--secure-port=0",  # it has no clients
        "--leader-elect=false",
    ]
