"""A backfill on workers, with a real operator: it creates a Job, follows what workers report, and removes the Job at the end.

No pods run here, so the test starts the workers as processes, with the arguments of the Job.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from embedding_operator.resources.workers_job import job_name
from hack.installation.prerequisites import ACCOUNT
from hack.provider_server.process import FakeGemini
from hack.repository import CHART, RULES
from tests.integration.journey.conftest import System
from tests.support.backfill_processes import WorkerProcesses
from tests.support.deadline import wait_until
from tests.support.workers import TEMPLATE

ROWS = 600
NAME = job_name("businesses")


def allow_workers(system: System) -> None:
    """Give the operator's account what the chart gives it with enabled workers."""
    rules = [*yaml.safe_load(RULES.read_text()), *yaml.safe_load((CHART / "files" / "workers-rules.yaml").read_text())]
    metadata = {"name": ACCOUNT, "namespace": system.kubectl.namespace}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}
    system.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(role))


def job(system: System) -> Any:
    found = system.kubectl.get("jobs.batch")["items"]
    return found[0] if found else None


@pytest.mark.timeout(400)
def test_a_backfill_waits_for_the_chart_and_then_runs_on_workers(system: System, tmp_path: Path) -> None:
    system.book.add(ROWS)
    gemini = system.stack.enter_context(FakeGemini(tmp_path, latency_ms=300))
    spec = {"mode": "Auto", "threshold": 100, "workers": 2}
    operator = system.start_with_gemini(gemini, backfill=spec)
    refused = system.wait_for_condition("Backfilling", "WorkersNotEnabled", within_s=60)
    assert "backfill.workers.enabled" in refused["message"]
    assert gemini.stats().texts == 0
    operator.stop()

    template = tmp_path / "job.yaml"
    template.write_text(yaml.safe_dump(TEMPLATE))
    allow_workers(system)
    system.start_gemini_operator(gemini, EMBEDDING_BACKFILL_POD_TEMPLATE_FILE=str(template))
    created = wait_until(lambda: job(system), within_s=60, every_s=0.2, because="the operator creates the Job")
    assert (created["metadata"]["name"], created["spec"]["completions"]) == (NAME, 2)

    (container,) = created["spec"]["template"]["spec"]["containers"]
    command, source, run = container["args"]
    assert command == "backfill-worker"
    settings = {
        "DATABASE_URL": system.database_url,
        "GEMINI_API_KEY": gemini.api_key,
        "EMBEDDING_GEMINI_ENDPOINT": gemini.url,
    }
    workers = WorkerProcesses(source, tmp_path, settings)
    system.stack.callback(workers.end_all)
    for index in range(2):
        workers.start(index, run)
    system.wait_until_fresh(within_s=90)
    for index in range(2):
        assert workers.exit_code(index) == 0, workers.tail(index)
    wait_until(lambda: job(system) is None, within_s=30, every_s=0.2, because="the operator removes the Job")
    system.wait_for_condition("Backfilling", "Completed", within_s=60)
    backfill = system.source()["status"]["backfill"]
    assert (backfill["done"], backfill["failed"]) == (ROWS, 0)
    assert gemini.stats().texts == ROWS
