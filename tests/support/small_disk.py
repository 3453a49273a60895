"""A disk of a few megabytes for a tablespace of PostgreSQL, which a test fills. Needs the right to mount (Linux, as root)."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hack.processes.run import run_to_end

MEGABYTES = 8


@contextmanager
def small_disk(data_folder: Path) -> Iterator[Path]:
    """An empty folder on a disk of its own, which belongs to the owner of the data folder. Skips if none can be mounted."""
    owner = pwd.getpwuid(data_folder.stat().st_uid)
    # Its parents must be open to the user of PostgreSQL, which those of pytest are not.
    mounted = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
    options = f"size={MEGABYTES}m,uid={owner.pw_uid},gid={owner.pw_gid},mode=700"
    done = run_to_end(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mounted], within_s=20)
    if done.returncode != 0:
        mounted.rmdir()
        pytest.skip(f"no disk can be mounted on this machine: {done.stderr.strip()}")
    try:
        tablespace = mounted / "tablespace"
        tablespace.mkdir(mode=0o700)
        os.chown(tablespace, owner.pw_uid, owner.pw_gid)
        yield tablespace
    finally:
        run_to_end(["umount", "--lazy", mounted], within_s=20)
        shutil.rmtree(mounted, ignore_errors=True)
