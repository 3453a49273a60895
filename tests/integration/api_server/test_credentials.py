"""The operator's client with the real API server, behind a TLS proxy whose certificate changes, and with other credentials."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnusable
from embedding_operator.api_server import ApiServer
from hack.control_plane.certificates import Authority
from tests.integration.api_server.conftest import Namespace
from tests.support.deadline import eventually
from tests.support.kubeconfigs import kubeconfig, write
from tests.support.plain_requests import settings_for
from tests.support.tls_proxy import BlockingTlsProxy, bundle

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "old")


@pytest.fixture
def proxy(namespace: Namespace, authority: Authority) -> Iterator[BlockingTlsProxy]:
    content = yaml.safe_load(namespace.operator_kubeconfig.read_text())
    with BlockingTlsProxy(content["clusters"][0]["cluster"]["server"], authority) as made:
        yield made


@pytest.fixture
def token(namespace: Namespace) -> str:
    return str(yaml.safe_load(namespace.operator_kubeconfig.read_text())["users"][0]["user"]["token"])


@pytest.fixture
def trusted(tmp_path: Path, authority: Authority) -> Path:
    return bundle(tmp_path / "ca.crt", authority)


class Connecting:
    """A kubeconfig for the proxy, which a test writes and changes."""

    def __init__(self, folder: Path, proxy: BlockingTlsProxy, trusted: Path, namespace: str) -> None:
        self.path = folder / "kubeconfig"
        self._cluster = {"server": proxy.url, "certificate-authority": str(trusted)}
        self._namespace = namespace

    def write(self, user: dict[str, Any], **cluster: Any) -> None:
        write(self.path, kubeconfig(cluster=self._cluster | cluster, user=user))

    async def connect(self) -> ApiServer:
        return await ApiServer.connected(settings_for(self.path, self._namespace))


@pytest.fixture
def connecting(tmp_path: Path, proxy: BlockingTlsProxy, trusted: Path, namespace: Namespace) -> Connecting:
    return Connecting(tmp_path, proxy, trusted, namespace.name)


async def works(server: ApiServer) -> bool:
    """Whether the server accepts a request now. Raises AssertionError with the reason why it does not."""
    try:
        await server.jobs()
    except ApiServerUnavailable as exc:
        raise AssertionError(str(exc)) from exc
    return True


async def soon_works(server: ApiServer) -> None:
    await eventually(lambda: works(server), within_s=60, every_s=0.2, because="files and server agree")


async def test_an_authority_is_rotated_while_the_client_is_connected(
    connecting: Connecting, proxy: BlockingTlsProxy, trusted: Path, authority: Authority, token: str, tmp_path: Path
) -> None:
    connecting.write({"token": token})
    async with await connecting.connect() as server:
        await works(server)
        new = Authority(tmp_path / "new")
        proxy.restart_with(new)
        with pytest.raises(ApiServerUnavailable, match="Certificate"):
            await server.jobs()
        bundle(trusted, authority, new)
        await soon_works(server)
        bundle(trusted, new)
        await soon_works(server)


async def test_an_authority_that_was_removed_is_trusted_no_longer(
    connecting: Connecting, proxy: BlockingTlsProxy, trusted: Path, token: str, authority: Authority, tmp_path: Path
) -> None:
    connecting.write({"token": token})
    async with await connecting.connect() as server:
        await works(server)
        bundle(trusted, Authority(tmp_path / "new"))

        async def is_refused() -> bool:
            try:
                await server.jobs()
            except ApiServerUnavailable as exc:
                return "Certificate" in str(exc)
            return False

        await eventually(is_refused, within_s=90, every_s=0.5, because="the old authority is trusted no longer")


async def test_a_token_in_a_file_is_replaced(connecting: Connecting, token: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("expired")
    connecting.write({"tokenFile": "token"})
    async with await connecting.connect() as server:
        with pytest.raises(ApiServerUnavailable, match="Unauthorized"):
            await server.jobs()
        file.write_text(token)
        await soon_works(server)


async def test_a_kubeconfig_is_replaced(connecting: Connecting, token: str) -> None:
    connecting.write({"token": "expired"})
    async with await connecting.connect() as server:
        with pytest.raises(ApiServerUnavailable, match="Unauthorized"):
            await server.jobs()
        connecting.write({"token": token})
        await soon_works(server)


async def test_a_plugin_gives_a_token_and_another_one_when_it_is_refused(
    connecting: Connecting, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_operator.api_access.credentials.PLUGIN_EVERY_S", 0.5)
    program, answer = tmp_path / "login", tmp_path / "answer"

    def print_token(value: str) -> None:
        answer.write_text(json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": value}}))

    print_token("expired")
    program.write_text(f"#!{sys.executable}\nprint(open({str(answer)!r}).read())\n")
    program.chmod(0o700)
    connecting.write({"exec": {"apiVersion": V1, "command": "./login", "interactiveMode": "Never"}})
    async with await connecting.connect() as server:
        with pytest.raises(ApiServerUnavailable, match="Unauthorized"):
            await server.jobs()
        print_token(token)
        await soon_works(server)
        program.write_text(f"#!{sys.executable}\nraise SystemExit(3)\n")
        await works(server)


async def test_a_plugin_that_fails_is_said_before_anything_is_sent(connecting: Connecting) -> None:
    connecting.write({"exec": {"apiVersion": V1, "command": "false"}})
    with pytest.raises(ApiServerUnusable, match="the exec plugin 'false' has failed with exit code 1"):
        await connecting.connect()


async def test_the_certificate_may_be_of_another_name(
    namespace: Namespace, tmp_path: Path, authority: Authority, trusted: Path, token: str
) -> None:
    content = yaml.safe_load(namespace.operator_kubeconfig.read_text())
    url = content["clusters"][0]["cluster"]["server"]
    with BlockingTlsProxy(url, authority, address="192.0.2.7") as proxy:
        connecting = Connecting(tmp_path, proxy, trusted, namespace.name)
        connecting.write({"token": token})
        async with await connecting.connect() as server:
            with pytest.raises(ApiServerUnavailable, match="IP address mismatch"):
                await server.jobs()
        connecting.write({"token": token}, **{"tls-server-name": "192.0.2.7"})
        async with await connecting.connect() as server:
            await works(server)


async def test_the_user_may_be_in_another_file(connecting: Connecting, token: str, tmp_path: Path) -> None:
    connecting.write({"token": token})
    content = yaml.safe_load(connecting.path.read_text())
    users = {"users": content.pop("users")}
    paths = [write(tmp_path / "first", content), write(tmp_path / "second", users)]
    connecting.path = Path(os.pathsep.join(map(str, paths)))
    async with await connecting.connect() as server:
        await works(server)
