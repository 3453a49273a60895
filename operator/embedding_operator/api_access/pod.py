"""Reads the service account of the pod that this process runs in. Called by credentials.py, again every few seconds.

The kubelet replaces the token every hour, and the certificates when those of the cluster are rotated.
"""

from pathlib import Path

from embedding_operator.api_access.access import Access, AccessRefused
from embedding_operator.settings import pod_api_server, pod_namespace

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def pod_access(folder: Path = ACCOUNT) -> Access:
    """Raises AccessRefused where this process runs in no pod, or in one without a service account."""
    host = pod_api_server()
    if host is None:
        raise AccessRefused("this process does not run in a pod: set KUBECONFIG to the path of a kubeconfig")
    token, authority = _read(folder / "token"), _read(folder / "ca.crt")
    return Access(host, pod_namespace(), authority, authorization=f"Bearer {token}")


def _read(path: Path) -> str:
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessRefused(
            f"{path} cannot be read ({type(exc).__name__}): give the pod a service account whose token is mounted"
        ) from None
    if not content:
        raise AccessRefused(f"{path} is empty: give the pod a service account whose token is mounted")
    return content
