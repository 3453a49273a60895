"""A real Prometheus scrapes a real operator: alerts fire in their incidents, and no longer when these are over."""

from pathlib import Path

import pytest

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.support.deadline import wait_until
from tests.support.prometheus import Prometheus, alerts_at_once

WITHIN_S = 60
PREFIX = "EmbeddingOperator"


def firing(prometheus: Prometheus, name: str, labelled: str = "") -> bool:
    return (f"{PREFIX}{name}", labelled) in prometheus.firing()


@pytest.mark.timeout(300)
def test_alerts_fire_in_their_incidents_and_end_with_them(
    system: System, prometheus_program: Path, tmp_path: Path
) -> None:
    with FakeGemini(tmp_path) as gemini:
        operator = system.start_with_gemini(gemini)
        add(system, "Café")
        system.wait_until_fresh()
        prometheus = Prometheus(
            prometheus_program, tmp_path, target=operator.http_url, namespace=system.kubectl.namespace
        )
        system.stack.callback(prometheus.stop)
        prometheus.start()
        no_alert_fires_while_all_is_well(prometheus)
        a_refused_key_is_a_provider_that_is_down(system, gemini, prometheus)
        a_wrong_table_is_a_stalled_source(system, prometheus)
        operator.stop()
        wait_until(lambda: firing(prometheus, "NoLeader"), within_s=WITHIN_S, because="no operator runs")


def no_alert_fires_while_all_is_well(prometheus: Prometheus) -> None:
    wait_until(
        lambda: prometheus.query("count_over_time(embedding_operator_leader[10s]) > 3"),
        within_s=WITHIN_S,
        because="it is scraped each second",
    )
    assert prometheus.firing() == set()


def a_refused_key_is_a_provider_that_is_down(system: System, gemini: FakeGemini, prometheus: Prometheus) -> None:
    gemini.fault("400-key")
    add(system, "Bakery")
    wait_until(lambda: firing(prometheus, "ProviderDown", "gemini"), within_s=WITHIN_S, because="the key is refused")
    wait_until(
        lambda: firing(prometheus, "ProviderNotReady", "businesses"), within_s=WITHIN_S, because="no call is made"
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


def test_the_alerts_of_the_journey_are_those_of_the_chart_without_a_delay() -> None:
    rules = alerts_at_once()["groups"][0]["rules"]
    assert len(rules) == 14
    assert not [rule for rule in rules if "for" in rule]
