"""Does what docs/runbook.md says: the commands of kubectl and the SQL of a section, as they are printed there.

Called by the journeys of incidents.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from hack.installation.kubectl import Kubectl
from hack.processes.environment import program_environment
from hack.processes.run import run_to_end
from hack.repository import ROOT
from tests.support.documented_steps import DocumentedStep, Kind, steps
from tests.support.yellow_book import YellowBook

PAGE = (ROOT / "docs" / "runbook.md").read_text()
SOURCE = "businesses"
PREFIX = "EmbeddingOperator"


@dataclass
class Runbook:
    """Commands are run in a shell with a kubeconfig of this namespace, and SQL as a superuser of the database."""

    kubectl: Kubectl
    book: YellowBook
    folder: Path
    _settings: dict[str, str] = field(default_factory=dict)

    def follow(self, alert: str, containing: str, *, source: str = SOURCE) -> str:
        """Run the one step with these words in the section of this alert, for this source. Returns what a command has printed."""
        (step,) = [step for step in steps(PAGE, f"{PREFIX}{alert}") if containing in step.text]
        return self._run(replace(step, text=step.text.replace(SOURCE, source)))

    def _run(self, step: DocumentedStep) -> str:
        if step.kind is Kind.SQL:
            self.book.run(step.text)
            return ""
        done = run_to_end(["bash", "-ec", step.text], within_s=120, settings=self._environment())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """As the page says at its beginning, the namespace is set once."""
        if not self._settings:
            kubectl, own = self.kubectl.cluster.kubectl, self.folder / "runbook.kubeconfig"
            own.write_bytes(Path(self.kubectl.cluster.admin_kubeconfig).read_bytes())
            programs = f"{kubectl.parent}:{Path(sys.executable).parent}:{program_environment()['PATH']}"
            self._settings = {"KUBECONFIG": str(own), "PATH": programs}
            namespace = ["config", "set-context", "--current", "--namespace", self.kubectl.namespace]
            done = run_to_end([str(kubectl), *namespace], within_s=30, settings=self._settings)
            assert done.returncode == 0, done.stderr
        return self._settings
