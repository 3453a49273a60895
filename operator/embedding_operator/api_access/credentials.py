"""The access to the API server that is in force. Reads its files again every few seconds while requests are sent.

Called by session.py for each request. A new certificate authority, token or client certificate is used from the next request
on. Files that cannot be used are reported once, and the previous access stays in force until they can be.
"""

import asyncio
import ssl
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import structlog

from embedding_operator.api_access.access import Access, AccessRefused, ClientCertificate
from embedding_operator.api_access.exec_plugin import ExecCredential, run_plugin
from embedding_worker.clock import Clock

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 5.0
PLUGIN_EVERY_S = 10.0
"""The plugin is not run more often than this, also if it fails or if its credentials are refused."""
BEFORE_EXPIRY = timedelta(seconds=30)


class Credentials:
    """`read` reads the files, and raises AccessRefused."""

    def __init__(self, read: Callable[[], Access], *, clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self.access = read()
        self.tls = tls_context(self.access, None)
        """The TLS settings for new connections: another object when the certificates have changed."""
        self._looked_at = clock.monotonic()
        self._reported: str | None = None
        self._plugin = PluginCredentials(clock=clock)

    @property
    def authorization(self) -> str | None:
        """The Authorization header; None where a client certificate authenticates."""
        return self._plugin.in_force.authorization or self.access.authorization

    def refused(self) -> None:
        """The server has refused a certificate or a token: look at the files, and run the plugin, before the next request."""
        self._looked_at = float("-inf")
        self._plugin.refused = True

    async def refresh(self) -> None:
        """Read again what may have changed. Raises AccessRefused where a plugin gives no credentials."""
        now = self._clock.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        if self.access.plugin is not None and await self._plugin.renew(self.access):
            self.tls = tls_context(self.access, self._plugin.in_force.certificate)

    def _look(self) -> None:
        try:
            found = self._read()
            if found != self.access:
                self._accept(found)
            self._reported = None
        except AccessRefused as exc:
            if self._reported != str(exc):
                self._reported = str(exc)
                log.warning("the files for the API server cannot be used: the old ones stay in force", message=str(exc))

    def _accept(self, found: Access) -> None:
        if found.host != self.access.host:
            raise AccessRefused(f"its server is now {found.host!r}: restart the operator to use another server")
        before = (self.access.authority, self.access.certificate, self.access.server_name, self.access.verify)
        if (found.authority, found.certificate, found.server_name, found.verify) != before:
            self.tls = tls_context(found, self._plugin.in_force.certificate)
            log.info("the certificates for the API server have changed", host=found.host)
        if found.plugin != self.access.plugin:
            self._plugin = PluginCredentials(clock=self._clock)
        self.access = found


class PluginCredentials:
    """What the exec plugin has printed last."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._ran_at: float | None = None
        self._running = asyncio.Lock()
        self._failure: AccessRefused | None = None
        self.in_force = ExecCredential()
        self.refused = False

    async def renew(self, access: Access) -> bool:
        """Run the plugin if it must be run. Returns whether its client certificate has changed. Raises AccessRefused."""
        async with self._running:  # requests at the same time wait for one run
            if not self._must_run() or access.plugin is None:
                if self._failure is not None:
                    raise self._failure
                return False
            self._ran_at, self.refused, before = self._clock.monotonic(), False, self.in_force
            try:
                self.in_force, self._failure = await run_plugin(access.plugin), None
            except AccessRefused as exc:
                self._failure = exc
                raise
            return self.in_force.certificate != before.certificate

    def _must_run(self) -> bool:
        if self._ran_at is None:
            return True
        if self._clock.monotonic() - self._ran_at < PLUGIN_EVERY_S:
            return False
        expires = self.in_force.expires
        expired = expires is not None and self._clock.now() >= expires - BEFORE_EXPIRY
        return self.refused or expired or self._failure is not None


def tls_context(access: Access, of_plugin: ClientCertificate | None) -> ssl.SSLContext:
    """Raises AccessRefused where a certificate or a key is no PEM, or where they do not belong together."""
    try:
        context = ssl.create_default_context(cadata=access.authority)
    except (ssl.SSLError, ValueError):
        raise AccessRefused("its certificate authority is no PEM certificate: correct it") from None
    # As kubectl: an intermediate authority may be trusted by itself, and certificates need no key identifiers.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if (certificate := of_plugin or access.certificate) is not None:
        _load(context, certificate)
    return context


def _load(context: ssl.SSLContext, certificate: ClientCertificate) -> None:
    """OpenSSL reads a client certificate from files only; these are removed at once."""
    with tempfile.TemporaryDirectory() as folder:  # readable by this user only
        names = [Path(folder) / name for name in ("certificate", "key")]
        for name, content in zip(names, (certificate.certificate, certificate.key), strict=True):
            name.write_text(content)
        try:
            context.load_cert_chain(names[0], names[1], password="")
        except (ssl.SSLError, ValueError):
            raise AccessRefused(
                "its client certificate and key are no PEM, or do not belong together: correct them"
            ) from None
