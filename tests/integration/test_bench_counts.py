"""The counts of `make bench` keep their aims. Other figures depend on the machine, so they are measured by hand only.

Each count also has a lower bound: one that is too small was not counted at all. The plans of the statements are checked in
tests/integration/rows/test_plans.py. The minute of the quota is left to `make bench SHORT=1`.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from hack.benchmarks import batching, duplicates, idle, inserts
from hack.benchmarks.errors import Skipped
from hack.benchmarks.figures import Found, missed, table
from hack.benchmarks.listings import Listings
from hack.benchmarks.setting import Running, Setting
from hack.cluster_choice.choice import Cluster
from hack.database.postgres import Database, DatabaseServer
from hack.processes import environment

ROWS = 1_000
"""So there are as many jobs, whose texts fit into ten requests."""


@pytest.fixture
def setting(crds: None, cluster: Cluster, database_server: DatabaseServer, tmp_path: Path) -> Setting:
    """In the cluster and on the server of the tests."""
    return Setting(ROWS, tmp_path, ExitStack(), print, Running(database_server, cluster))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("measure", "bounds"),
    [
        (batching.measure_counts, {"batching_requests_2000": (10, 13), "api_requests_per_job": (2.0, 2.1)}),
        (idle.measure_counts, {"idle_statements_per_min": (300, 700), "idle_transactions_per_min": (50, 700)}),
        (duplicates.measure, {"duplicate_texts_called_once": (1, 1)}),
    ],
)
def test_counts_keep_their_aims(
    setting: Setting, measure: Callable[[Setting], Mapping[str, float]], bounds: Mapping[str, tuple[float, float]]
) -> None:
    try:
        found = Found(measure(setting), {})
    except Skipped as exc:
        if environment.test_database_url() is None:  # the embedded PostgreSQL has all that is needed
            raise
        pytest.skip(str(exc))
    assert missed(found) == [], table(found)
    assert [name for name, (least, most) in bounds.items() if not least <= found.values[name] <= most] == [], table(
        found
    )


def test_rows_that_an_application_inserts_do_not_count_towards_the_first_fill(database: Database) -> None:
    listings = Listings(database.url)
    listings.create(2)
    listings.run("UPDATE public.businesses SET embedding = array_fill(1, ARRAY[768])::vector WHERE id = 1")
    assert inserts.is_filling(listings, 2)
    listings.run("UPDATE public.businesses SET embedding = array_fill(1, ARRAY[768])::vector WHERE id = 2")
    listings.run("INSERT INTO public.businesses (name, description) VALUES ('new', 'without a vector yet')")
    assert not inserts.is_filling(listings, 2)
