"""The only module that runs kind: it finds the engine, creates a cluster, loads images into it, and deletes it.

Called by `hack/cluster`, and by everything that needs a cluster with nodes. It never changes the user's kubeconfig: each
cluster has a file of its own, in a folder of its own.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hack.control_plane.build import kubectl_path
from hack.errors import BuildFailed, KindUnavailable, ToolError
from hack.go_build.programs import go_program
from hack.processes import environment
from hack.processes.run import run_to_end

# The format by which each client prints the version of its engine; without an engine it prints nothing.
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
    """A container engine that answers, by the name of its client. kind is started with it."""

    name: str
    version: str


def answering_engine() -> Engine:
    """The first engine that answers. Raises KindUnavailable with the reason for each that does not.

    kind itself uses the first client that it finds, even if no engine answers it.
    """
    why_not = []
    for name, version in VERSIONS.items():
        if shutil.which(name) is None:
            why_not.append(f"{name} is not installed")
            continue
        try:
            done = run_to_end([name, "info", "--format", version], within_s=ANSWERS_WITHIN_S)
        except subprocess.TimeoutExpired:
            why_not.append(f"{name} did not answer within {ANSWERS_WITHIN_S:.0f} s")
            continue
        if done.returncode == 0 and done.stdout.strip():
            return Engine(name, done.stdout.strip())
        why_not.append(f"{name}: {_first_sentence(done.stderr) or 'no answer'}")
    raise KindUnavailable(f"no container engine answers for kind ({'; '.join(why_not)})")


@dataclass(frozen=True)
class KindCluster:
    """A kind cluster. `folder` holds its kubeconfig, and the record by which it is found and deleted later."""

    name: str
    engine: str
    folder: Path

    @classmethod
    def create(cls, name: str, folder: Path, *, say: Callable[[str], None]) -> Self:
        """Create a cluster whose nodes are ready. Raises KindUnavailable with the first words of the failure.

        KIND_NODE_IMAGE chooses its Kubernetes. After a failure the cluster is deleted; one that existed before is not.
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
                f"{engine.name} has a kind cluster {name} already, which was not created here: to delete it, run "
                f"`{go_program('kind')} delete cluster --name {name}`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        (folder / RECORD).write_text(json.dumps({"name": name, "engine": engine.name}) + "\n")
        shown = f"node image {image or 'by default'}"
        say(
            f"kind creates a cluster with {engine.name} {engine.version} ({shown}): a minute, more if it has to be pulled"
        )
        chosen = [] if image is None else ["--image", image]
        try:
            cluster._kind("create", "cluster", *cluster._identity(), *chosen, within_s=CREATED_WITHIN_S)
            cluster._wait_for_nodes()
        except BaseException:
            cluster.delete(even_if_it_fails=True)
            raise
        return cluster

    @classmethod
    def found_in(cls, folder: Path) -> Self | None:
        """The cluster that was created with this folder, even if it does not run."""
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
        return find_kubectl()

    def answers(self) -> bool:
        """Whether its API server answers."""
        return self._kubectl("get", "--raw", "/readyz", "--request-timeout=10s").returncode == 0

    def load_image(self, reference: str) -> None:
        """Copy an image of the engine to the nodes, so that pods need not pull it. Raises ToolError."""
        with tempfile.TemporaryDirectory() as folder:  # kind's own command for this supports Docker only
            archive = Path(folder) / "image.tar"
            saved = run_to_end([self.engine, "save", "--output", archive, reference], within_s=LOADED_WITHIN_S)
            if saved.returncode != 0:
                raise ToolError(f"{self.engine} save {reference}: {_clipped(saved.stderr)}")
            self.load_archive(archive)

    def load_archive(self, archive: Path) -> None:
        """The same for an image in a file, as `docker save` writes it."""
        self._kind("load", "image-archive", archive, "--name", self.name, within_s=LOADED_WITHIN_S)

    def delete(self, *, even_if_it_fails: bool = False) -> None:
        """Delete the cluster with its nodes, and the folder. Raises KindUnavailable, and keeps the folder, if kind fails."""
        try:
            self._kind("delete", "cluster", *self._identity(), within_s=DELETED_WITHIN_S)
        except KindUnavailable:
            if not even_if_it_fails:
                raise
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for_nodes(self) -> None:
        """Wait for the nodes. kind's own waiting ends with a warning only when the time is up."""
        within = f"--timeout={READY_WITHIN_S:.0f}s"
        done = self._kubectl("wait", "--for=condition=Ready", "nodes", "--all", within, within_s=READY_WITHIN_S)
        if done.returncode != 0:
            raise KindUnavailable(f"kind's nodes did not become ready: {_clipped(done.stderr)}")

    def _kubectl(self, *arguments: str, within_s: float = 0) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = [self.kubectl, "--kubeconfig", self.kubeconfig, *arguments]
        return run_to_end(command, within_s=within_s + ANSWERS_WITHIN_S)

    def _identity(self) -> tuple[str | Path, ...]:
        return "--name", self.name, "--kubeconfig", self.kubeconfig

    def _kind(self, *arguments: str | Path, within_s: float) -> str:
        command = [go_program("kind"), *arguments]
        shown = f"`kind {arguments[0]} {arguments[1]}`"
        try:
            done = run_to_end(command, within_s=within_s, settings={"KIND_EXPERIMENTAL_PROVIDER": self.engine})
        except subprocess.TimeoutExpired as exc:
            raise KindUnavailable(f"{shown} did not end within {within_s:.0f} s") from exc
        if done.returncode != 0:
            raise KindUnavailable(f"{shown} failed: {first_words(done.stderr)}")
        return done.stdout


def find_kubectl() -> Path:
    """The kubectl on the PATH, or else the control plane's, which is built if necessary."""
    on_path = shutil.which("kubectl")
    return Path(on_path) if on_path else kubectl_path()


def first_words(said: str) -> str:
    """A failure of kind in few words: its ERROR line, and the first words of the command that failed."""
    error = re.search(r"^ERROR: (.*)$", said, re.MULTILINE)
    if error is None:
        return _clipped(said) or "it printed nothing"
    what = error[1].partition(': command "')[0]
    output = re.search(r"^Command Output:\s*(.*)$", said, re.MULTILINE)
    return ": ".join(_clipped(words) for words in (what, output[1] if output else "") if words.strip())


def _first_sentence(said: str) -> str:
    """The first sentence of the first line that is not empty."""
    return _clipped(said.strip().partition("\n")[0].partition(". ")[0])


def _clipped(words: str) -> str:
    one_line = " ".join(words.split())
    return one_line if len(one_line) <= WORDS_SHOWN else f"{one_line[:WORDS_SHOWN]}…"
