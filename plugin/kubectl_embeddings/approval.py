"""`kubectl embeddings approve`: shows what a changed model or text costs, asks, and approves just that change.

Called by app.py.
"""

from collections.abc import Callable

from kubectl_embeddings.cluster import Requests
from kubectl_embeddings.failures import DONE, FAILED, NotFound
from kubectl_embeddings.layout import Screen, one_line
from kubectl_embeddings.views import Source, source_of

NO_PRICE = "0.0000"
"""What the operator reports where it knows no price, or where the model costs nothing."""


async def approve(cluster: Requests, name: str, screen: Screen, *, agreed: Callable[[], bool]) -> int:
    """Approve the change that waits, if the person agrees after having seen what it costs. Raises NotFound."""
    source = source_of(await cluster.source(name))
    if not source.pending:
        raise NotFound(
            f"no change of {name} waits for approval: after a change of spec.model or spec.text, wait a moment"
        )
    if source.approved == source.pending:
        screen.emit(f"✓ {name}: {one_line(source.pending)} is approved already, and the operator is about to use it")
        return DONE
    screen.emit(terms(source))
    if not agreed():
        screen.note("nothing is approved")
        return FAILED
    await cluster.patch_source(name, {"spec": {"approvedFingerprint": source.pending}})
    screen.emit(f"✓ {name}: approved; follow it with `{cluster.commands.of(f'kubectl embeddings status {name}')}`")
    return DONE


def terms(source: Source) -> str:
    """What is approved, and its price."""
    return "\n".join(
        [
            one_line(f"{source.name}: {source.table}"),
            f"  change   {one_line(source.pending)}",
            f"  rows     {source.reembed.get('rows', 'not counted yet')}",
            f"  price    {one_line(price(source))}",
        ]
    )


def price(source: Source) -> str:
    cost = source.reembed.get("estimatedCost")
    if cost is None:
        return "not estimated yet"
    return (
        "not known: EMBEDDING_PRICE_PER_MILLION_TOKENS of the operator is not set"
        if cost == NO_PRICE
        else f"about {cost}"
    )
