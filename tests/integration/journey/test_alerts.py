"""A real Prometheus scrapes a real operator: alerts fire in their incidents, and every panel of the dashboard has data."""

import json
from pathlib import Path
from typing import Any

import pytest

from embedding_operator.resources.embedding_source import RECONCILE_ANNOTATION
from hack.dashboard.prometheus import Prometheus
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.support.deadline import wait_until
from tests.support.prometheus import alerts_at_once, has_data, queries_of_the_dashboard

WITHIN_S = 60
PREFIX = "EmbeddingOperator"
TARGET = "10s"
ONE_RETRY = {"maxAttempts": 2, "initialSeconds": 1, "maxSeconds": 1}


def firing(prometheus: Prometheus, name: str, labelled: str = "") -> bool:
    return (f"{PREFIX}{name}", labelled) in prometheus.firing()


@pytest.mark.timeout(1_100)
def test_alerts_fire_in_their_incidents_and_every_panel_of_the_dashboard_has_data(
    system: System, prometheus_program: Path, tmp_path: Path
) -> None:
    with FakeGemini(tmp_path) as gemini:
        limits = {"tokensPerDay": 10_000_000, "estimatedCostPerMonth": 1_000}
        system.use_gemini(freshnessTarget=TARGET, retry=ONE_RETRY, limits=limits)
        settings = {"GEMINI_REQUESTS_PER_MINUTE": "6000", "PRICE_PER_MILLION_TOKENS": "0.15"}
        operator = system.start_gemini_operator(gemini, **{f"EMBEDDING_{name}": it for name, it in settings.items()})
        add(system, "Café")
        system.wait_until_fresh()
        prometheus = system.watch(prometheus_program, operator)
        no_alert_fires_while_all_is_well(prometheus)
        rows_fail_are_replayed_and_backfilled(system, gemini)
        a_refused_key_is_a_provider_that_is_down(system, gemini, prometheus)
        a_wrong_table_is_a_stalled_source(system, prometheus)
        every_panel_has_data(system, prometheus)
        operator.stop()
        wait_until(lambda: firing(prometheus, "NoLeader"), within_s=WITHIN_S, because="no operator runs")


def no_alert_fires_while_all_is_well(prometheus: Prometheus) -> None:
    wait_until(
        lambda: prometheus.query("count_over_time(embedding_operator_leader[10s]) > 3"),
        within_s=WITHIN_S,
        because="it is scraped each second",
    )
    # The alerts have no delay here: until its second turn is seen, a source with nothing to do seems to have none. On a busy
    # machine a scrape that takes more than a second fails, and the turn that tells of fresh rows may come later than they do.
    wait_until(
        lambda: prometheus.firing() == set(), within_s=WITHIN_S, because="a turn comes every 9 s, and all is well"
    )


def a_refused_key_is_a_provider_that_is_down(system: System, gemini: FakeGemini, prometheus: Prometheus) -> None:
    gemini.fault("400-key")
    add(system, "Bakery")
    wait_until(lambda: firing(prometheus, "ProviderDown", "gemini"), within_s=WITHIN_S, because="the key is refused")
    wait_until(
        lambda: firing(prometheus, "ProviderNotReady", "businesses"), within_s=WITHIN_S, because="no call is made"
    )
    wait_until(
        lambda: firing(prometheus, "RowsNotFresh", "businesses"), within_s=WITHIN_S, because=f"its target is {TARGET}"
    )
    gemini.lift()
    system.wait_until_fresh()
    wait_until(lambda: prometheus.firing() == set(), within_s=WITHIN_S, because="the key is accepted")


def a_wrong_table_is_a_stalled_source(system: System, prometheus: Prometheus) -> None:
    system.apply_source("wrong", table="public.busineses")
    expected = {(f"{PREFIX}SourceStalled", "wrong")}
    wait_until(lambda: prometheus.firing() == expected, within_s=WITHIN_S, because="its table is missing")
    system.kubectl.run("delete", "esrc", "wrong")
    wait_until(lambda: prometheus.firing() == set(), within_s=WITHIN_S, because="the source was deleted")


def rows_fail_are_replayed_and_backfilled(system: System, gemini: FakeGemini) -> None:
    """Before an outage, after which no failure of a row counts."""
    gemini.fault("500", only_matching="VENOM")
    (poison,) = add(system, "VENOM")
    dead = system.wait_for_phase(poison, "DeadLettered", within_s=WITHIN_S)
    gemini.lift()
    system.patch_status(dead["metadata"]["name"], {"phase": "Pending"})
    system.wait_for_phase(poison, "Succeeded")
    backfill_all(system)
    gemini.fault("429", times=1, seconds=1)
    add(system, "Deli")
    system.wait_until_fresh()


def every_panel_has_data(system: System, prometheus: Prometheus) -> None:
    """Some panels show the last minute only, so a row is embedded in it, however long ago the incidents were."""
    add(system, "Florist")
    system.wait_until_fresh()
    missing = queries_of_the_dashboard(prometheus.namespace)

    def all_have_answered() -> bool:
        for name in [name for name, query in missing.items() if has_data(prometheus, query)]:
            del missing[name]
        assert not missing, sorted(missing)
        return True

    wait_until(all_have_answered, within_s=WITHIN_S, because="each incident of the dashboard was caused")


def in_force(source: Any) -> bool:
    """Whether the operator works with the present spec."""
    return bool(source["status"]["observedGeneration"] == source["metadata"]["generation"])


def backfill_all(system: System) -> None:
    """Delete all vectors, which no trigger sees, so that the audit finds more rows than the threshold."""
    patch = json.dumps({"spec": {"backfill": {"mode": "Auto", "threshold": 1}}})
    system.kubectl.run("patch", "esrc", "businesses", "--type=merge", "-p", patch)
    wait_until(
        lambda: in_force(system.source()), within_s=WITHIN_S, because="a loop with the old spec would create jobs"
    )
    system.book.run("UPDATE public.businesses SET embedding = NULL")
    system.kubectl.run("annotate", "esrc", "businesses", f"{RECONCILE_ANNOTATION}=now")
    wait_until(lambda: system.source()["status"].get("backfill"), within_s=WITHIN_S, because="three rows are no edits")
    system.wait_until_fresh()


def test_the_alerts_of_the_journey_are_those_of_the_chart_without_a_delay() -> None:
    rules = alerts_at_once()["groups"][0]["rules"]
    assert len(rules) == 15
    assert not [rule for rule in rules if "for" in rule]
