"""The one place where the development tools and the tests read the environment.

Called by everything in `hack` and `tests`. What is meant for the operator itself (its database, its cluster)
is never read here, so that nobody's real database or cluster is ever touched by a test.
"""

import os
from collections.abc import Mapping
from pathlib import Path

WITHHELD_NAMES = frozenset({"DATABASE_URL", "DATABASE_URL_FILE", "GEMINI_API_KEY", "GEMINI_API_KEY_FILE", "KUBECONFIG"})
WITHHELD_PREFIXES = ("EMBEDDING_", "PG")


def cluster_kubeconfig() -> Path | None:
    """CLUSTER_KUBECONFIG: the administrator's kubeconfig of a cluster to use; None: a cluster is started."""
    value = os.environ.get("CLUSTER_KUBECONFIG", "")
    return Path(value).expanduser().absolute() if value else None


def kubebuilder_assets() -> Path | None:
    """KUBEBUILDER_ASSETS: a folder with etcd, kube-apiserver and kubectl to run; None: they are built."""
    value = os.environ.get("KUBEBUILDER_ASSETS", "")
    return Path(value).expanduser().absolute() if value else None


def kind_node_image() -> str | None:
    """KIND_NODE_IMAGE: the node image, and so the Kubernetes, of a kind cluster; None: kind's own default."""
    return os.environ.get("KIND_NODE_IMAGE") or None


def test_database_url() -> str | None:
    """TEST_DATABASE_URL: a PostgreSQL whose role may create databases and roles; None: the embedded one is started."""
    return os.environ.get("TEST_DATABASE_URL") or None


def cache_home() -> Path:
    """XDG_CACHE_HOME, or the folder that its specification names in its place (a relative one counts as unset)."""
    value = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return value if value.is_absolute() else Path.home() / ".cache"


def our_cache() -> Path:
    """Where what is built or fetched once is kept, outside of the repository."""
    return cache_home() / "embedding-operator"


def gemini_api_key() -> str | None:
    """GEMINI_API_KEY, for a demo that was asked to run on Google's API. Nothing else here ever reads it."""
    return os.environ.get("GEMINI_API_KEY") or None


def program_environment() -> dict[str, str]:
    """The environment for the programs that we start: ours, without whatever is meant for a real operator."""
    return without_operator_settings(os.environ)


def without_operator_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in WITHHELD_NAMES and not name.startswith(WITHHELD_PREFIXES)
    }
