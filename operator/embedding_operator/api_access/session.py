"""Sessions whose requests have the credentials and the certificates that are in force when they are sent.

Called by api_server.py, for its own requests and for kopf's: a session lasts as long as the process, so what it was created with
would be out of date after the first rotation.
"""

import ipaddress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from embedding_operator.api_access.access import AccessRefused
from embedding_operator.api_access.credentials import Credentials

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)


class CredentialsMissing(aiohttp.ClientConnectionError):
    """There are no credentials to send the request with. kopf and api_server.py wait, as after an interrupted connection."""


def new_session(credentials: Credentials, *, limit: int, proxy: str | None) -> aiohttp.ClientSession:
    """A session of at most so many connections."""

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
        connector=aiohttp.TCPConnector(limit=limit),
        request_class=Request,
        timeout=REQUEST_TIMEOUT,
        middlewares=(authenticated,),
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
