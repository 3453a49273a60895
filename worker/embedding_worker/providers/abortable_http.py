"""Connections of requests that a blocking call can abort, with one request for each call. Mounted into an SDK's session.

The session gets an empty JSON object in place of an answer, which the call keeps: Google's SDK parses an answer float by float.

Imported where the SDK is, because requests is installed with it only. Every answer but a success is raised here, before the
session sees it: google-auth would repeat a call that was answered 401, and requests would follow a redirect to another host,
with the key.
"""

import io
import socket
from typing import Any

from requests import HTTPError, PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from embedding_worker.providers.blocking_call import present_call
from embedding_worker.providers.bounded_answer import bounded_content

CONNECT_TIMEOUT_S = 5.0
"""For each address of the endpoint, and for the handshake of TLS."""
MOST_IDLE = 50
"""Connections that stay open for the next calls. requests keeps ten, and warns of each further one."""


class AbortableConnection(HTTPConnection):
    """Reports its socket to the present call as soon as there is one, before TLS or a proxy's tunnel begins."""

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        try:
            present_call().use(connected.fileno())
        except ConnectionAbortedError:
            connected.close()
            raise
        return connected

    def connect(self) -> None:
        super().connect()
        present_call().reached = True

    def request(self, *args: Any, **given: Any) -> None:
        if self.sock is not None:  # of an earlier call, or connected for TLS
            present_call().use(self.sock.fileno())
            present_call().reached = True
        super().request(*args, **given)


class AbortableTlsConnection(AbortableConnection, HTTPSConnection):
    pass


class AbortablePool(HTTPConnectionPool):
    ConnectionCls = AbortableConnection

    def _put_conn(self, conn: Any) -> None:
        present_call().release()  # first, because another call may use the connection from now on
        super()._put_conn(conn)


class AbortableTlsPool(AbortablePool, HTTPSConnectionPool):
    ConnectionCls = AbortableTlsConnection


POOLS = {"http": AbortablePool, "https": AbortableTlsPool}


class AbortableAdapter(HTTPAdapter):
    """Sends each request once, and raises HTTPError, with the answer, for every answer but 2xx. The call keeps those."""

    def init_poolmanager(self, *args: Any, **given: Any) -> None:
        super().init_poolmanager(*args, **given)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **given: Any) -> Any:
        manager = super().proxy_manager_for(*args, **given)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def send(self, request: PreparedRequest, *, timeout: float, **given: Any) -> Response:  # type: ignore[override]
        response = super().send(request, timeout=(min(CONNECT_TIMEOUT_S, timeout), timeout), **given)
        content = response._content = bounded_content(response, present_call().most_bytes)
        if not 200 <= response.status_code < 300:
            raise HTTPError(response=response)
        present_call().answer = content
        return _emptied(response)


def _emptied(response: Response) -> Response:
    empty = Response()
    empty.status_code, empty.url, empty.request = response.status_code, response.url, response.request
    empty.raw = io.BytesIO(b"{}")
    return empty


def make_abortable(session: Session) -> None:
    """Let all calls of this session be aborted. They must run as a BlockingCall."""
    for scheme in ("https://", "http://"):
        session.mount(scheme, AbortableAdapter(pool_maxsize=MOST_IDLE))
