"""Images without a container engine: built by buildah, as root, in a store of our own in the cache.

Called by the node and by the end-to-end tests. Where an image of a registry would be the base, one of Debian's packages is.
"""

import hashlib
from pathlib import Path

from hack.environment import our_cache
from hack.go_programs import go_program
from hack.locked import locked
from hack.node.commands import run, try_run
from hack.node.machine import find

ROOT = Path(__file__).parents[2]
RELEASE = "bookworm"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
BASE_IMAGE = f"localhost/embedding-operator-base:{RELEASE}"
PAUSE_IMAGE = "localhost/pause:1"
BUILD_WITHIN_S = 1200.0
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


def image_archive(
    image: str, *, dockerfile: Path, context: Path = ROOT, build_args: dict[str, str] | None = None
) -> Path:
    """Build `image` (a name with a tag), and return it as a docker-archive. Raises ToolError with the build's words."""
    _ensure_base()
    command: list[str | Path] = [
        *_buildah("build"),
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--layers",
        "--tag",
        image,
    ]
    command += ["--file", str(dockerfile), "--build-arg", f"BASE_IMAGE={BASE_IMAGE}"]
    for name, value in (build_args or {}).items():
        command += ["--build-arg", f"{name}={value}"]
    if CA_BUNDLE.exists():  # the machine's own authorities, for networks that have one
        command += ["--volume", f"{CA_BUNDLE}:{CA_BUNDLE}:ro"]
        command += ["--build-arg", f"PIP_CERT={CA_BUNDLE}", "--build-arg", f"SSL_CERT_FILE={CA_BUNDLE}"]
    run([*command, str(context)], within_s=BUILD_WITHIN_S)
    return _pushed(image)


def pause_archive() -> Path:
    """The image of a pod's sandbox: one static program that waits."""
    program = go_program("pause")
    container = run([*_buildah("from"), "scratch"]).strip()
    run([*_buildah("copy"), "--quiet", container, str(program), "/pause"])
    run([*_buildah("config"), "--entrypoint", '["/pause"]', container])
    run([*_buildah("commit"), "--quiet", container, PAUSE_IMAGE])
    run([*_buildah("rm"), container])
    return _pushed(PAUSE_IMAGE)


def _pushed(image: str) -> Path:
    archive = our_cache() / "images" / f"{hashlib.sha256(image.encode()).hexdigest()[:12]}.tar"
    archive.unlink(missing_ok=True)
    run([*_buildah("push"), "--quiet", image, f"docker-archive:{archive}:{image}"], within_s=BUILD_WITHIN_S)
    return archive


def _ensure_base() -> None:
    """Debian's Python on Debian's smallest system: what the official slim image is made of, too."""
    with locked(our_cache() / "images" / "base.lock"):
        if try_run([*_buildah("inspect"), "--type", "image", BASE_IMAGE]).returncode == 0:
            return
        print(f"making a base image of Debian {RELEASE} packages: this takes a minute, once", flush=True)
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
