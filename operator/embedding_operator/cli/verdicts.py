"""Decides what `embedding-operator check` reports about facts. Pure; checks.py reads the facts.

A check is a function that returns what is right in a few words, or raises CheckFailed with what is wrong and what to do.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from embedding_operator.resources import GROUP, JOBS, SOURCES, VERSION
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_operator.rights import Right
from embedding_worker.source import Model

OLDEST_KUBERNETES = (1, 32)
"""The first version that selects custom resources by their fields."""
CRD_REMEDY = "kubectl apply --server-side -f crds/, or install the chart with crds.install=true"


class CheckFailed(Exception):
    """What is wrong, and what to do, in a sentence."""


class Mark(StrEnum):
    PASSED = "✓"
    FAILED = "✗"
    SKIPPED = "–"
    ADVICE = "→"


@dataclass(frozen=True)
class Verdict:
    """One line of the report."""

    mark: Mark
    what: str
    message: str

    def __str__(self) -> str:
        return f"{self.mark} {self.what}: {' '.join(self.message.split())}"


def passed(what: str, message: str) -> Verdict:
    return Verdict(Mark.PASSED, what, message)


def failed(what: str, message: str) -> Verdict:
    return Verdict(Mark.FAILED, what, message)


def skipped(what: str, because: str) -> Verdict:
    return Verdict(Mark.SKIPPED, what, f"skipped, because {because}")


def advice(what: str, message: str) -> Verdict:
    """What would be better, although nothing is wrong."""
    return Verdict(Mark.ADVICE, what, message)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    return 1 if any(verdict.mark is Mark.FAILED for verdict in verdicts) else 0


def supported_kubernetes(version: Mapping[str, Any]) -> str:
    """Checks the answer of /version; some clusters give a minor version such as 32+."""
    found = tuple(int(re.sub(r"\D.*", "", str(version.get(part, ""))) or 0) for part in ("major", "minor"))
    shown = f"Kubernetes {version.get('gitVersion', 'of an unknown version')}"
    if found < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        raise CheckFailed(
            f"{shown} is older than {oldest}, since which jobs are found by their fields: upgrade the cluster"
        )
    return shown


def served_kinds(versions: Sequence[str], resources: Collection[str]) -> str:
    """Checks that both CRDs are served as this operator needs them. `resources` are the plural names that are served."""
    if not versions:
        raise CheckFailed(f"the API server knows no {SOURCES} and {JOBS} of {GROUP}: {CRD_REMEDY}")
    if VERSION not in versions:
        raise CheckFailed(
            f"{GROUP} is served as {', '.join(versions)}, and this operator speaks {VERSION}: {CRD_REMEDY}"
        )
    missing = sorted({SOURCES, f"{SOURCES}/status", JOBS, f"{JOBS}/status"} - set(resources))
    if missing:
        raise CheckFailed(f"{GROUP}/{VERSION} is served without {', '.join(missing)}: {CRD_REMEDY}")
    return f"{SOURCES} and {JOBS} are served as {GROUP}/{VERSION}"


def usable_namespace(name: str, found: Mapping[str, Any] | None) -> None:
    """Checks that the namespace exists, from its object (None: it does not exist), and is not being deleted."""
    if found is None:
        raise CheckFailed(
            f"namespace {name} does not exist: kubectl create namespace {name}, or set EMBEDDING_NAMESPACE to the right one"
        )
    if found.get("metadata", {}).get("deletionTimestamp"):
        raise CheckFailed(f"namespace {name} is being deleted: wait, and create it again, or set EMBEDDING_NAMESPACE")


def all_rights(allowed: Mapping[Right, bool], *, namespace: str) -> str:
    missing = [right for right, granted in allowed.items() if not granted]
    if missing:
        raise CheckFailed(
            f"in namespace {namespace} this account may not {', '.join(map(str, missing))}: bind it to a Role with the "
            "rules of charts/embedding-operator/files/rules.yaml"
            + (" and workers-rules.yaml" if any(right.group == "batch" for right in missing) else "")
        )
    return f"all {len(allowed)} that the operator needs in namespace {namespace}"


def sources(understood: Sequence[str], unknown: Sequence[str]) -> str:
    """Checks the sources, given by name: those that this version understands, and those that it does not."""
    if unknown:
        raise CheckFailed(f"{', '.join(unknown)} can't be understood, the CRDs are of another version: {CRD_REMEDY}")
    return ", ".join(understood) or "no source yet, so no table and no provider to look at"


def pgvector(found: Verdict, sources: Sequence[Verdict]) -> Verdict:
    """The verdict on pgvector, which is needed only by a source that does not store its vectors in an array."""
    if found.mark is Mark.FAILED and not sources:
        return skipped(found.what, f"no source needs it yet ({found.message})")
    if found.mark is Mark.FAILED and all(source.mark is Mark.PASSED for source in sources):
        return passed(found.what, "not usable here, and not needed: every source stores its vectors in an array")
    return found


def title_of(model: Model) -> str:
    with_key = f" with {model.api_key_ref}" if model.api_key_ref else ""
    return f"provider {model.provider}, model {model.fingerprint}{with_key}"


def models_of(sources: Sequence[EmbeddingSource]) -> list[Model]:
    """Each model that is called, once, in the order of the sources."""
    return list(dict.fromkeys(source.spec.config().model.as_called for source in sources))
