"""What the arguments of `embedding-operator backfill-worker` mean."""

import pytest

from embedding_operator.cli.backfill_worker import ArgumentRefused, Wanted, full_name, share_of
from embedding_worker.rows.backlog import Share


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
    assert share_of(wanted, recorded) == share


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
        share_of(wanted, recorded)
