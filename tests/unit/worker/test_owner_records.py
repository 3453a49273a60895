"""The record of an owner is read whatever version has written it."""

import json

import pytest

from embedding_worker.rows.ownership import Owner

WRITTEN = {"namespace": "yellow-book", "name": "businesses", "uid": "uid-1", "cluster": "cluster-1"}


@pytest.mark.parametrize(
    ("record", "cluster"),
    [
        (WRITTEN, "cluster-1"),
        (WRITTEN | {"later": "field"}, "cluster-1"),
        ({key: value for key, value in WRITTEN.items() if key != "cluster"}, ""),
    ],
)
def test_fields_that_are_missing_or_not_known_change_no_owner(record: dict[str, str], cluster: str) -> None:
    owner = Owner.of_record(json.dumps(record))
    assert (owner, owner.cluster) == (Owner("yellow-book", "businesses", "uid-1"), cluster)


def test_a_record_is_read_as_it_was_written() -> None:
    assert json.loads(Owner.of_record(json.dumps(WRITTEN)).as_record()) == WRITTEN
