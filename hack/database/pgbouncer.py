"""A PgBouncer in front of a PostgreSQL server: the machine's own program, or the one of Debian's package in the cache.

Called by the tests. The package is unpacked into the cache and not installed, so nothing of the machine changes.
"""

import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from hack.database.embedded_postgres import parent_folder, system_account
from hack.errors import StartFailed
from hack.processes.daemons import Daemon, end, start_daemon, wait_until_ready
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock
from hack.processes.run import run_to_end

FETCH_WITHIN_S = 120.0
READY_WITHIN_S = 60.0
END_WITHIN_S = 5.0
PORT = 6432  # it is part of the socket's name only
# Of the package's dependencies those that a machine may not have.
LIBRARIES = ("libevent-", "libc-ares")
REMEDY = "install pgbouncer, or check the network"


def can_be_had() -> bool:
    """Whether there is a PgBouncer, or a way to fetch one."""
    return shutil.which("pgbouncer") is not None or shutil.which("apt-get") is not None


class PgBouncer:
    """A PgBouncer for one database, on a Unix socket in a new temporary folder. It ends with the context.

    `server_url` is the URL of a role that may log in with its password, and `settings` are lines of pgbouncer.ini.
    """

    def __init__(self, server_url: str, **settings: str) -> None:
        server = {name: str(value) for name, value in conninfo_to_dict(server_url).items()}
        self.role, self.password, self.database = server["user"], server["password"], server["dbname"]
        self._target = f"host={server['host']} port={server.get('port', '5432')} dbname={self.database}"
        self._settings = settings
        self._command: list[str | Path] = []
        self._daemon: Daemon | None = None
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        """The same role and database, through PgBouncer."""
        return self.url_of(self.role, self.password, self.database)

    def url_of(self, role: str, password: str, database: str) -> str:
        return f"postgresql://{quote(role)}:{quote(password)}@/{quote(database)}?host={self._folder}&port={PORT}"

    def __enter__(self) -> Self:
        account = system_account() if os.geteuid() == 0 else None  # PgBouncer refuses to run as root
        self._folder = Path(tempfile.mkdtemp(prefix="eo-pgb-", dir=parent_folder(as_root=account is not None)))
        try:
            self._prepare(self._folder, account)
            self._start(self._folder)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self, folder: Path, account: pwd.struct_passwd | None) -> None:
        self._write_configuration(folder)
        self._command = [*_command(folder / "programs"), folder / "pgbouncer.ini"]
        if account is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def _start(self, folder: Path) -> None:
        owner = folder.stat()
        as_root = os.geteuid() == 0
        self._daemon = start_daemon(
            "pgbouncer",
            self._command,
            log=folder / "pgbouncer.log",
            ends_with_parent=True,
            user=owner.st_uid if as_root else None,
            group=owner.st_gid if as_root else None,
        )
        wait_until_ready(self._daemon, lambda: _accepts(folder / f".s.PGSQL.{PORT}"), within_s=READY_WITHIN_S)

    def restart(self) -> None:
        """End it, so that all of its connections are lost, and start it again at the same address."""
        if self._daemon is None or self._folder is None:
            raise StartFailed("PgBouncer does not run, so it cannot be restarted")
        end(self._daemon, within_s=END_WITHIN_S)
        (self._folder / f".s.PGSQL.{PORT}").unlink(missing_ok=True)
        self._start(self._folder)

    def __exit__(self, *exc: object) -> None:
        if self._daemon is not None:
            end(self._daemon, within_s=END_WITHIN_S)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _write_configuration(self, folder: Path) -> None:
        settings = {
            "listen_addr": "",
            "listen_port": str(PORT),
            "unix_socket_dir": str(folder),
            "auth_type": "plain",
            "auth_file": str(folder / "users.txt"),
            **self._settings,
        }
        lines = ["[databases]", f"{self.database} = {self._target}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        (folder / "users.txt").write_text(f'"{self.role}" "{self.password}"\n')


def _accepts(address: Path) -> bool:
    """Whether a connection to this Unix socket can be made: its file is there before that."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(address))
        except OSError:
            return False
        return True


def _command(copy: Path) -> list[str | Path]:
    """The program, with the libraries that it needs in addition to the machine's.

    What is in the cache is copied, because only this user may be able to read the cache.
    """
    if (installed := shutil.which("pgbouncer")) is not None:
        return [installed]
    folder = our_cache() / "pgbouncer"
    if not folder.exists():
        with hold_lock(folder.with_name("pgbouncer.lock")):
            if not folder.exists():
                _fetch(folder)
    shutil.copytree(folder / "usr", copy, symlinks=True)
    libraries = next(copy.glob("lib/*-linux-gnu*"), copy)
    return ["env", f"LD_LIBRARY_PATH={libraries}", copy / "sbin/pgbouncer"]


def _fetch(folder: Path) -> None:
    """Unpack Debian's package with its libraries into this folder. Raises StartFailed."""
    unfinished = folder.with_name("pgbouncer.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        _download("pgbouncer", unfinished)
    except StartFailed:  # the lists of packages are missing or old
        run_to_end(["apt-get", "update", "--quiet"], within_s=FETCH_WITHIN_S)
        _download("pgbouncer", unfinished)
    package = next(unfinished.glob("pgbouncer_*.deb"))
    needed = run_to_end(["dpkg-deb", "--field", package, "Depends"], within_s=FETCH_WITHIN_S).stdout
    for dependency in needed.split(","):
        name = dependency.split()[0]
        if name.startswith(LIBRARIES):
            _download(name, unfinished)
    for archive in unfinished.glob("*.deb"):
        unpacked = run_to_end(["dpkg-deb", "--extract", archive, unfinished], within_s=FETCH_WITHIN_S)
        if unpacked.returncode != 0:
            raise StartFailed(f"Debian's package {archive.name} could not be unpacked: {REMEDY}")
    unfinished.replace(folder)


def _download(package: str, folder: Path) -> None:
    done = run_to_end(["apt-get", "download", "--quiet", package], within_s=FETCH_WITHIN_S, cwd=folder)
    if done.returncode != 0:
        raise StartFailed(f"Debian's package {package} could not be fetched ({done.stderr.strip()}): {REMEDY}")
