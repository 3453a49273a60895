"""Whose failure is it: the row's own, or nobody's. It decides only; freshen carries it out.

A failure that several rows shared is charged to none of them. Whether the provider is well while a row fails alone is told
by the row's neighbours; for a row without neighbours nothing else is asked yet (this is the seam for a circuit).
"""

from embedding_worker.batching.bisect import Halved


def charged(halved: Halved) -> frozenset[int]:
    """The places whose failure is their own: they failed alone, and not in the company of a failing provider."""
    return frozenset() if halved.shared is not None else frozenset(halved.failed_alone)
