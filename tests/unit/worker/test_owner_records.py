"""The record of an owner, whatever version has written it, and how a refusal names the owner."""

import json

import pytest

from embedding_worker.rows.ownership import Owner, RecordedOwner, owned_elsewhere
from embedding_worker.source import TableColumn

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


AT = TableColumn("public", "businesses", "id", "embedding")
REFUSED = Owner("yellow-book", "others", "uid-9", "cluster-1")


@pytest.mark.parametrize(
    ("seen_s_ago", "said"),
    [
        (0.0, "seen within the last minute"),
        (59.9, "seen within the last minute"),
        (60.1, "not seen for more than a minute"),
        (86_400.0, "not seen for more than a minute"),
        (None, "deleted"),
    ],
)
def test_the_message_says_whether_the_owner_is_there_and_not_since_when(seen_s_ago: float | None, said: str) -> None:
    """A number that changes would make another status and another line of the log of each try."""
    owner = Owner("yellow-book", "businesses", "uid-1", "cluster-1")
    message = owned_elsewhere(AT, RecordedOwner(owner, seen_s_ago), REFUSED).message
    assert f"uid uid-1, {said}: delete" in message


@pytest.mark.parametrize(
    ("namespace", "cluster", "where"),
    [
        ("yellow-book", "cluster-1", "in this namespace,"),
        ("yellow-book", "", "in this namespace, or one of the same name in another cluster,"),
        ("yellow-book", "cluster-2", "in namespace yellow-book of another cluster,"),
        ("staging", "cluster-1", "in namespace staging,"),
        ("staging", "", "in namespace staging,"),
        ("staging", "cluster-2", "in namespace staging of another cluster,"),
    ],
)
def test_the_message_says_where_the_owner_is(namespace: str, cluster: str, where: str) -> None:
    owner = Owner(namespace, "businesses", "uid-1", cluster)
    message = owned_elsewhere(AT, RecordedOwner(owner, 1.0), REFUSED).message
    assert f"belongs to EmbeddingSource businesses {where} uid uid-1" in message
