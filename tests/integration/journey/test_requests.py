"""The number of requests to the API server for each job, counted in its audit log."""

import time
from collections import Counter
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.control_plane.pins import Binaries
from hack.control_plane.processes import ControlPlane
from hack.database.postgres import Database, DatabaseServer
from hack.installation.prerequisites import ACCOUNT, apply_crds
from tests.integration.journey.conftest import system_in
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines

JOBS = 1_000
MOST_REQUESTS_A_JOB = 2.1


def requests_of(log: Path, user: str) -> Counter[tuple[str, str]]:
    """Requests of a user by verb and resource. A request is counted once, although each of its stages is logged."""
    seen = set()
    counted: Counter[tuple[str, str]] = Counter()
    for event in json_lines(log):
        if event["user"]["username"] == user and event["auditID"] not in seen:
            seen.add(event["auditID"])
            reference = event.get("objectRef", {})
            resource = "/".join(filter(None, (reference.get("resource", ""), reference.get("subresource", ""))))
            counted[event["verb"], resource] += 1
    return counted


@pytest.mark.timeout(500)
def test_a_job_that_succeeds_costs_one_create_one_status_patch_and_a_share_of_a_deletion(
    programs: Binaries, database_server: DatabaseServer, database: Database, tmp_path: Path
) -> None:
    with ControlPlane(tmp_path / "plane", programs=programs, audit_log=True) as plane:
        cluster = Cluster(plane.kubeconfig, plane.kubectl, "one with an audit log")
        apply_crds(cluster)
        with system_in(cluster, database_server, database, tmp_path) as system:
            system.book.add(JOBS)
            system.apply_source()
            began = time.monotonic()
            operator = system.start_operator(EMBEDDING_FINISHED_JOB_SECONDS="5")
            system.wait_until_fresh(within_s=120)
            wait_until(lambda: system.jobs() == [], within_s=60, every_s=0.5, because="finished jobs expire")
            operator.stop()
            elapsed_s = time.monotonic() - began
            assert plane.audit_log is not None
            counted = requests_of(plane.audit_log, f"system:serviceaccount:{system.kubectl.namespace}:{ACCOUNT}")
    assert counted["create", "embeddingjobs"] == JOBS
    assert counted["patch", "embeddingjobs/status"] == JOBS
    assert counted["patch", "embeddingjobs"] == 0
    assert 0 < counted["deletecollection", "embeddingjobs"] < JOBS / 20
    of_the_lease = sum(number for (_, resource), number in counted.items() if resource == "leases")
    assert of_the_lease <= 10 + elapsed_s / 2, "it is renewed every three seconds, however long the jobs take"
    others = sum(counted.values()) - of_the_lease
    assert others <= MOST_REQUESTS_A_JOB * JOBS + elapsed_s / 2, counted  # such as the status of the source
