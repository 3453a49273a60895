"""An outage of the API server: the operator keeps running, and catches up within seconds when the server is reachable again."""

import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from hack.control_plane.kubeconfig import current_context, write_private
from hack.installation.operator_process import OperatorProcess
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.tcp_proxy import BlockingTcpProxy, Target

OUTAGE_S = 20
CAUGHT_UP_WITHIN_S = 20
"""Twice the ten seconds that an idle machine needs at most, because other tests run at the same time."""


def api_server_of(kubeconfig: Path) -> Target:
    server = urlsplit(current_context(kubeconfig).cluster["server"])
    return str(server.hostname), server.port or 443


def use_proxy(system: System, port: int) -> None:
    """Have the operator reach the API server through the proxy. kubectl keeps its direct connection.

    The certificate is not verified, because it need not be valid for the proxy's address.
    """
    content = yaml.safe_load(system.kubeconfig.read_text())
    (cluster,) = content["clusters"]
    cluster["cluster"] = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    system.kubeconfig = system.folder / "through-the-proxy.kubeconfig"
    write_private(system.kubeconfig, yaml.safe_dump(content))


def add_rows_during(system: System, seconds: float) -> None:
    """Add a row every half second until this time is over."""
    end = time.monotonic() + seconds

    def has_ended() -> bool:
        system.book.add(1, prefix="During the outage")
        return time.monotonic() >= end

    wait_until(has_ended, within_s=seconds + 30, every_s=0.5, because="the outage has a fixed length")


def caught_up(system: System) -> bool:
    """Every row is fresh, and each has exactly one job, which succeeded."""
    if not system.nothing_is_due():
        return False
    phases = Counter(job["status"]["phase"] for job in system.jobs())
    (rows,) = system.book.run("SELECT count(*) FROM public.businesses")[0]
    assert phases == {"Succeeded": rows}
    return True


def wait_until_caught_up(system: System) -> None:
    wait_until(
        lambda: caught_up(system), within_s=CAUGHT_UP_WITHIN_S, every_s=0.2, because="the API server is reachable"
    )


def assert_no_job_was_orphaned(operator: OperatorProcess) -> None:
    assert "orphaned job" not in operator.log.read_text()


@pytest.mark.timeout(180)
def test_after_an_outage_of_the_api_server_all_rows_are_fresh_and_all_jobs_succeeded_within_seconds(
    system: System,
) -> None:
    with BlockingTcpProxy(api_server_of(system.kubeconfig)) as proxy:
        use_proxy(system, proxy.port)
        operator = system.start_operator()
        system.apply_source()
        system.book.add(60, prefix="Before the outage")
        wait_until(system.jobs, within_s=30, every_s=0.05, because="jobs are in flight when the outage begins")
        proxy.stop()
        add_rows_during(system, OUTAGE_S)
        assert operator.is_running()
        assert Counter(job["status"]["phase"] for job in system.jobs())["Pending"] > 0

        proxy.start()
        wait_until_caught_up(system)
        assert system.book.outdated_rows() == []
        assert_no_job_was_orphaned(operator)

        system.book.add(20, prefix="After the outage")
        wait_until_caught_up(system)
        assert system.book.outdated_rows() == []
        assert_no_job_was_orphaned(operator)
        operator.stop()
