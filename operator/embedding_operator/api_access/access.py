"""What is known of the way to the API server at one moment, as the files of a pod or a kubeconfig say it. Pure."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class AccessRefused(Exception):
    """The message completes the sentence "KUBECONFIG is …, and", and names the remedy. It contains no credentials."""


@dataclass(frozen=True)
class ClientCertificate:
    """In PEM, as the files contain them."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class ExecPlugin:
    """A program that prints credentials: https://kubernetes.io/docs/reference/access-authn-authz/authentication/."""

    command: str
    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = field(repr=False)
    api_version: str
    cluster: tuple[tuple[str, Any], ...] | None
    """What the program is told of the cluster, where the kubeconfig asks for it."""
    folder: Path
    """The folder of the kubeconfig: a command with a slash is relative to it."""
    terminal: bool = False
    """Whether the program may use the terminal of this process, to ask its user."""


@dataclass(frozen=True)
class Access:
    host: str
    namespace: str | None = None
    authority: str | None = None
    """The trusted certificates in PEM; None: those of the system."""
    verify: bool = True
    server_name: str | None = None
    """The name that the server's certificate must have; None: that of the host."""
    proxy: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    """The Authorization header; None where a client certificate or a plugin authenticates."""
    certificate: ClientCertificate | None = None
    plugin: ExecPlugin | None = None

    @property
    def cluster(self) -> str:
        """What the cluster is recognized by: 16 hexadecimal digits of its certificate authority, or else of its address.

        Clusters have their own authorities, whatever address, namespace or file leads to them.
        """
        certificates = {"".join(found.split()) for found in CERTIFICATE.findall(self.authority or "")}
        known = "\n".join(sorted(certificates)) or self.host.rstrip("/")
        return hashlib.sha256(known.encode()).hexdigest()[:16]
