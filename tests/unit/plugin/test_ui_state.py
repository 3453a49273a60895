"""What the page of `kubectl embeddings ui` shows, and how old that is."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from embedding_operator.api_errors import ApiServerUnreachable, RequestRefused
from embedding_operator.lifecycle.source_summary import HINDERED, STOPPED
from embedding_operator.resources.embedding_job import Phase
from hack.repository import ROOT
from kubectl_embeddings import runbook
from kubectl_embeddings.shown_commands import Commands
from kubectl_embeddings.ui.job_lines import dead_letters, open_jobs
from kubectl_embeddings.ui.observation import LIMIT, Part
from kubectl_embeddings.ui.page_state import freshness
from kubectl_embeddings.ui.poll import EVERY_S, SHARE
from kubectl_embeddings.ui.source_lines import Level, Placed, backfill, level, line
from kubectl_embeddings.views import source_of
from tests.support.fake_clock import START
from tests.support.fake_requests import condition, source_body
from tests.support.jobs import job_body
from tests.support.manifests import Json
from tests.support.page_stand import Stand, an_hour_later, counts, jobs, sources

AWAY = ApiServerUnreachable("the API server cannot be reached (ClientConnectorError)")


def dead(business: str, reason: str = "InputRejected", *, minutes: int = 5, namespace: str = "test") -> Json:
    ended = f"2026-03-01T11:{60 - minutes}:00Z"
    body = job_body(business, Phase.DEAD_LETTERED, reason=reason, message="refused", completionTime=ended)
    body["metadata"]["namespace"] = namespace
    return body


@pytest.mark.parametrize(
    ("status", "spec", "expected"),
    [
        ({"observedGeneration": -1}, {}, Level.STOPPED),
        ({"conditions": [condition("Stalled", "True", "TableMissing", "")]}, {}, Level.STOPPED),
        (
            {"conditions": [condition("DatabaseReady", "False", "DatabaseUnavailable", "")]},
            {"suspend": True},
            Level.STOPPED,
        ),
        ({"conditions": [condition("ProviderReady", "False", "ApiKeyInvalid", "")]}, {}, Level.HINDERED),
        ({"conditions": [condition("ReembedRequired", "True", "ApprovalNeeded", "")]}, {}, Level.HINDERED),
        ({"conditions": [condition("Backfilling", "True", "Backfilling", "")]}, {}, Level.INFO),
        ({"conditions": [condition("Reconciling", "True", "SettingUp", "")]}, {}, Level.INFO),
        ({}, {"suspend": True}, Level.PAUSED),
        ({"conditions": [condition("Fresh", "True", "AllFresh", "")]}, {}, Level.WELL),
    ],
)
def test_the_word_of_a_source_is_as_urgent_as_its_most_pressing_condition(
    status: Json, spec: Json, expected: Level
) -> None:
    assert level(source_of(source_body(status=status, **spec))) is expected


def test_sources_that_are_stopped_come_first_and_those_that_are_well_last() -> None:
    stand = Stand()
    stand.show(sources(START))
    items = asyncio.run(stand.poll.state())["sources"]["items"]
    assert [one["name"] for one in items] == ["orders", "photos", "reviews", "archive", "businesses", "shops"]


def test_what_needs_attention_has_its_command_and_its_section_of_the_runbook() -> None:
    (photos,) = [body for body in sources(START) if body["metadata"]["name"] == "photos"]
    shown = line(Placed("shops", source_of(photos)), Commands(["--context", "of mine"]), START)
    assert [(one["command"], one["runbook"].partition("#")[2]) for one in shown["attention"]] == [
        ("", "embeddingoperatorproviderdown"),
        ("kubectl embeddings approve photos -n shops --context 'of mine'", "embeddingoperatorapprovalneeded"),
    ]
    assert shown["attention"][0]["sentence"].startswith("ProviderUnavailable: the provider has answered 503")


def test_a_row_that_is_due_for_longer_than_the_target_of_its_source_needs_attention() -> None:
    status = {"observedGeneration": 1, "rows": {"oldestDueSince": "2026-03-01T11:00:00Z"}}
    body = source_body(status=status, freshnessTarget="30m")
    (shown,) = line(Placed("shops", source_of(body)), Commands([]), START)["attention"]
    assert shown["sentence"] == "the oldest due row waits 60m: spec.freshnessTarget is 30m"
    assert shown["runbook"].endswith("#embeddingoperatorrowsnotfresh")


def test_a_backfill_that_runs_has_a_part_and_a_time_that_is_left() -> None:
    status = {
        "total": 200,
        "done": 95,
        "failed": 5,
        "rowsPerSecond": "2.0",
        "estimatedCompletion": "2026-03-01T12:31:00Z",
    }
    assert backfill(status, START) == {
        "total": 200,
        "done": 95,
        "failed": 5,
        "percent": 50,
        "rowsPerSecond": "2.0",
        "left": "31m",
    }


@pytest.mark.parametrize("status", [{}, {"total": 0}, {"total": 9, "done": 9, "completedAt": "2026-03-01T11:00:00Z"}])
def test_without_a_backfill_that_runs_there_is_no_bar(status: Json) -> None:
    assert backfill(status, START) is None


def test_dead_letters_are_in_groups_each_with_the_command_that_replays_just_these() -> None:
    bodies = [dead("1"), dead("2"), dead("3", "TextTooLong"), dead("4", namespace="other")]
    shown = dead_letters(bodies, Commands(), START)
    assert [(one["count"], one["command"]) for one in shown] == [
        (2, "kubectl embeddings replay --reason InputRejected -n test"),
        (1, "kubectl embeddings replay --reason TextTooLong -n test"),
        (1, "kubectl embeddings replay --reason InputRejected -n other"),
    ]
    assert [row["id"] for row in shown[0]["rows"]] == ["1", "2"]
    assert (shown[0]["newest"], shown[0]["message"]) == ("5m", "refused")


def test_a_reason_that_is_no_word_is_quoted_in_the_command() -> None:
    (group,) = dead_letters([dead("1", "x; rm -rf ~")], Commands(), START)
    assert group["command"] == "kubectl embeddings replay --reason 'x; rm -rf ~' -n test"


def test_of_many_dead_letters_some_rows_are_named() -> None:
    (group,) = dead_letters([dead(str(number)) for number in range(40)], Commands(), START)
    assert (group["count"], len(group["rows"])) == (40, 5)


def test_of_a_list_that_was_cut_the_numbers_are_at_least_and_the_newest_is_not_known() -> None:
    (group,) = dead_letters([dead("1")], Commands(), START, cut=True)
    assert (group["atLeast"], group["count"], group["newest"]) == (True, 1, "")
    (whole,) = dead_letters([dead("1")], Commands(), START)
    assert (whole["atLeast"], whole["newest"]) == (False, "5m")


def test_of_open_jobs_that_were_cut_the_oldest_and_the_next_are_not_known() -> None:
    (group,) = open_jobs([waiting_job()], START, cut=True)
    assert (group["atLeast"], group["oldest"], group["nextAttempt"]) == (True, "", "")
    (whole,) = open_jobs([waiting_job()], START)
    assert (whole["atLeast"], whole["oldest"], whole["nextAttempt"]) == (False, "5m", "4s")


def waiting_job() -> Json:
    body = job_body("1", Phase.RETRYING, nextAttemptTime="2026-03-01T12:00:04Z")
    body["metadata"]["creationTimestamp"] = "2026-03-01T11:55:00Z"
    return body


async def test_each_list_that_was_cut_says_so_in_its_groups() -> None:
    stand = Stand()
    many = [job_body(str(number), Phase.DEAD_LETTERED, reason="InputRejected") for number in range(LIMIT + 1)]
    many += [job_body(f"p{number}", Phase.PENDING) for number in range(LIMIT)]
    stand.show(sources(START), [*many, waiting_job()])
    state = await stand.poll.state()
    assert [(one["count"], one["atLeast"]) for one in state["deadLetters"]["items"]] == [(LIMIT, True)]
    assert [(one["phase"], one["atLeast"]) for one in state["openJobs"]["items"]] == [
        ("Pending", True),
        ("Retrying", False),
    ]


def test_open_jobs_are_counted_by_what_they_wait_for() -> None:
    waiting = [line for line in open_jobs(jobs(START), START) if line["phase"] in ("Pending", "Retrying")]
    assert [(one["source"], one["count"], one["phase"], one["reason"], one["nextAttempt"]) for one in waiting[:2]] == [
        ("photos", 50, "Pending", "ProviderUnavailable", ""),
        ("businesses", 3, "Retrying", "RowsRefused", "4s"),
    ]
    assert waiting[0]["message"].startswith("the provider has answered 503")


@pytest.mark.parametrize(
    "name",
    [
        *runbook.BY_REASON.values(),
        *runbook.BY_TYPE.values(),
        *runbook.OF_A_ROW.values(),
        runbook.DEAD_LETTERS,
        runbook.NO_OPERATOR,
        runbook.LATE,
    ],
)
def test_the_runbook_has_each_section_that_the_page_links_to(name: str) -> None:
    assert f"\n## EmbeddingOperator{name}\n" in (ROOT / "docs" / "runbook.md").read_text()
    alerts = (ROOT / "charts" / "embedding-operator" / "files" / "alerts.yaml").read_text()
    assert re.search(rf"{re.escape(runbook.section(name))}$", alerts, re.MULTILINE)


def test_each_type_of_condition_that_stops_a_source_has_a_section() -> None:
    types = {kind for kind, _ in (*STOPPED, *HINDERED)}
    assert types - set(runbook.BY_TYPE) <= {"Backfilling", "BlankTexts"}


def test_a_part_says_how_old_it_is_why_and_whether_it_is_cut() -> None:
    read = Part([{}] * LIMIT, START)
    later = START + timedelta(minutes=2)
    assert freshness(read, now=later) == {"at": START.timestamp(), "ageSeconds": 120.0, "problem": "", "cut": LIMIT}
    assert freshness(read, Part(problem="refused"), now=later) == {
        "at": None,
        "ageSeconds": None,
        "problem": "refused",
        "cut": LIMIT,
    }


async def test_many_tabs_cause_one_look() -> None:
    stand = Stand()
    stand.show(sources(START))
    await asyncio.gather(*(stand.poll.state() for _ in range(5)))
    await stand.clock.advance(EVERY_S - 1)
    await stand.poll.state()
    assert stand.lists == 1
    await stand.clock.advance(1)
    await stand.poll.state()
    assert stand.lists == 2


async def test_nobody_looks_while_no_tab_asks() -> None:
    stand = Stand()
    await stand.poll.state()
    await stand.clock.advance(3600)
    assert stand.lists == 1


async def test_a_slow_api_server_is_asked_less_often() -> None:
    stand = Stand()
    stand.held = asyncio.Event()
    first = asyncio.create_task(stand.poll.state())
    await stand.clock.advance(3)
    stand.held.set()
    await first
    await stand.clock.advance(SHARE * 3 - 4)
    await stand.poll.state()
    assert stand.lists == 1
    await stand.clock.advance(2)
    await stand.poll.state()
    assert stand.lists == 2


async def test_an_api_server_that_is_lost_leaves_the_last_data_with_their_time_and_the_reason() -> None:
    stand = await seen()
    stand.failure = AWAY
    await stand.clock.advance(60)
    state = await stand.poll.state()
    assert [one["name"] for one in state["sources"]["items"]] == ["shops"]
    assert state["sources"]["problem"] == f"{AWAY}: look with `kubectl cluster-info`"
    assert (state["sources"]["at"], state["sources"]["ageSeconds"]) == (START.timestamp(), 60.0)
    assert state["history"]["at"] == [START.timestamp()]


async def test_an_api_server_that_is_lost_is_asked_again_soon_however_long_that_took() -> None:
    stand = await seen()
    stand.failure, stand.held = AWAY, asyncio.Event()
    await stand.clock.advance(EVERY_S)
    asked = asyncio.create_task(stand.poll.state())
    await stand.clock.advance(20)
    stand.held.set()
    await asked
    await stand.clock.advance(EVERY_S)
    await stand.poll.state()
    assert stand.lists == 3


async def test_data_are_new_again_when_the_api_server_is_back() -> None:
    stand = await seen()
    stand.failure = AWAY
    await stand.clock.advance(60)
    await stand.poll.state()
    stand.failure = None
    await stand.clock.advance(60)
    assert (await stand.poll.state())["sources"] | {"items": [], "totals": {}} == {
        "at": START.timestamp() + 120,
        "ageSeconds": 0.0,
        "problem": "",
        "cut": None,
        "items": [],
        "totals": {},
    }


async def test_a_user_without_the_right_to_list_jobs_sees_the_sources() -> None:
    stand = Stand()
    stand.show([source_body("shops", status=counts(10, 1, sent=0))])
    stand.failing_jobs = RequestRefused('embeddingjobs is forbidden: cannot list resource "embeddingjobs" (403)')
    state = await stand.poll.state()
    assert (state["sources"]["problem"], len(state["sources"]["items"])) == ("", 1)
    assert state["deadLetters"]["problem"].startswith("the API server refuses this: embeddingjobs is forbidden")
    assert state["openJobs"]["at"] is None


async def test_the_totals_are_those_of_the_sources_that_were_counted() -> None:
    stand = Stand()
    stand.show(sources(START))
    assert (await stand.poll.state())["sources"]["totals"] == {
        "freshPercent": "62.3",
        "total": 2_036_727,
        "due": 766_903,
        "oldestDue": "50m",
        "deadLettered": 21,
        "open": 112,
    }


async def test_the_curves_have_an_hour() -> None:
    history = (await (await an_hour_later()).poll.state())["history"]
    assert len({len(history[name]) for name in ("at", "due", "freshPercent", "textsPerMinute")}) == 1
    assert history["at"][-1] - history["at"][0] == 3600
    assert history["freshPercent"][-1] == 62.3


async def seen(**status: Any) -> Stand:
    stand = Stand()
    stand.show([source_body("shops", status=counts(10, 1, sent=0) | status)])
    await stand.poll.state()
    return stand


async def test_that_no_operator_leads_is_said_with_its_command_and_its_section() -> None:
    stand = Stand()
    stand.show(sources(START))
    path = f"apis/coordination.k8s.io/v1/namespaces/{stand.namespace}/leases/embedding-operator"
    stand.objects[path] = {"spec": {"holderIdentity": "", "renewTime": "2026-03-01T11:40:00Z"}}
    (absent,) = (await stand.poll.state())["operators"]
    assert absent["namespace"] == stand.namespace
    assert absent["sentence"] == "no operator has led since 2026-03-01 11:40:00Z: the numbers are of then"
    assert absent["command"].startswith("kubectl get pods,deployments -l ")
    assert absent["command"].endswith(f" -n {stand.namespace}")
    assert absent["runbook"] == runbook.section("NoLeader")


async def test_of_an_operator_whose_lease_cannot_be_read_nothing_is_said() -> None:
    stand = Stand()
    stand.show(sources(START))
    assert (await stand.poll.state())["operators"] == []
