"""Programs that keep running are ended by their own process id."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hack.errors import DaemonDied, StartFailed
from hack.processes.daemons import Daemon, end, is_running, start_daemon, wait_until_ready

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)


def start(code: str, log: Path) -> Daemon:
    return start_daemon("python", [sys.executable, "-c", code], log=log, ends_with_parent=True)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Daemon]:
    daemon = start("import time; time.sleep(600)", tmp_path / "log")
    yield daemon
    end(daemon, within_s=5)


def test_it_runs_until_it_is_ended(sleeper: Daemon) -> None:
    assert is_running(sleeper)
    end(sleeper, within_s=60)
    assert not is_running(sleeper)


def test_a_later_process_with_the_same_id_is_not_the_daemon(sleeper: Daemon) -> None:
    earlier = replace(sleeper, started="1")
    end(earlier, within_s=5)
    assert is_running(sleeper)


def test_a_daemon_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    daemon = start(STUBBORN, log)
    wait_until_ready(daemon, lambda: "deaf" in log.read_text(), within_s=60)
    end(daemon, within_s=0.1)
    assert not is_running(daemon)


def test_a_daemon_that_ends_before_it_is_ready_shows_the_end_of_its_log(tmp_path: Path) -> None:
    daemon = start("import sys; sys.exit('no such disk')", tmp_path / "log")
    with pytest.raises(DaemonDied, match="no such disk"):
        wait_until_ready(daemon, lambda: False, within_s=60)


def test_a_daemon_that_is_never_ready_is_an_error(sleeper: Daemon) -> None:
    with pytest.raises(StartFailed, match="not ready within"):
        wait_until_ready(sleeper, lambda: False, within_s=0.05)


def test_a_daemon_gets_no_setting_of_an_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "real")
    log = tmp_path / "log"
    daemon = start("import os, time; print(os.environ.get('DATABASE_URL'), flush=True); time.sleep(600)", log)
    wait_until_ready(daemon, lambda: bool(log.read_text().strip()), within_s=60)
    end(daemon, within_s=5, first=signal.SIGKILL)
    assert log.read_text().strip() == "None"
