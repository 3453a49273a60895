"""What the integration tests share beside the cluster and the database: the CRDs, as long as the run lasts."""

from collections.abc import Iterator

import pytest

from hack.control_plane.choice import Cluster
from hack.installation import crds_applied


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> Iterator[None]:
    with crds_applied(cluster):
        yield
