"""One row, and then the ways in which rows come and change, through the whole system."""

from tests.integration.journey.conftest import System


def test_one_row_becomes_fresh(system: System) -> None:
    system.book.add(1)
    system.operator()
    system.apply_source()
    system.wait_until_fresh()
    (job,) = system.jobs()
    assert job["status"]["phase"] == "Succeeded"
