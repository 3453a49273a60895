"""kind, and the only way to it: which engine answers, a cluster made, images loaded into it, and its end.

Called by `hack/cluster`, and by whoever needs a cluster with nodes. Nobody's own kubeconfig is touched: each cluster has a
file of its own, in a folder of its own.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hack.control_plane.build import kubectl_path
from hack.errors import BuildFailed, KindUnavailable, ToolError
from hack.go_build.programs import go_program
from hack.processes import environment

# Each answers with the version of its engine, and with nothing where only its client is there.
VERSIONS = {"docker": "{{.ServerVersion}}", "podman": "{{.Version.Version}}"}
RECORD = "kind.json"
KUBECONFIG = "admin.kubeconfig"
ANSWERS_WITHIN_S = 20.0
CREATED_WITHIN_S = 900.0  # a node image is about 1 GB
READY_WITHIN_S = 180.0
LOADED_WITHIN_S = 300.0
DELETED_WITHIN_S = 120.0
WORDS_SHOWN = 200


@dataclass(frozen=True)
class Engine:
    """A container engine that answers, by the name of its client: what kind is told to use."""

    name: str
    version: str


def answering_engine() -> Engine:
    """The first one that answers. Raises KindUnavailable, saying of each why not.

    kind itself takes the first client that it finds, whether an engine is behind it or not.
    """
    why_not = []
    for name, version in VERSIONS.items():
        if shutil.which(name) is None:
            why_not.append(f"{name} is not installed")
            continue
        try:
            done = _run([name, "info", "--format", version], within_s=ANSWERS_WITHIN_S)
        except subprocess.TimeoutExpired:
            why_not.append(f"{name} gives no answer within {ANSWERS_WITHIN_S:.0f} s")
            continue
        if done.returncode == 0 and done.stdout.strip():
            return Engine(name, done.stdout.strip())
        why_not.append(f"{name}: {_first_sentence(done.stderr) or 'no answer'}")
    raise KindUnavailable(f"no container engine answers for kind ({'; '.join(why_not)})")


@dataclass(frozen=True)
class KindCluster:
    """A cluster of kind's. What it takes to find and end it later lies in `folder`, beside its kubeconfig."""

    name: str
    engine: str
    folder: Path

    @classmethod
    def create(cls, name: str, folder: Path, *, say: Callable[[str], None]) -> Self:
        """A cluster of that name whose nodes are ready. Raises KindUnavailable with the first words of the failure.

        KIND_NODE_IMAGE chooses its Kubernetes. What a failure has left is deleted; a cluster that was there before is not.
        """
        engine = answering_engine()
        try:
            go_program("kind")
        except BuildFailed as exc:
            raise KindUnavailable(f"kind could not be built: {_clipped(str(exc))}") from exc
        image = environment.kind_node_image()
        cluster = cls(name, engine.name, folder.absolute())
        if name in cluster._kind("get", "clusters", within_s=ANSWERS_WITHIN_S).split():
            raise KindUnavailable(
                f"{engine.name} has a kind cluster {name} already, of which nothing is known here: if it may go, "
                f"`{go_program('kind')} delete cluster --name {name}`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / RECORD).write_text(json.dumps({"name": name, "engine": engine.name}) + "\n")
        shown = f"node image {image or 'by default'}"
        say(
            f"kind makes a cluster with {engine.name} {engine.version} ({shown}): a minute, more where it is to be pulled"
        )
        chosen = [] if image is None else ["--image", image]
        try:
            cluster._kind("create", "cluster", *cluster._meant(), *chosen, within_s=CREATED_WITHIN_S)
            cluster._wait_for_nodes()
        except BaseException:
            cluster.delete(even_if_it_fails=True)
            raise
        return cluster

    @classmethod
    def found_in(cls, folder: Path) -> Self | None:
        """The cluster that was created with this folder, whether it still runs or not."""
        record = folder / RECORD
        if not record.exists():
            return None
        content = json.loads(record.read_text())
        return cls(content["name"], content["engine"], folder.absolute())

    @property
    def kubeconfig(self) -> Path:
        return self.folder / KUBECONFIG

    @property
    def kubectl(self) -> Path:
        return kubectl_at_hand()

    def answers(self) -> bool:
        """Whether its API server does."""
        return self._kubectl("get", "--raw", "/readyz", "--request-timeout=10s").returncode == 0

    def load_image(self, reference: str) -> None:
        """Copy an image of the engine's to the nodes, so that pods need not pull it. Raises ToolError."""
        with tempfile.TemporaryDirectory() as folder:  # kind's own way from an engine's store knows Docker only
            archive = Path(folder) / "image.tar"
            saved = _run([self.engine, "save", "--output", archive, reference], within_s=LOADED_WITHIN_S)
            if saved.returncode != 0:
                raise ToolError(f"{self.engine} save {reference}: {_clipped(saved.stderr)}")
            self.load_archive(archive)

    def load_archive(self, archive: Path) -> None:
        """The same for an image that lies in a file, as `docker save` writes it."""
        self._kind("load", "image-archive", archive, "--name", self.name, within_s=LOADED_WITHIN_S)

    def delete(self, *, even_if_it_fails: bool = False) -> None:
        """Delete the cluster with its nodes, and the folder. Raises KindUnavailable, and keeps the folder, if kind fails."""
        try:
            self._kind("delete", "cluster", *self._meant(), within_s=DELETED_WITHIN_S)
        except KindUnavailable:
            if not even_if_it_fails:
                raise
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for_nodes(self) -> None:
        """kind's own waiting ends in a warning where time runs out, which nobody would notice."""
        within = f"--timeout={READY_WITHIN_S:.0f}s"
        done = self._kubectl("wait", "--for=condition=Ready", "nodes", "--all", within, within_s=READY_WITHIN_S)
        if done.returncode != 0:
            raise KindUnavailable(f"kind's nodes do not become ready: {_clipped(done.stderr)}")

    def _kubectl(self, *arguments: str, within_s: float = 0) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = [self.kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        return _run(command, within_s=within_s + ANSWERS_WITHIN_S)

    def _meant(self) -> tuple[str | Path, ...]:
        return "--name", self.name, "--kubeconfig", self.kubeconfig

    def _kind(self, *arguments: str | Path, within_s: float) -> str:
        command = [go_program("kind"), *arguments]
        asked = f"`kind {arguments[0]} {arguments[1]}`"
        try:
            done = _run(command, within_s=within_s, settings={"KIND_EXPERIMENTAL_PROVIDER": self.engine})
        except subprocess.TimeoutExpired as exc:
            raise KindUnavailable(f"{asked} did not end within {within_s:.0f} s") from exc
        if done.returncode != 0:
            raise KindUnavailable(f"{asked} failed: {first_words(done.stderr)}")
        return done.stdout


def kubectl_at_hand() -> Path:
    """The one on the PATH, or else the control plane's, which may have to be built."""
    on_path = shutil.which("kubectl")
    return Path(on_path) if on_path else kubectl_path()


def first_words(said: str) -> str:
    """What a failure of kind's comes down to: its ERROR line, and the first words of the command that failed in it."""
    error = re.search(r"^ERROR: (.*)$", said, re.MULTILINE)
    if error is None:
        return _clipped(said) or "it said nothing"
    what = error[1].partition(': command "')[0]
    output = re.search(r"^Command Output:\s*(.*)$", said, re.MULTILINE)
    return ": ".join(_clipped(words) for words in (what, output[1] if output else "") if words.strip())


def _first_sentence(said: str) -> str:
    """Of the first line that holds anything."""
    return _clipped(said.strip().partition("\n")[0].partition(". ")[0])


def _clipped(words: str) -> str:
    one_line = " ".join(words.split())
    return one_line if len(one_line) <= WORDS_SHOWN else f"{one_line[:WORDS_SHOWN]}…"


def _run(
    command: Sequence[str | Path], *, within_s: float, settings: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(part) for part in command],
        env=environment.program_environment() | dict(settings or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )
