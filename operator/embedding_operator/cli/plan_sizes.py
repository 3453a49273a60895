"""Decides what `embedding-operator plan` says about costs and sizes: distinct texts, price, vector column and index. Pure.

Called by plan_lines.py.
"""

import math

from embedding_operator.cli.plan_values import Line, PlanFacts
from embedding_worker.limits import cost_of
from embedding_worker.rows.vector_sizes import MOST_INDEXED_DIMENSIONS, column_bytes, hnsw_bytes

SET_PRICE = "set spec.model.pricePerMillionTokens, or EMBEDDING_PRICE_PER_MILLION_TOKENS"
UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def cost(facts: PlanFacts) -> list[Line]:
    """How many different texts there are, and what they cost."""
    rows, price = facts.rows, facts.price_per_million_tokens
    if not rows.texts:
        return []
    lines = []
    if rows.distinct is not None and rows.distinct < rows.texts:
        saved = rows.texts - rows.distinct
        about = "about " if rows.distinct_estimated else ""
        said = f"{about}{rows.distinct}: equal texts of one call are sent once, which saves at most {saved}"
        lines.append(Line("distinct texts", said))
    if price is None:
        return [*lines, Line("cost", f"not known: {SET_PRICE}")] if facts.provider.calls_server else lines
    said = f"about {money(cost_of(rows.tokens, price))}, at {price:g} for a million tokens; the provider bills its own count"
    return [*lines, Line("cost", said)]


def money(amount: float) -> str:
    """With two decimals, and a small amount with its first two digits."""
    return f"{amount:.2f}" if amount >= 0.1 or amount <= 0 else f"{amount:.{1 - math.floor(math.log10(amount))}f}"


def sizes(facts: PlanFacts) -> list[Line]:
    """The room that the vectors of all rows need."""
    vectors, kind = facts.rows.total - facts.rows.blank, facts.vector_type
    dimensions = facts.source.spec.model.dimensions
    if not facts.rows.due or not vectors:
        return []
    column = f"about {size(column_bytes(kind, dimensions, vectors))}, as {kind} of {dimensions} dimensions"
    return [Line("vector column", column), Line("HNSW index", _hnsw(kind, dimensions, vectors))]


def _hnsw(kind: str, dimensions: int, vectors: int) -> str:
    if (needed := hnsw_bytes(kind, dimensions, vectors)) is not None:
        return f"about {size(needed)}, if one is built: after the fill, because writes beside it are about ten times slower"
    if (as_halfvec := hnsw_bytes("halfvec", dimensions, vectors)) is None:
        return f"none: pgvector builds none beyond {MOST_INDEXED_DIMENSIONS['halfvec']} dimensions"
    remedy = "declare the column as halfvec, which needs half the room, or build the index on a cast to halfvec"
    if kind not in MOST_INDEXED_DIMENSIONS:
        return f"none on {kind}: declare the column as vector or halfvec of pgvector"
    most = MOST_INDEXED_DIMENSIONS[kind]
    return f"none on {kind} beyond {most} dimensions: {remedy}, about {size(as_halfvec)}, after the fill"


def size(number: int) -> str:
    """In two or three digits, and decimal units."""
    for unit, one in UNITS:
        if number >= one:
            return f"{number / one:.1f} {unit}" if number < 10 * one else f"{number / one:.0f} {unit}"
    return f"{number} bytes"
