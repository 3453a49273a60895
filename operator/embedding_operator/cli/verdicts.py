"""What `embedding-operator check` says: facts → a sentence, or why not. It decides only; checks.py reads the facts.

A function here returns what is well, in a few words, or raises Unfit with what is wrong and what to do.
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
"""Custom resources are selected by their fields since this version."""
CRD_MEND = "kubectl apply --server-side -f crds/, or install the chart with crds.install=true"


class Unfit(Exception):
    """What is wrong, and what to do, in a sentence."""


class Mark(StrEnum):
    WELL = "✓"
    WRONG = "✗"
    SKIPPED = "–"


@dataclass(frozen=True)
class Verdict:
    """One line of the report."""

    mark: Mark
    what: str
    said: str

    def __str__(self) -> str:
        return f"{self.mark} {self.what}: {' '.join(self.said.split())}"


def well(what: str, said: str) -> Verdict:
    return Verdict(Mark.WELL, what, said)


def wrong(what: str, said: str) -> Verdict:
    return Verdict(Mark.WRONG, what, said)


def skipped(what: str, because: str) -> Verdict:
    return Verdict(Mark.SKIPPED, what, f"skipped, because {because}")


def exit_code(verdicts: Sequence[Verdict]) -> int:
    return 1 if any(verdict.mark is Mark.WRONG for verdict in verdicts) else 0


def supported_kubernetes(version: Mapping[str, Any]) -> str:
    """Of what /version answers; some clusters give a minor version such as 32+."""
    found = tuple(int(re.sub(r"\D.*", "", str(version.get(part, ""))) or 0) for part in ("major", "minor"))
    shown = f"Kubernetes {version.get('gitVersion', 'of an unknown version')}"
    if found < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        raise Unfit(f"{shown} is older than {oldest}, since which jobs are found by their fields: upgrade the cluster")
    return shown


def served_kinds(versions: Sequence[str], resources: Collection[str]) -> str:
    """Whether both CRDs are there as this operator needs them, by the group's versions and what is served of ours."""
    if not versions:
        raise Unfit(f"the API server knows no {SOURCES} and {JOBS} of {GROUP}: {CRD_MEND}")
    if VERSION not in versions:
        raise Unfit(f"{GROUP} is served as {', '.join(versions)}, and this operator speaks {VERSION}: {CRD_MEND}")
    missing = sorted({SOURCES, f"{SOURCES}/status", JOBS, f"{JOBS}/status"} - set(resources))
    if missing:
        raise Unfit(f"{GROUP}/{VERSION} is served without {', '.join(missing)}: {CRD_MEND}")
    return f"{SOURCES} and {JOBS} are served as {GROUP}/{VERSION}"


def all_rights(allowed: Mapping[Right, bool], *, namespace: str) -> str:
    missing = [right for right, granted in allowed.items() if not granted]
    if missing:
        raise Unfit(
            f"in namespace {namespace} this account may not {', '.join(map(str, missing))}: bind it to a Role with the "
            "rules of charts/embedding-operator/files/rules.yaml"
        )
    return f"all {len(allowed)} that the operator needs in namespace {namespace}"


def sources(understood: Sequence[str], odd: Sequence[str]) -> str:
    """Of the sources' names: those that this version understands, and those that it does not."""
    if odd:
        raise Unfit(f"{', '.join(odd)} can't be understood, the CRDs are of another version: {CRD_MEND}")
    return ", ".join(understood) or "no source yet, so no table and no provider to look at"


def pgvector(found: Verdict, sources: Sequence[Verdict]) -> Verdict:
    """The verdict on pgvector, which no source needs where each keeps its vectors in an array."""
    if found.mark is Mark.WRONG and sources and all(source.mark is Mark.WELL for source in sources):
        return well(found.what, "not of use here, and not needed: each source keeps its vectors in an array")
    return found


def models_of(sources: Sequence[EmbeddingSource]) -> list[Model]:
    """Each model once, in the sources' order. What is done with a text that is too long makes no other model."""
    models: dict[tuple[str, str], Model] = {}
    for source in sources:
        model = source.spec.config().model
        models.setdefault((model.provider, model.fingerprint), model)
    return list(models.values())
