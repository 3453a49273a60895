"""Sessions whose requests have the credentials and the certificates that are in force when they are sent.

Called by api_server.py, for its own requests and for kopf's: a session lasts as long as the process, so what it was created with
would be out of date after the first rotation.
"""

import ipaddress
import weakref
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.client_proto import ResponseHandler

from embedding_operator.api_access.access import AccessRefused
from embedding_operator.api_access.credentials import Credentials

CONNECTED_WITHIN_S = 4.0
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=CONNECTED_WITHIN_S)
"""A webhook may need most of the 30 s, so an outage is noticed by api_server_watch.py, and not by this time."""


UNCOMPRESSED = {"Accept-Encoding": "identity"}
"""The server is near: to compress what a deletion returns costs both sides more than to send it."""


class CredentialsMissing(aiohttp.ClientConnectionError):
    """There are no credentials to send the request with. kopf and api_server.py wait, as after an interrupted connection."""


class ResourceMissing(aiohttp.ClientConnectionError):
    """The API server does not serve a resource, for example because its CRD was deleted: it may be created again."""


async def wait_for_resources(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A middleware that makes an answer 404 to a GET an interrupted connection. kopf would end where a watch is not found."""
    response = await handler(request)
    if response.status == 404 and request.method == "GET":
        response.release()
        raise ResourceMissing(f"{request.url.path} does not exist")
    return response


class Connections:
    """The connections of several sessions, which are aborted together."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()

    def connector(self, *, limit: int) -> aiohttp.TCPConnector:
        """A connector of at most so many connections, all of which belong to these."""
        opened = self._open

        class Connector(aiohttp.TCPConnector):
            async def _create_connection(self, *args: Any, **kwargs: Any) -> ResponseHandler:
                connection = await super()._create_connection(*args, **kwargs)
                opened.add(connection)
                return connection

        return Connector(limit=limit)

    def abort(self) -> None:
        """End all connections now. Who waits for an answer on one of them gets an error, also on a watch."""
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()


def new_session(
    credentials: Credentials,
    connections: Connections,
    *,
    limit: int,
    proxy: str | None,
    middlewares: Sequence[aiohttp.ClientMiddlewareType] = (),
) -> aiohttp.ClientSession:
    """A session of at most so many connections, with these middlewares in addition."""

    class Request(aiohttp.ClientRequest):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The pool keeps connections by their TLS settings: after a change, none of the old ones is used again.
            tls = {"ssl": credentials.tls, "server_hostname": credentials.access.server_name}
            super().__init__(*args, **(kwargs | tls))

    async def authenticated(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        try:
            await credentials.refresh()
        except AccessRefused as exc:
            raise CredentialsMissing(str(exc)) from exc
        if (value := credentials.authorization) is not None:
            request.headers["Authorization"] = value
        try:
            response = await handler(request)
        except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError):
            credentials.refused()
            raise
        if response.status == 401:
            credentials.refused()
        return response

    return aiohttp.ClientSession(
        connector=connections.connector(limit=limit),
        request_class=Request,
        timeout=REQUEST_TIMEOUT,
        middlewares=(*middlewares, authenticated),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=UNCOMPRESSED,
        proxy=proxy,
    )


def proxy_for(host: str, *, configured: str | None, in_pod: bool) -> str | None:
    """The proxy for this server: the kubeconfig's, or outside a pod that of the environment, as with kubectl.

    In a pod the server is in the same network, whatever proxy the provider needs.
    """
    if configured is not None or in_pod:
        return configured
    parts = urlsplit(host)
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return getproxies().get(parts.scheme)


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def reason_unreachable(exc: Exception) -> str:
    """The kind of the error, and of a refused certificate the reason: a wrong authority, a wrong name, or an old date."""
    if isinstance(exc, CredentialsMissing):
        return str(exc)
    refused = exc.certificate_error if isinstance(exc, aiohttp.ClientConnectorCertificateError) else None
    reason = getattr(refused, "verify_message", "")
    return f"{type(exc).__name__}: {reason}" if reason else type(exc).__name__
