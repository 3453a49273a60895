"""`kubectl embeddings status` shows each source in a line, and says what needs attention with the command that helps."""

import json
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from kubectl_embeddings.failures import DONE, NotFound
from kubectl_embeddings.layout import Format
from kubectl_embeddings.status import NOT_PROCESSED, attention, show_status, status_text
from kubectl_embeddings.views import Source, source_of
from tests.support.fake_clock import START
from tests.support.fake_requests import FakeRequests, Printed, condition, source_body
from tests.support.manifests import a_source

WELL = {
    "summary": "Sweeping",
    "rows": {"freshPercent": "99.1", "due": 30, "oldestDueSince": "2026-03-01T11:57:00Z"},
    "jobs": {"open": 30, "deadLettered": 0},
}
AWAY = condition("ProviderReady", "False", "ProviderUnavailable", "the provider 'any' is away since 11:50")


def source(**changes: Any) -> Source:
    return source_of(source_body(**changes))


def test_a_source_that_is_well_is_one_line() -> None:
    assert status_text([source(status=WELL)], now=START, width=None).splitlines() == [
        "SOURCE      STATUS    FRESH %  DUE  OLDEST  OPEN  DEAD",
        "businesses  Sweeping  99.1     30   3m      30    0",
    ]
    assert attention(source(status=WELL)) == []


def test_what_needs_attention_is_said_below_the_table() -> None:
    shown = status_text([source(status=WELL | {"conditions": [AWAY]})], now=START, width=None)
    assert shown.endswith("\n\nbusinesses\n  ProviderUnavailable: the provider 'any' is away since 11:50")


@pytest.mark.parametrize(
    ("status", "spec", "sentence", "command"),
    [
        ({"jobs": {"deadLettered": 2}}, {}, "2 dead letters", "dead-letters --source businesses"),
        ({"jobs": {"deadLettered": 1}}, {}, "1 dead letter", "dead-letters --source businesses"),
        ({}, {"suspend": True}, "Suspended: edits are only recorded", "resume businesses"),
        (
            {"conditions": [condition("ReembedRequired", "True", "ApprovalNeeded", "30 rows")]},
            {},
            "ApprovalNeeded: 30 rows",
            "approve businesses",
        ),
    ],
)
def test_the_command_that_helps_has_a_line_of_its_own(status: Any, spec: Any, sentence: str, command: str) -> None:
    shown = status_text([source(status=status, **spec)], now=START, width=40)
    assert shown.splitlines()[-2:] == [f"  {sentence}", f"    kubectl embeddings {command}"]


@pytest.mark.parametrize(("target", "is_late"), [("2m", True), ("3m", False), ("1h30m", False), (None, False)])
def test_a_row_that_waits_for_longer_than_the_target_of_its_source_needs_attention(
    target: str | None, is_late: bool
) -> None:
    shown = status_text([source(status=WELL, freshnessTarget=target)], now=START, width=None)
    assert shown.endswith("\n\nbusinesses\n  the oldest due row waits 3m: spec.freshnessTarget is 2m") is is_late


def test_what_stops_a_source_is_said_first_and_each_message_once() -> None:
    stalled = condition("Stalled", "True", "TableMissing", "there is no table")
    reconciling = condition("Reconciling", "True", "SettingUp", "there is no table")
    unknown = condition("Fresh", "Unknown", "Stalled", "not evaluated")
    found = attention(source(status={"conditions": [AWAY, unknown, reconciling, stalled]}))
    assert [one.sentence for one in found] == [
        "TableMissing: there is no table",
        "ProviderUnavailable: the provider 'any' is away since 11:50",
    ]


def test_a_source_that_no_operator_has_seen_says_how_to_find_the_operator() -> None:
    assert attention(source_of(a_source("new"))) == [NOT_PROCESSED]


def test_the_output_fits_into_eighty_columns() -> None:
    status = WELL | {"conditions": [condition("Stalled", "True", "TableMissing", "word " * 60)]}
    shown = status_text([source(name="s" * 60, status=status)], now=START, width=80)
    assert max(map(len, shown.splitlines())) <= 80


