"""Which section of the runbook belongs to what the page says. Pure; called by source_lines.py and job_lines.py."""

from embedding_operator.lifecycle.condition import Condition

PAGE = "https://github.com/yellowbook-dev/embedding-operator/blob/main/docs/runbook.md"
BY_REASON = {
    "DayLimitReached": "DayLimitNear",
    "DeadLetterLimit": "DeadLetterLimit",
    "ProviderUnavailable": "ProviderDown",
}
BY_TYPE = {
    "Stalled": "SourceStalled",
    "DatabaseReady": "DatabaseDown",
    "RowsLocked": "RowsLocked",
    "Reconciling": "SourceNotReady",
    "Fresh": "RowsNotFresh",
    "ProviderReady": "ProviderNotReady",
    "ReembedRequired": "ApprovalNeeded",
}
DEAD_LETTERS = "DeadLettersGrowing"
LATE = "RowsNotFresh"
NO_OPERATOR = "NoLeader"


def section(name: str) -> str:
    """The address of the section about the alert EmbeddingOperator<name>."""
    return f"{PAGE}#embeddingoperator{name.lower()}"


def about(condition: Condition) -> str:
    """The address of the section about this condition; empty where there is none."""
    name = BY_REASON.get(condition.reason) or BY_TYPE.get(condition.type)
    return section(name) if name else ""
