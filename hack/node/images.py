"""Builds images without a container engine: by buildah, as root, in a store of its own in the cache.

Called by the node and by the end-to-end tests. The base image is built from Debian's packages, not pulled from a registry.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hack.go_build.programs import go_program
from hack.node.commands import run, try_run
from hack.node.machine import find
from hack.processes.environment import our_cache
from hack.processes.locked import hold_lock

RELEASE = "bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BASE_IMAGE = f"localhost/embedding-operator-base:{RELEASE}"
PAUSE_IMAGE = "localhost/pause:1"
BUILD_WITHIN_S = 1200.0
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def image_archive(
    image: str, *, dockerfile: Path, made_of: Sequence[Path], build_args: Mapping[str, str] | None = None
) -> Path:
    """Build `image` (a name with a tag) in the Dockerfile's folder, and return it as a docker-archive.

    `made_of` are the files and folders that it is built from: while they are the same, nothing is built again. Raises
    ToolError with the last lines of the build.
    """
    args = {"BASE_IMAGE": BASE_IMAGE, **(build_args or {})}
    archive = _archive(image, contents([dockerfile, *made_of]) + str(args))
    if archive.exists():
        return archive
    _ensure_base()
    command: list[str | Path] = [*_buildah("build"), "--isolation", "chroot", "--network", "host", "--tag", image]
    command += ["--file", str(dockerfile)]
    if CA_BUNDLE.exists():  # the machine's certificate authorities, for networks with a private one
        command += ["--volume", f"{CA_BUNDLE}:{CA_BUNDLE}:ro"]
        args |= {"PIP_CERT": str(CA_BUNDLE), "SSL_CERT_FILE": str(CA_BUNDLE)}
    for name, value in args.items():
        command += ["--build-arg", f"{name}={value}"]
    run([*command, str(dockerfile.parent)], within_s=BUILD_WITHIN_S)
    return _pushed(image, archive)


def pause_archive() -> Path:
    """The image of a pod's sandbox: one static program that waits for a signal."""
    program = go_program("pause")
    archive = _archive(PAUSE_IMAGE, str(program))
    if archive.exists():
        return archive
    container = run([*_buildah("from"), "scratch"]).strip()
    run([*_buildah("copy"), "--quiet", container, str(program), "/pause"])
    run([*_buildah("config"), "--entrypoint", '["/pause"]', container])
    run([*_buildah("commit"), "--quiet", container, PAUSE_IMAGE])
    run([*_buildah("rm"), container])
    return _pushed(PAUSE_IMAGE, archive)


def contents(paths: Sequence[Path]) -> str:
    """A text that changes with the name or the content of any file."""
    every = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    files = [file for file in every if file.is_file() and "__pycache__" not in file.parts]
    return "".join(f"{file.name}{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)


def _archive(image: str, made_of: str) -> Path:
    name = image.rpartition("/")[2].replace(":", "-")
    return our_cache() / "images" / f"{name}.{hashlib.sha256(made_of.encode()).hexdigest()[:12]}.tar"


def _pushed(image: str, archive: Path) -> Path:
    """Write the archive, and remove older ones and what older builds left in the store."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    for older in archive.parent.glob(f"{archive.name.partition('.')[0]}.*"):
        older.unlink()
    unfinished = archive.with_suffix(".unfinished")
    run([*_buildah("push"), "--quiet", image, f"docker-archive:{unfinished}:{image}"], within_s=BUILD_WITHIN_S)
    unfinished.replace(archive)
    run([*_buildah("rmi"), "--prune", "--force"])
    return archive


def _ensure_base() -> None:
    """Build the base image, Debian's Python on a minimal Debian, as in the official slim image, unless it exists."""
    with hold_lock(our_cache() / "images" / "base.lock"):
        if try_run([*_buildah("inspect"), "--type", "image", BASE_IMAGE]).returncode == 0:
            return
        rootfs = our_cache() / "images" / "rootfs"
        run(["rm", "-rf", rootfs])
        debootstrap: list[str | Path] = [
            str(find("debootstrap")),
            "--variant=minbase",
            f"--include={BASE_PACKAGES}",
            RELEASE,
            rootfs,
        ]
        run(debootstrap, within_s=BUILD_WITHIN_S)
        for unneeded in ("var/cache/apt/archives", "var/lib/apt/lists"):
            run(["find", rootfs / unneeded, "-type", "f", "-delete"])
        container = run([*_buildah("from"), "scratch"]).strip()
        run([*_buildah("copy"), "--quiet", container, str(rootfs), "/"], within_s=BUILD_WITHIN_S)
        run([*_buildah("commit"), "--quiet", container, BASE_IMAGE], within_s=BUILD_WITHIN_S)
        run([*_buildah("rm"), container])
        run(["rm", "-rf", rootfs])


def _buildah(verb: str) -> list[str | Path]:
    store = our_cache() / "images" / "store"
    place: list[str | Path] = [
        "--root",
        str(store),
        "--runroot",
        str(store.with_name("run")),
        "--storage-driver",
        "overlay",
    ]
    return [str(find("buildah")), *place, verb]