async def test_the_sources_that_are_named_are_shown_in_their_order() -> None:
    cluster, printed = FakeRequests(sources=[source_body("a"), source_body("b"), source_body("c")]), Printed()
    assert await show_status(cluster, ["c", "a"], printed.screen, now=START) == DONE
    assert [line.split()[0] for line in printed.text.splitlines()] == ["SOURCE", "c", "a"]


async def test_a_name_that_does_not_exist_is_answered_by_those_that_do() -> None:
    with pytest.raises(NotFound, match="namespace shops has no EmbeddingSource shop: there is a, b"):
        await show_status(
            FakeRequests(sources=[source_body("b"), source_body("a")]), ["shop"], Printed().screen, now=START
        )


async def test_json_is_the_objects_themselves() -> None:
    printed = Printed(output=Format.JSON)
    await show_status(FakeRequests(sources=[source_body("a", status=WELL)]), (), printed.screen, now=START)
    (item,) = json.loads(printed.text)["items"]
    assert item["status"]["rows"]["due"] == 30


async def test_an_empty_namespace_prints_nothing_for_scripts_to_read() -> None:
    printed = Printed()
    assert await show_status(FakeRequests(), (), printed.screen, now=START) == DONE
    assert (printed.lines, printed.notes) == ([], ["namespace shops has no EmbeddingSource"])


LEASE = "apis/coordination.k8s.io/v1/namespaces/shops/leases/embedding-operator"
HELD = {"holderIdentity": "operator-1", "renewTime": "2026-03-01T11:59:50.000000Z", "leaseDurationSeconds": 15}
FIRST = "  no operator has led since 2026-03-01 11:40:00Z: the numbers are of then"


@pytest.mark.parametrize(
    ("lease", "first"),
    [
        (HELD, None),
        (HELD | {"renewTime": "2026-03-01T11:40:00.000000Z"}, FIRST),
        (HELD | {"holderIdentity": "", "renewTime": "2026-03-01T11:40:00Z", "leaseDurationSeconds": 1}, FIRST),
        (HELD | {"renewTime": "2026-03-01T12:05:00Z"}, None),
        ({}, "  no operator leads: the numbers may be old"),
        (NotFound("there is none"), None),
        (RequestRefused("leases is forbidden"), None),
        (ApiServerUnreachable("it does not answer"), None),
    ],
)
async def test_that_no_operator_leads_is_said_first_where_it_is_known(lease: Any, first: str | None) -> None:
    cluster, printed = FakeRequests(sources=[source_body("a", status=WELL)]), Printed()
    cluster.objects[LEASE] = lease if isinstance(lease, Exception) else {"spec": lease}
    assert await show_status(cluster, (), printed.screen, now=START) == DONE
    lines = printed.text.splitlines()
    if first is None:
        assert lines[0].startswith("SOURCE")
    else:
        assert lines[:3] == [first, "    kubectl get pods,deployments -l app.kubernetes.io/name=embedding-operator", ""]
        assert lines[3].startswith("SOURCE")


def changed(generation: int, at: str, *, by: str = "") -> Source:
    body = source_body(status=WELL)
    body["metadata"] |= {
        "generation": generation,
        "managedFields": [{"time": at} | ({"subresource": by} if by else {})],
    }
    return source_of(body)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (changed(2, "2026-03-01T11:55:00Z"), "its spec was changed 5m ago, and no operator has looked at it yet"),
        (changed(2, "2026-03-01T11:59:55Z"), None),
        (changed(1, "2026-03-01T11:55:00Z"), None),
        (
            changed(2, "2026-03-01T11:59:59Z", by="status"),
            "its spec was changed 60m ago, and no operator has looked at it yet",
        ),
    ],
    ids=["not seen", "just now", "seen", "only its status was written since"],
)
def test_a_changed_spec_that_no_operator_looks_at_needs_attention(found: Source, said: str | None) -> None:
    shown = status_text([found], now=START, width=None)
    assert ("no operator has looked" in shown) is (said is not None)
    assert f"\n  {said or ''}" in shown or said is None
