"""Which section of the runbook belongs to what is said. Pure; called by row_story.py and the page."""

from embedding_operator.lifecycle.condition import Condition

PAGE = "https://github.com/yellowbook-dev/embedding-operator/blob/main/docs/runbook.md"
BY_REASON = {
    **dict.fromkeys(("DayLimitReached", "TokenLimitReached", "CostLimitReached"), "DayLimitNear"),
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
OF_A_ROW = {"DatabaseUnavailable": "DatabaseDown"} | dict.fromkeys(
    (
        "ApiKeyInvalid",
        "ApiKeyServiceBlocked",
        "BillingDisabled",
        "ConsumerSuspended",
        "EndpointRedirects",
        "FailedPrecondition",
        "NotFound",
        "PermissionDenied",
        "ProviderKeyInvalid",
        "ProviderMisconfigured",
        "RequestsRefused",
        "ServiceDisabled",
        "Unauthenticated",
    ),
    "ProviderDown",
)
"""Why a row waits that are no reasons of a condition above. Any other one has stopped the whole source."""


def section(name: str) -> str:
    """The address of the section about the alert EmbeddingOperator<name>."""
    return f"{PAGE}#embeddingoperator{name.lower()}"


def about(condition: Condition) -> str:
    """The address of the section about this condition; empty where there is none."""
    name = BY_REASON.get(condition.reason) or BY_TYPE.get(condition.type)
    return section(name) if name else ""


def about_row(reason: str) -> str:
    """The address of the section about this reason why a row waits."""
    return section(OF_A_ROW.get(reason) or BY_REASON.get(reason, BY_TYPE["Stalled"]))
