"""The one place where the development tools and the tests read the environment.

Called by everything in `hack` and `tests`. The settings of the operator itself (its database, its cluster) are never read
here, so no test reaches a database or a cluster that is in use.
"""

import os
from collections.abc import Mapping
from pathlib import Path

WITHHELD_NAMES = frozenset({"DATABASE_URL", "DATABASE_URL_FILE", "KUBECONFIG"})
WITHHELD_PREFIXES = ("EMBEDDING_", "PG")
WITHHELD_SUFFIXES = ("_API_KEY", "_API_KEY_FILE")
"""The keys of all providers."""


def cluster_kubeconfig() -> Path | None:
    """CLUSTER_KUBECONFIG: the administrator's kubeconfig of a cluster to use; None: a cluster is started."""
    value = os.environ.get("CLUSTER_KUBECONFIG", "")
    return Path(value).expanduser().absolute() if value else None


def kubebuilder_assets() -> Path | None:
    """KUBEBUILDER_ASSETS: a folder with etcd, kube-apiserver and kubectl; None: they are built."""
    value = os.environ.get("KUBEBUILDER_ASSETS", "")
    return Path(value).expanduser().absolute() if value else None


def kind_node_image() -> str | None:
    """KIND_NODE_IMAGE: the node image, and so the Kubernetes, of a kind cluster; None: kind's own default."""
    return os.environ.get("KIND_NODE_IMAGE") or None


def test_database_url() -> str | None:
    """TEST_DATABASE_URL: a PostgreSQL whose role may create databases and roles; None: the embedded one is started."""
    return os.environ.get("TEST_DATABASE_URL") or None


def cache_home() -> Path:
    """XDG_CACHE_HOME, or the default of its specification where it is unset or relative."""
    value = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return value if value.is_absolute() else Path.home() / ".cache"


def our_cache() -> Path:
    """The folder for everything that is built or fetched once. It is outside of the repository."""
    return cache_home() / "embedding-operator"


def gemini_api_key() -> str | None:
    """GEMINI_API_KEY, for a demo on Google's API. Nothing else reads it."""
    return os.environ.get("GEMINI_API_KEY") or None


def python_path() -> str:
    """PYTHONPATH, which a started program gets with another folder before it."""
    return os.environ.get("PYTHONPATH", "")


def program_environment() -> dict[str, str]:
    """The environment of the programs that are started here: this process's, without the settings of an operator."""
    return without_operator_settings(os.environ)


def without_operator_settings(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name not in WITHHELD_NAMES
        and not name.startswith(WITHHELD_PREFIXES)
        and not name.endswith(WITHHELD_SUFFIXES)
    }
