"""What `embedding-operator check` reports about facts: a few words if they are as needed, else what is wrong and what to do."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnavailable, RequestRefused
from embedding_operator.cli import checks, verdicts
from embedding_operator.cli.checks import reach_verdict
from embedding_operator.cli.verdicts import CheckFailed, Mark, Verdict, exit_code, failed, passed, skipped
from embedding_operator.resources import JOBS, SOURCES
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.rights import RIGHTS
from embedding_worker.errors import DatabaseUnavailable, SourceRefused
from tests.support.manifests import a_source

BOTH_KINDS = {SOURCES, f"{SOURCES}/status", JOBS, f"{JOBS}/status"}


def source(name: str = "businesses", **changes: Any) -> EmbeddingSource:
    return parse_source(a_source(name, **changes))


def test_a_line_has_a_mark_what_was_checked_and_a_sentence_on_one_line() -> None:
    assert str(passed("rights", "all 12")) == "✓ rights: all 12"
    assert str(failed("rights", "may not\n  create")) == "✗ rights: may not create"
    assert str(skipped("schema", "the database can't be asked")) == (
        "– schema: skipped, because the database can't be asked"
    )


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ([], 0),
        ([passed("a", "b")], 0),
        ([passed("a", "b"), skipped("c", "d")], 0),
        ([passed("a", "b"), failed("c", "d"), skipped("e", "f")], 1),
    ],
)
def test_one_thing_that_is_wrong_is_enough_for_exit_code_1(said: list[Verdict], code: int) -> None:
    assert exit_code(said) == code


@pytest.mark.parametrize(("major", "minor"), [("1", "32"), ("1", "32+"), ("1", "40"), ("2", "0")])
def test_a_kubernetes_that_selects_by_fields_is_supported(major: str, minor: str) -> None:
    said = verdicts.supported_kubernetes({"major": major, "minor": minor, "gitVersion": "v1.x"})
    assert said == "Kubernetes v1.x"


@pytest.mark.parametrize("version", [{"major": "1", "minor": "31", "gitVersion": "v1.31.9"}, {}])
def test_an_older_kubernetes_is_not(version: dict[str, str]) -> None:
    with pytest.raises(CheckFailed, match=r"is older than 1\.32, .*: upgrade the cluster"):
        verdicts.supported_kubernetes(version)


@pytest.mark.parametrize(
    ("versions", "resources", "sentence"),
    [
        ([], set(), "knows no embeddingsources and embeddingjobs of embeddings.yellowbook.dev"),
        (["v1", "v1beta1"], set(), r"is served as v1, v1beta1, and this operator speaks v1alpha1"),
        (["v1alpha1"], BOTH_KINDS - {JOBS, f"{JOBS}/status"}, "without embeddingjobs, embeddingjobs/status"),
        (["v1alpha1"], BOTH_KINDS - {f"{SOURCES}/status"}, "without embeddingsources/status"),
    ],
)
def test_crds_that_are_missing_or_of_another_version_are_reported_with_the_remedy(
    versions: list[str], resources: set[str], sentence: str
) -> None:
    with pytest.raises(CheckFailed, match=f"{sentence}: kubectl apply --server-side -f crds/"):
        verdicts.served_kinds(versions, resources)


def test_crds_that_are_served_in_another_version_too_pass() -> None:
    assert "v1alpha1" in verdicts.served_kinds(["v1alpha1", "v1"], BOTH_KINDS)


def test_each_right_that_is_missing_is_named() -> None:
    allowed = {right: right.verb not in ("watch", "deletecollection") for right in RIGHTS}
    with pytest.raises(CheckFailed) as unfit:
        verdicts.all_rights(allowed, namespace="yellow-book")
    assert str(unfit.value).startswith(
        "in namespace yellow-book this account may not watch embeddingsources, watch embeddingjobs, "
        "deletecollection embeddingjobs, watch leases: bind it to a Role"
    )


def test_all_rights_are_counted() -> None:
    said = verdicts.all_rights(dict.fromkeys(RIGHTS, True), namespace="yellow-book")
    assert said == f"all {len(RIGHTS)} that the operator needs in namespace yellow-book"


def test_a_namespace_that_exists_and_is_not_being_deleted_is_usable() -> None:
    verdicts.usable_namespace("yellow-book", {"metadata": {"name": "yellow-book"}})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            None,
            "namespace yellow-book does not exist: kubectl create namespace yellow-book, or set EMBEDDING_NAMESPACE",
        ),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, "namespace yellow-book is being deleted: wait"),
    ],
)
def test_another_namespace_is_not(found: dict[str, Any] | None, sentence: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{sentence}"):
        verdicts.usable_namespace("yellow-book", found)


def test_what_pgvector_is_missing_for_is_said_before_the_first_source() -> None:
    assert str(verdicts.pgvector(failed("pgvector", "CREATE EXTENSION vector"), [])) == (
        "– pgvector: skipped, because no source needs it yet (CREATE EXTENSION vector)"
    )


def test_sources_that_are_not_understood_are_named() -> None:
    with pytest.raises(CheckFailed, match=r"^odd, odder can't be understood"):
        verdicts.sources(["businesses"], ["odd", "odder"])


@pytest.mark.parametrize(
    ("found", "tables", "mark"),
    [
        (failed("pgvector", "is missing"), [], Mark.SKIPPED),
        (passed("pgvector", "0.8"), [], Mark.PASSED),
        (failed("pgvector", "is missing"), [skipped("source a", "no database")], Mark.FAILED),
        (failed("pgvector", "is missing"), [passed("source a", "in an array")], Mark.PASSED),
        (failed("pgvector", "is missing"), [passed("source a", "in an array"), failed("source b", "no")], Mark.FAILED),
        (passed("pgvector", "0.8"), [failed("source b", "no")], Mark.PASSED),
    ],
)
def test_pgvector_may_be_missing_where_each_source_does_without(
    found: Verdict, tables: list[Verdict], mark: Mark
) -> None:
    assert verdicts.pgvector(found, tables).mark is mark


def test_each_model_is_asked_once() -> None:
    other = {"model": {"dimensions": 16}}
    refusing = {"model": {"tooLong": "Refuse"}}
    own = {"model": {"apiKeySecretRef": {"name": "team-b", "key": "k"}}}
    searched = {"model": {"queryPrefix": "query: "}}
    changed: list[dict[str, Any]] = [{}, other, {}, refusing, own, searched]
    found = verdicts.models_of([source(str(name), **spec) for name, spec in enumerate(changed)])
    assert [verdicts.title_of(model) for model in found] == [
        f"provider local, model any@{rest}" for rest in ("8", "16", "8 with team-b/k")
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (CheckFailed("do this"), "do this"),
        (SourceRefused("TableMissing", "create it"), "create it"),
        (RequestRefused("forbidden"), "forbidden"),
        (ApiServerUnavailable("away"), "away: check that it runs, and that this process may reach it"),
        (DatabaseUnavailable("no connection could be made: start it"), "no connection could be made: start it"),
        (KeyError("s3cr3t"), "an unexpected error, KeyError: see the log on stderr, and report it"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_whatever_goes_wrong_in_a_check_becomes_a_sentence(error: Exception, message: str) -> None:
    async def fail() -> str:
        raise error

    assert await reach_verdict("it", fail()) == failed("it", message)


async def test_a_check_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "WITHIN_S", 0.01)
    never: Awaitable[str] = asyncio.get_running_loop().create_future()
    assert await reach_verdict("it", never) == failed(
        "it", "no answer within 0.01 s: check that the network allows the connection"
    )
