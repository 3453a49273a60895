"""What the arguments of `embedding-operator backfill-worker` mean."""

import json

import pytest

from embedding_operator.cli.backfill_worker import ArgumentRefused, Wanted, full_name, share_of
from embedding_worker.limits import Limits
from embedding_worker.rows.backfills import BackfillSettings
from embedding_worker.rows.backlog import Share
from embedding_worker.rows.derived_table import HASHED_BY
from tests.support.kept_rows import source_config


def settings(workers: int, *, hashed_by: str = HASHED_BY) -> BackfillSettings:
    return BackfillSettings(source_config(), Limits(), concurrency=4, workers=workers, hashed_by=hashed_by)


@pytest.mark.parametrize(
    ("source", "namespace", "expected"),
    [
        ("shops/businesses", None, "shops/businesses"),
        ("shops/businesses", "other", "shops/businesses"),
        ("businesses", "shops", "shops/businesses"),
    ],
)
def test_a_source_is_named_with_its_namespace(source: str, namespace: str | None, expected: str) -> None:
    assert full_name(source, namespace) == expected


@pytest.mark.parametrize(
    ("source", "namespace"), [("businesses", None), ("", "shops"), ("shops/", None), ("a/b/c", None), ("/b", None)]
)
def test_a_source_without_a_namespace_or_a_name_is_refused(source: str, namespace: str | None) -> None:
    with pytest.raises(ArgumentRefused, match="write it as NAMESPACE/"):
        full_name(source, namespace)


@pytest.mark.parametrize(
    ("wanted", "recorded", "share"),
    [(Wanted("s", 1), 3, Share(1, 3)), (Wanted("s", 1, 5), 3, Share(1, 5)), (Wanted("s", 0, 1), 0, Share(0, 1))],
)
def test_the_number_of_shares_is_the_recorded_one_unless_another_is_given(
    wanted: Wanted, recorded: int, share: Share
) -> None:
    assert share_of(wanted, settings(recorded)) == share


@pytest.mark.parametrize(
    ("wanted", "recorded", "words"),
    [
        (Wanted("s", 0), 0, "this backfill runs in the operator itself: set spec.backfill.workers of the source"),
        (Wanted("s", None), 3, "--index is missing, and JOB_COMPLETION_INDEX is not set"),
        (Wanted("s", 3), 3, "--index is 3, but there are 3 shares, from 0 to 2"),
    ],
)
def test_an_impossible_share_is_refused_with_the_remedy(wanted: Wanted, recorded: int, words: str) -> None:
    with pytest.raises(ArgumentRefused, match=words):
        share_of(wanted, settings(recorded))


def test_a_worker_of_a_version_that_hashes_vectors_in_another_way_is_refused() -> None:
    with pytest.raises(ArgumentRefused, match="run the operator and its workers from one image"):
        share_of(Wanted("s", 0), settings(3, hashed_by="another"))


def test_settings_of_a_version_that_does_not_name_its_hashes_are_not_those_of_this_one() -> None:
    record = json.loads(settings(3).as_record())
    assert BackfillSettings.of_record(json.dumps(record)) == settings(3)
    del record["hashedBy"]
    assert BackfillSettings.of_record(json.dumps(record)) != settings(3)
