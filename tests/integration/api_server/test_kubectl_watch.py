"""`kubectl embeddings watch` as a process: on a real API server, as it changes, is lost and comes back, and until Ctrl-C."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from embedding_operator.api_access.credentials import Credentials
from embedding_operator.api_access.kubeconfig import read_kubeconfig
from embedding_operator.api_access.session import Connections, new_session
from embedding_worker.clock import SystemClock
from hack.processes.daemons import whole_lines
from hack.processes.environment import program_environment
from kubectl_embeddings.cluster import Cluster, VersionExpired
from tests.integration.api_server.conftest import Namespace
from tests.integration.api_server.test_kubectl_embeddings import Plugin
from tests.support.deadline import wait_until
from tests.support.manifests import a_source
from tests.support.tcp_proxy import BlockingTcpProxy

SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture(scope="module")
def plugin(namespace: Namespace) -> Plugin:
    """With the source `first`."""
    plugin = Plugin(namespace)
    plugin.create(a_source("first"), observedGeneration=1, summary="Sweeping")
    return plugin


class Running:
    """A program that goes on until it is interrupted, and what it has said so far."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def out(self) -> str:
        return "\n".join(whole_lines(self._folder / "out"))

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()

    def wait_for(self, *words: str) -> None:
        def found() -> bool:
            assert self._process.poll() is None, self.errors
            return all(word in self.out + self.errors for word in words)

        wait_until(found, within_s=60, because=f"it says {words}")

    def interrupted(self) -> int:
        """The exit code after Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=30)


@contextmanager
def running(command: Sequence[str | Path], folder: Path) -> Iterator[Running]:
    folder.mkdir()
    with (folder / "out").open("w") as out, (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, env=program_environment(), stdout=out, stderr=errors)
        try:
            yield Running(process, folder)
        finally:
            process.kill()
            process.wait()


def test_each_change_is_a_line_until_ctrl_c(plugin: Plugin, tmp_path: Path) -> None:
    plugin.create(a_source("changing"), observedGeneration=1, summary="Sweeping")
    with running(plugin.arguments("watch", "changing"), tmp_path / "lines") as watch:
        watch.wait_for("Sweeping")
        plugin.set_status("embeddingsource", "changing", summary="Suspended")
        watch.wait_for("Suspended")
        plugin.kubectl.run("delete", "embeddingsource", "changing")
        watch.wait_for("(deleted)")
        statuses = [line.split()[1] for line in watch.out.splitlines()]
        assert statuses == ["STATUS", "Sweeping", "Suspended", "(deleted)"]
        assert (watch.interrupted(), watch.errors) == (130, "")


def test_programs_get_one_document_for_each_change(plugin: Plugin, tmp_path: Path) -> None:
    with running(plugin.arguments("watch", "-o", "json"), tmp_path / "json") as watch:
        watch.wait_for('"first"')
        plugin.create(a_source("second"))
        watch.wait_for('"second"')
        plugin.kubectl.run("delete", "embeddingsource", "second")
        watch.wait_for("DELETED")
        events = [json.loads(line) for line in watch.out.splitlines()]
    seen = [(event["type"], event["object"]["metadata"]["name"]) for event in events]
    assert [seen[0], seen[-1]] == [("ADDED", "first"), ("DELETED", "second")]
    assert ("ADDED", "second") in seen


def test_an_api_server_that_is_away_is_said_and_what_has_changed_meanwhile_is_shown(
    plugin: Plugin, tmp_path: Path
) -> None:
    content = yaml.safe_load(plugin.namespace.admin_kubeconfig.read_text())
    (cluster,) = content["clusters"]
    server = urlsplit(cluster["cluster"]["server"])
    path = tmp_path / "through-the-proxy"
    with BlockingTcpProxy((str(server.hostname), server.port or 443)) as proxy:
        cluster["cluster"] = {"server": f"https://127.0.0.1:{proxy.port}", "insecure-skip-tls-verify": True}
        path.write_text(yaml.safe_dump(content))
        with running(plugin.arguments("watch", "first", kubeconfig=path), tmp_path / "away") as watch:
            watch.wait_for("Sweeping")
            proxy.stop()
            watch.wait_for("the API server cannot be reached")
            plugin.set_status("embeddingsource", "first", summary="QuotaExhausted")
            proxy.start()
            watch.wait_for("QuotaExhausted", "the API server answers again")


async def test_the_api_server_ends_a_watch_in_time_and_refuses_a_version_that_it_has_forgotten(plugin: Plugin) -> None:
    clock = SystemClock()
    credentials = Credentials(partial(read_kubeconfig, str(plugin.namespace.admin_kubeconfig)), clock=clock)
    await credentials.refresh()
    async with new_session(credentials, Connections(), limit=2, proxy=None) as session:
        cluster = Cluster(session, credentials.access.host, plugin.namespace.name, clock=clock)
        _, version = await cluster.sources_at()
        assert {event["type"] async for event in cluster.watch_sources(version, within_s=1)} <= {"BOOKMARK"}
        with pytest.raises(VersionExpired):
            assert [event async for event in cluster.watch_sources("1", within_s=5)] == []


def test_a_terminal_shows_a_view_that_follows_and_gives_the_cursor_back(plugin: Plugin) -> None:
    master, slave = pty.openpty()
    shown = b""
    settings = {"TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
    with subprocess.Popen(
        plugin.arguments("watch"), env=program_environment() | settings, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        os.set_blocking(master, False)

        def said(word: str) -> bool:
            nonlocal shown
            with suppress(OSError):  # nothing is there, or the program has ended
                shown += os.read(master, 65536)
            return word in shown.decode(errors="replace")

        wait_until(lambda: said("SOURCE"), within_s=30, because="it shows the headers")
        plugin.set_status("embeddingsource", "first", summary="DayLimitReached")
        wait_until(lambda: said("DayLimitReached"), within_s=30, because="it shows the change")
        process.send_signal(signal.SIGINT)
        wait_until(lambda: said(SHOW_CURSOR), within_s=30, because="it gives the cursor back")
        assert process.wait(timeout=30) == 130
    os.close(master)
    assert "Traceback" not in shown.decode(errors="replace")


def test_remove_prints_sql_for_a_source_of_the_cluster(plugin: Plugin) -> None:
    script = plugin.says("remove", "first")
    assert f"kubectl delete esrc first --namespace {plugin.namespace.name}" in script
    assert "\nBEGIN;\n" in script
    assert plugin.kubectl.get("embeddingsource", "first")["metadata"].get("deletionTimestamp") is None
