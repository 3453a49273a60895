"""A server in place of a kubelet, which forwards ports of pods as a kubelet does: by WebSocket, in v4.channel.k8s.io.

Called by tests with a real API server, which needs a Node that says where its kubelet is. Every pod is this machine.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

from embedding_operator.local_endpoint import local_endpoint
from hack.control_plane.certificates import Authority
from hack.installation.kubectl import Kubectl
from tests.support.tls_proxy import LOOPBACK, server_context

PROTOCOL = "v4.channel.k8s.io"
Explain = Callable[[str, str], Awaitable[dict[str, Any]]]


async def nothing_known(source: str, row_id: str) -> dict[str, Any]:
    """No question is asked."""
    raise AssertionError(f"{source} {row_id}")


class ForwardingKubelet:
    """Forwards to ports of this machine, one of which is the operator's local endpoint with these answers, and shows a log."""

    def __init__(self, folder: Path, explain: Explain = nothing_known) -> None:
        self._tls = server_context(Authority(folder).issue("kubelet", address=LOOPBACK))
        self._explain = explain
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self.log = ""
        """What each container has written."""
        self.port = 0
        self.local_port = 0
        """Where the endpoint listens."""

    def __enter__(self) -> "ForwardingKubelet":
        self._thread.start()
        assert self._started.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.add_routes([web.get("/portForward/{namespace}/{pod}", forward)])
        app.add_routes([web.get("/containerLogs/{namespace}/{pod}/{container}", self._show_log)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0, ssl_context=self._tls).start()
        async with local_endpoint(0, self._explain) as served:
            self.port, self.local_port = runner.addresses[0][1], served or 0
            self._started.set()
            await self._stop.wait()
        await runner.cleanup()

    async def _show_log(self, request: web.Request) -> web.Response:
        return web.Response(text=self.log)


def create_pod(
    kubectl: Kubectl, kubelet: ForwardingKubelet, name: str, *, ports: Mapping[str, int], env: Mapping[str, str]
) -> str:
    """Create a pod with these ports and variables, on a node of this kubelet. Returns the name of the node."""
    node = f"node-of-{kubectl.namespace}"
    status = {
        "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
    }
    container = {
        "name": "operator",
        "image": "none",
        "ports": [{"name": port, "containerPort": number} for port, number in ports.items()],
        "env": [{"name": variable, "value": value} for variable, value in env.items()],
    }
    labels = {"app.kubernetes.io/name": "embedding-operator", "app.kubernetes.io/component": "operator"}
    for kind, metadata, spec in (
        ("Node", {"name": node}, {}),
        ("Pod", {"name": name, "labels": labels}, {"nodeName": node, "containers": [container]}),
    ):
        manifest = {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
        kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(manifest))
    patch = json.dumps({"status": status})
    kubectl.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)
    return node


async def forward(request: web.Request) -> web.WebSocketResponse:
    forwarded = web.WebSocketResponse(protocols=(PROTOCOL,))
    await forwarded.prepare(request)
    port = int(request.query["port"])
    for channel in (b"\0", b"\1"):
        await forwarded.send_bytes(channel + port.to_bytes(2, "little"))
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError as exc:
        await forwarded.send_bytes(b"\1" + f"connection refused: {exc.strerror}".encode())
        await forwarded.close()
        return forwarded

    async def send_back() -> None:
        while part := await reader.read(65_536):
            await forwarded.send_bytes(b"\0" + part)
        await forwarded.close()

    sending = asyncio.create_task(send_back())
    async for message in forwarded:
        if message.type is WSMsgType.BINARY and message.data[0] == 0:
            writer.write(message.data[1:])
    sending.cancel()
    writer.close()
    return forwarded
