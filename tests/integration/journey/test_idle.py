"""How rarely the loop of an idle source has a turn, and that it notices an edit all the same."""

import re
import time

import psycopg

from embedding_operator.reconciler.turn import CALM_PAUSE_S
from hack.installation.operator_process import OperatorProcess
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until

TURNS = re.compile(r"^embedding_operator_sweep_seconds_count\S* (\S+)$", re.MULTILINE)
MEASURED_S = 20.0


def turns(operator: OperatorProcess) -> float:
    return float(TURNS.findall(operator.page("/metrics"))[0])


def start_idle(system: System) -> OperatorProcess:
    system.book.add(5)
    operator = system.start_operator()
    system.apply_source()
    system.wait_until_fresh()
    wait_until(lambda: is_counted(system), within_s=60, because="a source is calm when its counts are written")
    return operator


def is_counted(system: System) -> bool:
    """Whether the status says that no row is due and no job is open. A job ends after the write of its row."""
    status = system.source()["status"]
    return bool(status.get("rows", {}).get("due") == 0 and status["jobs"]["open"] == 0)


def test_an_idle_source_has_few_turns(system: System) -> None:
    operator = start_idle(system)
    began, before = time.monotonic(), turns(operator)
    wait_until(lambda: time.monotonic() >= began + MEASURED_S, within_s=2 * MEASURED_S, because="the time is over")
    counted = turns(operator) - before
    assert counted <= 2 + (time.monotonic() - began) / CALM_PAUSE_S


def test_an_edit_that_commits_after_a_later_one_is_noticed(system: System) -> None:
    start_idle(system)
    with psycopg.connect(system.book.url) as late:
        late.execute("UPDATE businesses SET name = 'Late' WHERE id = 1")
        system.book.run("UPDATE businesses SET name = 'Early' WHERE id = 2")
        wait_until(
            lambda: system.reasons(2) == ["Embedded"] * 2, within_s=30, because="the other edit is not waited for"
        )
        system.wait_until_fresh()
    system.wait_until_fresh(within_s=30)
    assert system.book.outdated_rows() == []
