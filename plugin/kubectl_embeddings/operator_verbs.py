"""The verbs that may ask the operator's pod: `explain`, of a job or of a row, and `report`.

Called by app.py.
"""

from datetime import datetime

from kubectl_embeddings import explanation, row_story
from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.layout import Screen
from kubectl_embeddings.report import Options, write_report

__all__ = ["Options", "explain", "write_report"]


async def explain(
    cluster: Requests, name: str, screen: Screen, *, operator_namespace: str | None, now: datetime
) -> int:
    """Of a job, or of a row SOURCE/ID: the name of a job has no slash."""
    told = row_story.explain_row if "/" in name else explanation.explain
    return await told(cluster, name, screen, operator_namespace=operator_namespace, now=now)
