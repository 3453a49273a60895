"""Two processes of one release: one leads, the other is ready and waits; it takes over after a crash, and after an end."""

import time
from pathlib import Path

import pytest

from hack.control_plane.certificates import Authority
from hack.control_plane.kubeconfig import current_context
from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System, add
from tests.integration.journey.test_api_server_outage import use_proxy
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines
from tests.support.tls_proxy import BlockingTlsProxy

TAKES_OVER_WITHIN_S = 20
HANDS_OVER_WITHIN_S = 3
SLACK_S = 40
"""For a busy machine."""


def start(
    system: System, gemini: FakeGemini, pod: str, *, until: str = "operator ready", name: str = ""
) -> OperatorProcess:
    server = {"GEMINI_API_KEY": gemini.api_key, "EMBEDDING_GEMINI_ENDPOINT": gemini.url}
    process = OperatorProcess(
        kubeconfig=system.kubeconfig,
        database_url=system.database_url,
        folder=system.folder,
        settings={**server, "EMBEDDING_POD_NAME": pod},
        name=name or pod,
    )
    system.stack.callback(process.stop)
    process.start(until=until)
    return process


def holder(system: System) -> str:
    return str(system.kubectl.get("lease", "embedding-operator")["spec"].get("holderIdentity", ""))


def notes(system: System, reason: str) -> set[str]:
    events = system.kubectl.get("events.events.k8s.io")["items"]
    return {event["note"] for event in events if event["reason"] == reason}


@pytest.mark.timeout(400)
def test_a_standby_is_ready_and_idle_and_takes_over(system: System, gemini: FakeGemini) -> None:
    system.use_gemini()
    system.book.add(3)
    first = start(system, gemini, "pod-a")
    system.wait_until_fresh()
    second = start(system, gemini, "pod-b", until="standing by")
    assert holder(system) == "pod-a"
    wait_until(lambda: second.page_or_error("/readyz")[0] == 200, within_s=20, because="a standby is ready")
    assert second.page_or_error("/healthz")[0] == 200
    assert f'"namespace": "{system.kubectl.namespace}", "event": "operator started"' in second.log.read_text()
    assert "embedding_operator_leader 1.0" in first.page("/metrics")
    assert "embedding_operator_leader 0.0" in second.page("/metrics")

    first.kill()
    killed = time.monotonic()
    (edited,) = add(system, "after the crash")
    system.wait_for_phase(edited, "Succeeded", within_s=TAKES_OVER_WITHIN_S + SLACK_S)
    assert time.monotonic() - killed > 5  # the Lease of the process that was killed has expired first
    assert holder(system) == "pod-b"

    start(system, gemini, "pod-c", until="standing by")
    assert second.terminate(within_s=30) == 0
    (edited,) = add(system, "after the end")
    system.wait_for_phase(edited, "Succeeded", within_s=HANDS_OVER_WITHIN_S + SLACK_S)
    assert holder(system) == "pod-c"
    told = {"pod-b leads from now on", "pod-c leads from now on"}
    wait_until(lambda: told <= notes(system, "Leading"), within_s=30, because="each change of the leader has an Event")
    system.wait_until_fresh()


@pytest.mark.timeout(400)
def test_two_leaders_for_a_moment_do_no_harm(system: System, gemini: FakeGemini) -> None:
    """Two processes that believe to be the same pod hold the Lease both."""
    system.use_gemini()
    system.book.add(300)
    gemini.fault("503", ratio=0.1)
    processes = [start(system, gemini, "pod-a"), start(system, gemini, "pod-a", name="another")]
    for n in range(10):
        system.book.run("UPDATE public.businesses SET name = 'edited ' || id || %s WHERE id %% 10 = %s", f" {n}", n)
    system.wait_until_fresh(within_s=90)
    gemini.lift()

    def phases() -> set[str]:
        return {job["status"]["phase"] for job in system.jobs()}

    wait_until(lambda: phases() <= {"Succeeded", "Superseded"}, within_s=60, because="every job has its outcome")
    assert all(process.is_running() for process in processes)
    system.wait_until_fresh()


def moment(process: OperatorProcess, text: str) -> str:
    """When the process has first logged this."""
    return next(str(line["timestamp"]) for line in json_lines(process.log) if line["event"] == text)


@pytest.mark.timeout(400)
def test_a_leader_that_is_cut_off_stops_before_another_one_leads_and_ends_when_it_sees_it(
    system: System, gemini: FakeGemini, tmp_path: Path
) -> None:
    system.use_gemini()
    direct = system.kubeconfig
    url = current_context(direct).cluster["server"]
    with BlockingTlsProxy(url, Authority(tmp_path / "of-the-proxy")) as proxy:
        use_proxy(system, proxy.port)
        cut_off = start(system, gemini, "pod-a")
        system.kubeconfig = direct
        standby = start(system, gemini, "pod-b", until="standing by")
        system.book.add(3)
        system.wait_until_fresh()
        proxy.swallow()
        wait_until(
            lambda: holder(system) == "pod-b", within_s=TAKES_OVER_WITHIN_S + SLACK_S, because="pod-a is cut off"
        )
        system.book.add(3, prefix="After the cut")
        system.wait_until_fresh()
        assert moment(cut_off, "not leading") < moment(standby, "leading")
        proxy.recover()
        wait_until(lambda: not cut_off.is_running(), within_s=60, because="pod-a sees that pod-b leads")
    assert '"clean": false' in cut_off.log.read_text()
    assert holder(system) == "pod-b"
