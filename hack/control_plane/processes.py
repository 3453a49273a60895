"""Runs a control plane: etcd and kube-apiserver as plain processes, with ports, data and credentials of their own.

Called by the tests' cluster fixture (as a context manager), by `hack/cluster` (which leaves it running), and by the node.
"""

import base64
import http.client
import json
import secrets
import signal
import socket
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from hack.control_plane.build import binaries
from hack.control_plane.certificates import Authority, pem
from hack.control_plane.commands import ADDRESS, ADMIN_KUBECONFIG, apiserver_command, controllers_command, etcd_command
from hack.control_plane.kubeconfig import write_kubeconfig, write_private
from hack.control_plane.pins import Binaries
from hack.control_plane.state import Ports, State, end_and_remove, read_state, write_state
from hack.errors import DaemonDied
from hack.go_build.programs import go_program
from hack.processes.daemons import Daemon, start_daemon, wait_until_ready

READY_WITHIN_S = 120.0
PORT_TRIES = 5
AUDIT_POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}


class ControlPlane:
    """One control plane in `folder`, which it creates, and removes when it stops. Several can run on one machine.

    `ends_with_parent` ends the processes with the thread that starts them (Linux only). With `audit_log`, the file of
    that attribute gets a JSON line for each stage of each request, without bodies. `controllers` are those of a
    kube-controller-manager, by the names of its flag --controllers ("*": all that are on by default); without any, it is
    not started. `pods_reach_it_at` is the address of a node on this machine whose pods are its clients.
    """

    def __init__(
        self,
        folder: Path,
        *,
        programs: Binaries | None = None,
        audit_log: bool = False,
        ends_with_parent: bool = True,
        controllers: Sequence[str] = (),
        pods_reach_it_at: str | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.programs = programs or binaries()
        self.kubeconfig = self.folder / ADMIN_KUBECONFIG
        self.audit_log = self.folder / "audit.log" if audit_log else None
        self._ends_with_parent = ends_with_parent
        self._controllers = controllers
        self._pods_reach_it_at = pods_reach_it_at
        # The server's self-signed certificate names the address it is bound to, or localhost where it is bound to all.
        self._host = "localhost" if pods_reach_it_at else ADDRESS
        self._daemons: list[Daemon] = []

    @property
    def apiserver_port(self) -> int:
        state = read_state(self.folder)
        assert state is not None, "it is not started"
        return state.ports.apiserver

    @property
    def client_authority(self) -> Path:
        """The authority by which a kubelet authenticates the API server."""
        return self.folder / "authority" / "ca.crt"

    @property
    def certificate(self) -> Path:
        """The API server's own certificate, which is also the authority that its clients trust."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def kubectl(self) -> Path:
        return self.programs.kubectl

    def start(self) -> None:
        """Return when the API server is ready. Raises StartFailed with the end of the log, after cleaning up."""
        for tries_left in reversed(range(PORT_TRIES)):
            try:
                self._start_on(free_ports())
            except BaseException as exc:
                self.stop()
                if tries_left and isinstance(exc, DaemonDied) and port_was_in_use(exc.tail):
                    continue
                raise
            return

    def stop(self) -> None:
        end_and_remove(self.folder, self._daemons)
        self._daemons.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _start_on(self, ports: Ports) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        token = secrets.token_urlsafe(32)
        write_private(self.folder / "tokens.csv", f'{token},admin,admin,"system:masters"\n')
        write_private(self.folder / "service-account.key", signing_key())
        (self.folder / "audit-policy.json").write_text(json.dumps(AUDIT_POLICY))

        authority = Authority(self.folder / "authority")
        authority.issue("etcd", address=ADDRESS)
        # As a client of etcd, and of a kubelet, which grants this group every right.
        authority.issue("kube-apiserver", group="system:masters")

        etcd = self._start("etcd", etcd_command(self.programs.etcd, self.folder, ports), ports)
        # Its log has this line only once it listens on its ports. An answer on the port could come from another program.
        wait_until_ready(
            etcd, lambda: "ready to serve client requests" in etcd.log.read_text(), within_s=READY_WITHIN_S
        )

        command = apiserver_command(
            self.programs.kube_apiserver, self.folder, ports, self.audit_log, pods_reach_it_at=self._pods_reach_it_at
        )
        apiserver = self._start("kube-apiserver", command, ports)
        wait_until_ready(
            apiserver, lambda: is_ready(self._host, ports.apiserver, self.certificate), within_s=READY_WITHIN_S
        )
        cluster = {
            "server": f"https://{self._host}:{ports.apiserver}",
            "certificate-authority-data": base64.b64encode(self.certificate.read_bytes()).decode(),
        }
        write_kubeconfig(self.kubeconfig, name="embedding-operator", cluster=cluster, token=token)
        if self._controllers:
            program = go_program("kube-controller-manager")
            self._start("kube-controller-manager", controllers_command(program, self.folder, self._controllers), ports)

    def _start(self, name: str, command: list[str | Path], ports: Ports) -> Daemon:
        log = self.folder / f"{name}.log"
        # When the parent ends, all processes get the signal at once, and an API server that waits for its etcd would ignore
        # SIGTERM. Killing it loses nothing, because its data is removed anyway.
        daemon = start_daemon(
            name, command, log=log, ends_with_parent=self._ends_with_parent, death_signal=signal.SIGKILL
        )
        self._daemons.append(daemon)
        state = State(self.programs.kubernetes_version, self.kubectl, ports, tuple(self._daemons))
        write_state(self.folder, state)
        return daemon


def free_ports() -> Ports:
    """Three different ports that are free now. A start that finds one of them in use chooses again."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(3)]
        for listener in listeners:
            listener.bind((ADDRESS, 0))
        return Ports(*(int(listener.getsockname()[1]) for listener in listeners))


def port_was_in_use(log_tail: str) -> bool:
    return "address already in use" in log_tail


def is_ready(host: str, port: int, certificate: Path) -> bool:
    """Request /readyz, trusting only the self-signed certificate of this server."""
    connection = None
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection(host, port, timeout=5, context=context)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (
        OSError,
        http.client.HTTPException,
    ):  # it has no certificate or does not listen yet, or the port is another program's
        return False
    finally:
        if connection is not None:
            connection.close()


def signing_key() -> str:
    """A private key in PEM, by which the API server signs and verifies the tokens of service accounts."""
    return pem(ec.generate_private_key(ec.SECP256R1()))
