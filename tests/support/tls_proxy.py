"""A TLS proxy in front of an HTTPS server, whose certificate a test replaces while it runs.

Called by the tests of rotated certificates. It decrypts what it receives, and encrypts it again for the server.
"""

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from hack.control_plane.certificates import Authority, Issued
from tests.support.tcp_proxy import BlockingTcpProxy, Connection, TcpProxy

LOOPBACK = "127.0.0.1"


def server_context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    return context


class _TlsProxy(TcpProxy):
    def __init__(self, url: str, authority: Authority, address: str) -> None:
        parts = urlsplit(url)
        super().__init__((parts.hostname or "", parts.port or 443))
        self._address = address
        self.present(authority)

    def present(self, authority: Authority) -> None:
        """Have this authority issue the certificate from the next start on."""
        self.tls = server_context(authority.issue("server", address=self._address))

    async def _connect_to_target(self) -> Connection:
        trusting = ssl.create_default_context()  # the test's own server is trusted by its address
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        return await self._open(ssl=trusting)


class BlockingTlsProxy(BlockingTcpProxy):
    """Presents a certificate of this authority for an address, and connects each client to the server of the URL."""

    def __init__(self, url: str, authority: Authority, *, address: str = LOOPBACK) -> None:
        self._tls = _TlsProxy(url, authority, address)
        super().__init__(proxy=self._tls)

    @property
    def url(self) -> str:
        return f"https://{LOOPBACK}:{self.port}"

    def restart_with(self, authority: Authority) -> None:
        """End all connections, and present a certificate of another authority from now on."""
        self.stop()
        self._tls.present(authority)
        self.start()


def bundle(path: Path, *authorities: Authority) -> Path:
    """Write the certificates of these authorities into one file."""
    path.write_text("".join(authority.certificate.read_text() for authority in authorities))
    return path
