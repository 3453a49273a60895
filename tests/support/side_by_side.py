"""How pytest-xdist shares the tests among its workers. Called by tests/conftest.py; it plays no part in a run without workers.

Each worker has an API server and a PostgreSQL of its own, which it starts when a test first needs them. So the tests of two
workers share nothing but the machine. A given cluster (CLUSTER_KUBECONFIG) is used by one worker only.
"""

from collections.abc import Sequence

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from hack.processes import environment

LONGEST_FIRST = ("tests/integration/journey/", "tests/integration/", "tests/chart/", "")
"""Folders in the order in which their tests start, so that no worker still runs a long test when all others have ended."""
ONE_BY_ONE = (
    "tests/integration/journey/",
    "tests/integration/test_cluster_command.py",
    "tests/integration/test_demo.py",
)
"""Long tests that set up all that they need, so that each may go to another worker. The tests of other files stay together."""
ON_THE_CLUSTER = "tests/integration/"
"""The tests that install the CRDs in the run's cluster, and remove them at the end."""


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives each worker a whole file, or one test of ONE_BY_ONE, whenever it has run out of tests."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid, cluster_is_given=environment.cluster_kubeconfig() is not None)


def scope_of(nodeid: str, *, cluster_is_given: bool) -> str:
    """The tests that one worker runs together have the same scope."""
    if cluster_is_given and nodeid.startswith(ON_THE_CLUSTER):
        return ON_THE_CLUSTER
    return nodeid if nodeid.startswith(ONE_BY_ONE) else nodeid.partition("::")[0]


def sort_longest_first(items: list[pytest.Item]) -> None:
    """Order the tests by LONGEST_FIRST; those of one folder keep their order."""
    items.sort(key=lambda item: place_of(item.nodeid, LONGEST_FIRST))


def place_of(nodeid: str, folders: Sequence[str]) -> int:
    return next(place for place, folder in enumerate(folders) if nodeid.startswith(folder))
