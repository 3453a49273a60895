"""`kubectl embeddings ui` as a process, in a headless Chromium: what it shows of a real API server, with its user's rights."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from playwright.sync_api import expect

from hack.browser.chromium import can_be_had
from hack.control_plane.kubeconfig import current_context, service_account_kubeconfig
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end
from tests.integration.api_server.conftest import Namespace
from tests.support.deadline import wait_until
from tests.support.manifests import Json, a_job, a_source
from tests.support.page_browser import LOOK_AGAIN, Pages, headless_chromium
from tests.support.tcp_proxy import BlockingTcpProxy

pytestmark = pytest.mark.skipif(not can_be_had(), reason="the browser needs Linux on x86-64, and npm, which fetches it")

PROGRAM = Path(sys.executable).with_name("kubectl-embeddings")
WITHIN_MS = 30_000
MARKUP = "<img src=x onerror=alert(1)>"
AWAY = {
    "type": "ProviderReady",
    "status": "False",
    "reason": "ProviderUnavailable",
    "message": f"the provider has answered 503 {MARKUP}",
    "lastTransitionTime": "2026-03-01T11:48:00Z",
}
BACKFILL = {"progress": "30/40", "total": 40, "done": 30, "failed": 0, "rowsPerSecond": "2.0", "workers": 0}


def content(namespace: str) -> list[Json]:
    """Sources and jobs in different states, with their statuses."""
    rows = {"total": 40, "fresh": 30, "due": 10, "freshPercent": "75.0", "blank": 2}
    shops = a_source("shops") | {
        "status": {
            "observedGeneration": 1,
            "summary": "Backfilling",
            "rows": rows,
            "jobs": {"open": 0, "deadLettered": 3},
            "backfill": BACKFILL | {"beganAt": "2026-03-01T11:00:00Z"},
        }
    }
    photos = a_source("photos") | {
        "status": {"observedGeneration": 1, "summary": "ProviderUnavailable", "conditions": [AWAY]}
    }
    jobs = [
        job("s-1", "shops", phase="DeadLettered", reason="InputRejected", message=MARKUP),
        job("s-2", "shops", phase="DeadLettered", reason="InputRejected", message=MARKUP),
        job("s-3", "shops", phase="DeadLettered", reason="TextTooLong", message="the text is too long"),
        job("p-1", "photos", phase="Retrying", reason="RowsRefused", message="refused"),
        job("p-2", "photos", phase="Pending", reason="ProviderUnavailable", message="the provider is away"),
        job("p-3", "photos", phase="Succeeded"),
    ]
    return [one | {"metadata": one["metadata"] | {"namespace": namespace}} for one in (shops, photos, *jobs)]


def job(name: str, source: str, **status: Any) -> Json:
    return a_job(name, sourceRef={"name": source}, businessId=name) | {"status": {"attempts": 1} | status}


@pytest.fixture(scope="module")
def filled(namespace: Namespace) -> Namespace:
    documents = content(namespace.name)
    namespace.kubectl.run("create", "-f", "-", stdin=yaml.safe_dump_all(documents))
    # The status is a subresource, so creating ignores it.
    namespace.kubectl.run(
        "apply", "--server-side", "--subresource=status", "-f", "-", stdin=yaml.safe_dump_all(documents)
    )
    return namespace


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    expect.set_options(timeout=WITHIN_MS)
    with headless_chromium() as made:
        yield made


@contextmanager
def page_of(namespace: Namespace, *arguments: str, kubeconfig: Path | None = None) -> Iterator[str]:
    """The address that the command prints. It must end well when it is interrupted."""
    where = ["--kubeconfig", str(kubeconfig or namespace.admin_kubeconfig)]
    command = [str(PROGRAM), "ui", "--no-browser", *where, *(arguments or ("-n", namespace.name))]
    with subprocess.Popen(
        command, env=program_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors


def test_sources_dead_letters_and_open_jobs_of_the_cluster_are_shown(filled: Namespace, pages: Pages) -> None:
    with page_of(filled) as address, pages.open(address) as page:
        rows = page.locator("#sources-rows tr")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="shops")).to_contain_text("75.0 %")
        assert page.get_by_role("progressbar", name="Backfill of shops").evaluate("bar => bar.value") == 75
        expect(page.locator("#attention")).to_contain_text(f"ProviderUnavailable: {AWAY['message']}")
        groups = page.locator("#dead-letters > li")
        expect(groups).to_have_count(2)
        expect(groups.first).to_contain_text("InputRejected2 of shops")
        expect(groups.first).to_contain_text(MARKUP)
        expect(groups.first.locator(".command code")).to_have_text(
            f"kubectl embeddings replay --reason InputRejected -n {filled.name} --kubeconfig {filled.admin_kubeconfig}"
        )
        expect(page.locator("#open-jobs > li")).to_have_count(2)
        expect(page.locator("#open-jobs")).to_contain_text("the provider is away")
        assert page.locator("main img").count() == 0
    assert pages.problems == []


def test_the_command_that_is_shown_replays_these_dead_letters(filled: Namespace, pages: Pages) -> None:
    with page_of(filled) as address, pages.open(address) as page:
        group = page.locator("#dead-letters > li").filter(has_text="TextTooLong")
        command = group.locator(".command code").inner_text()
        path = f"{PROGRAM.parent}:{filled.kubectl.cluster.kubectl.parent}:{program_environment()['PATH']}"
        done = run_to_end(["bash", "-c", command], within_s=60, settings={"PATH": path})
        assert (done.returncode, done.stdout) == (0, "✓ s-3: replayed, after TextTooLong\n")
        expect(group).to_have_count(0, timeout=WITHIN_MS)
        expect(page.locator("#open-jobs")).to_contain_text("shops")


def test_all_namespaces_are_shown_with_their_names(filled: Namespace, pages: Pages) -> None:
    with page_of(filled, "-A") as address, pages.open(address) as page:
        expect(page.locator("#sources-rows").get_by_text(f"{filled.name}/shops")).to_be_visible()
        expect(page.locator("#place")).to_contain_text("All namespaces of https://")
        assert f"-n {filled.name} " in page.locator("#dead-letters .command code").first.inner_text()


def test_a_lost_api_server_is_said_with_the_time_of_the_last_data_until_it_is_back(
    filled: Namespace, pages: Pages, tmp_path: Path
) -> None:
    server = urlsplit(current_context(filled.admin_kubeconfig).cluster["server"])
    with BlockingTcpProxy((str(server.hostname), server.port or 443)) as proxy:
        kubeconfig = through(proxy, filled.admin_kubeconfig, tmp_path / "kubeconfig")
        with page_of(filled, "-n", filled.name, kubeconfig=kubeconfig) as address, pages.open(address) as page:
            proxy.stop()
            alert = page.get_by_role("alert")
            expect(alert).to_have_text(
                re.compile(
                    r"^The API server cannot be reached \(\w+\): look with `kubectl cluster-info[^`]*`. What is shown is of "
                    r"\d\d:\d\d:\d\d.$"
                ),
                timeout=2 * WITHIN_MS,
            )
            expect(page.locator("#updated")).to_contain_text("Not up to date: of ")
            expect(page.locator("#sources-rows")).to_contain_text("shops")
            proxy.start()
            expect(alert).to_be_hidden(timeout=2 * WITHIN_MS)
            expect(page.locator("#updated")).to_contain_text("Up to date: ")


def test_a_user_who_may_list_sources_only_sees_them_and_what_is_refused(
    filled: Namespace, pages: Pages, tmp_path: Path
) -> None:
    kubectl, name = filled.kubectl, "reader"
    kubectl.run("create", "serviceaccount", name)
    kubectl.run("create", "role", name, "--verb=list", "--resource=embeddingsources")
    kubectl.run("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={filled.name}:{name}")
    kubeconfig = service_account_kubeconfig(
        filled.admin_kubeconfig, filled.name, name, tmp_path / "kubeconfig", kubectl=kubectl.cluster.kubectl
    )
    with page_of(filled, "-n", filled.name, kubeconfig=kubeconfig) as address, pages.open(address) as page:

        def sees_them() -> bool:
            page.evaluate(LOOK_AGAIN)
            return page.locator("#sources-rows tr").count() == 2

        wait_until(sees_them, within_s=60, every_s=1, because="the account's Role was created")
        expect(page.locator("#dead-letters-note")).to_contain_text("The API server refuses this: embeddingjobs")
        expect(page.get_by_role("alert")).to_be_hidden()


def test_a_port_in_use_is_said_in_a_sentence(filled: Namespace) -> None:
    with page_of(filled) as address:
        port = urlsplit(address).port
        where = ["--port", str(port), "--kubeconfig", str(filled.admin_kubeconfig)]
        done = run_to_end([str(PROGRAM), "ui", "--no-browser", *where], within_s=60)
    assert done.returncode == 2
    assert done.stderr.startswith(f"kubectl embeddings: port {port} cannot be used (")


def through(proxy: BlockingTcpProxy, kubeconfig: Path, out: Path) -> Path:
    """The same kubeconfig through the proxy, for whose address the certificate need not be valid."""
    content = yaml.safe_load(kubeconfig.read_text())
    (cluster,) = content["clusters"]
    cluster["cluster"] = {"server": f"https://127.0.0.1:{proxy.port}", "insecure-skip-tls-verify": True}
    out.write_text(yaml.safe_dump(content))
    return out
