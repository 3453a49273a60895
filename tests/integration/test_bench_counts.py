"""The counts of `make bench` keep their aims. Other figures depend on the machine, so they are measured by hand only.

The plans of the statements are checked in tests/integration/rows/test_plans.py. The minute of the quota is left to
`make bench SHORT=1`.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from hack.benchmarks import batching, duplicates, idle
from hack.benchmarks.errors import Skipped
from hack.benchmarks.figures import Found, missed, table
from hack.benchmarks.setting import Running, Setting
from hack.cluster_choice.choice import Cluster
from hack.database.postgres import DatabaseServer

ROWS = 1_000


@pytest.fixture
def setting(crds: None, cluster: Cluster, database_server: DatabaseServer, tmp_path: Path) -> Setting:
    """In the cluster and on the server of the tests."""
    return Setting(ROWS, tmp_path, ExitStack(), print, Running(database_server, cluster))


@pytest.mark.parametrize("measure", [batching.measure_counts, idle.measure_statements, duplicates.measure])
def test_counts_keep_their_aims(setting: Setting, measure: Callable[[Setting], Mapping[str, float]]) -> None:
    try:
        found = Found(measure(setting), {})
    except Skipped as exc:
        pytest.skip(str(exc))
    assert missed(found) == [], table(found)
