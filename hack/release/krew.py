"""`make krew` writes what krew installs into dist/: the archive of `kubectl embeddings`, and the manifest with its checksum.

The archive has a script, a wheel of this checkout, and the requirements of uv.lock with their hashes. The same checkout gives the
same bytes. It needs Python's own library, and uv.
"""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from hack.release.versions import declared_versions
from hack.repository import ROOT

SOURCES = ROOT / "plugin" / "krew"
PROGRAM = "kubectl-embeddings"
EXPORT = (
    "export",
    "--quiet",
    "--locked",
    "--extra",
    "kubectl",
    "--no-default-groups",
    "--no-emit-project",
    "--no-header",
    "--no-annotate",
)
BUILD = ("build", "--quiet", "--wheel", "--no-create-gitignore", "--out-dir")


def write(uv: Path, folder: Path) -> tuple[Path, Path]:
    """The archive and the manifest, in this folder."""
    version = declared_versions()["pyproject.toml's version"]
    archive = folder / f"{PROGRAM}-v{version}.tar.gz"
    archive.write_bytes(packed(contents(uv, version)))
    manifest = folder / "embeddings.yaml"
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest.write_text(filled((SOURCES / "embeddings.yaml").read_text(), VERSION=version, SHA256=checksum))
    return archive, manifest


def contents(uv: Path, version: str) -> dict[str, bytes]:
    """The files of the archive by their names."""
    with tempfile.TemporaryDirectory() as made:
        run(uv, *BUILD, made)
        (wheel,) = Path(made).glob("*.whl")
        files = {wheel.name: wheel.read_bytes(), "requirements.txt": run(uv, *EXPORT)}
    files |= {"run.py": (SOURCES / "run.py").read_bytes(), "LICENSE": (ROOT / "LICENSE").read_bytes()}
    build = hashlib.sha256(b"".join(files.values())).hexdigest()[:8]
    script = filled((SOURCES / PROGRAM).read_text(), VERSION=version, BUILD=build)
    return files | {PROGRAM: script.encode()}


def run(uv: Path, *arguments: str) -> bytes:
    return subprocess.run([uv, *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def filled(template: str, **values: str) -> str:
    for name, value in values.items():
        template = template.replace(f"@{name}@", value)
    return template


def packed(files: dict[str, bytes]) -> bytes:
    """As tar.gz. Times and owners are left out, so that they change no checksum."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name == PROGRAM else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


if __name__ == "__main__":
    dist = ROOT / "dist"
    dist.mkdir(exist_ok=True)
    for path in write(Path(sys.argv[1]).absolute(), dist):
        print(path.relative_to(ROOT))
