"""Which tests one worker runs together."""

from tests.support.side_by_side import LONGEST_FIRST, place_of, scope_of

JOURNEY = "tests/integration/journey/test_window.py::test_the_window_is_bounded"
ROWS = "tests/integration/rows/test_fence.py::test_an_edited_row_is_left_out"
UNIT = "tests/unit/test_docs.py::test_every_path_exists[README.md]"


def test_a_journey_goes_to_any_worker_and_the_tests_of_another_file_stay_together() -> None:
    assert [scope_of(nodeid, cluster_is_given=False) for nodeid in (JOURNEY, ROWS, UNIT)] == [
        JOURNEY,
        "tests/integration/rows/test_fence.py",
        "tests/unit/test_docs.py",
    ]


def test_one_worker_runs_all_tests_on_a_given_cluster() -> None:
    scopes = [scope_of(nodeid, cluster_is_given=True) for nodeid in (JOURNEY, ROWS, UNIT)]
    assert scopes == ["tests/integration/", "tests/integration/", "tests/unit/test_docs.py"]


def test_journeys_begin_first_and_unit_tests_last() -> None:
    assert sorted([UNIT, ROWS, JOURNEY], key=lambda nodeid: place_of(nodeid, LONGEST_FIRST)) == [JOURNEY, ROWS, UNIT]
