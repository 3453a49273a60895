"""How much room vectors need in a table and in an HNSW index, in bytes, about. Pure; called by `embedding-operator plan`.

The numbers are those of PostgreSQL's pages (storage/bufpage.h, access/heaptoast.h) and of pgvector's tuples (src/hnsw.h); with
pgvector 0.8.5 and m = 16, real columns of 256 to 3,072 dimensions were within a fifth of them, and indexes within a twentieth.
"""

from collections.abc import Sequence

PAGE = 8_192
USABLE = 8_168
"""Of a page, without its header."""
ITEM = 4
"""The pointer of a page to one of its tuples."""
INLINE = 2_000
"""A longer value is stored outside of the row, in chunks."""
CHUNK, OF_A_CHUNK, INDEX_ENTRY = 1_996, 36, 25
"""The bytes of a chunk, what comes with each, and its entry in the index of the chunks."""
POINTER = 18
"""What remains in the row then."""
ELEMENT, NEIGHBOURS = 72, 200
"""Of an HNSW index with m = 16, for each vector: what precedes it, and the tuple with its neighbours in the lowest layer."""
UPPER_LAYERS = 8
"""For the few vectors that are in higher layers too, on average."""
OF_HNSW_PAGE = 8
BYTES_PER_DIMENSION = {"vector": 4, "halfvec": 2}
WIDE_ARRAY = "double precision[]"
FREE_SPACE_STEP = 32
"""The free space map knows the room of a page in steps of so many bytes."""
SAMPLE = 200
"""Rows whose chunks are placed, one after the other, to find out how many pages they need."""
MOST_INDEXED_DIMENSIONS = {"vector": 2_000, "halfvec": 4_000}
"""pgvector's limits for HNSW. A vector with more can be indexed as a halfvec."""


def value_bytes(kind: str, dimensions: int) -> int:
    """Of one value: 4 bytes a dimension and 8 for a vector, 2 and 8 for a halfvec; an array of PostgreSQL has 24 instead of 8."""
    if kind in BYTES_PER_DIMENSION:
        return BYTES_PER_DIMENSION[kind] * dimensions + 8
    return (8 if kind == WIDE_ARRAY else 4) * dimensions + 24


def column_bytes(kind: str, dimensions: int, rows: int) -> int:
    """What the column adds to the table, with the chunks of long values and their index."""
    size = value_bytes(kind, dimensions)
    if size <= INLINE:
        return rows * size
    full, rest = divmod(size, CHUNK)
    chunks = [CHUNK] * full + ([rest] if rest else [])
    return round(rows * (_chunks_on_pages(chunks) + INDEX_ENTRY * len(chunks) + POINTER))


def _chunks_on_pages(chunks: Sequence[int]) -> float:
    """Bytes of pages for each row.

    PostgreSQL writes the chunks in order: each on the page of the last one, or else on any page that has room, or on a new one.
    """
    rooms, last = [0], 0
    for chunk in [*chunks] * SAMPLE:
        needed = -(-(chunk + OF_A_CHUNK) // 8) * 8 + ITEM
        if needed > rooms[last]:
            last = next((page for page, room in enumerate(rooms) if room >= needed + FREE_SPACE_STEP), len(rooms))
            if last == len(rooms):
                rooms.append(USABLE)
        rooms[last] -= needed
    return (len(rooms) - 1) * PAGE / SAMPLE


def hnsw_bytes(kind: str, dimensions: int, rows: int) -> int | None:
    """Of an HNSW index with m = 16; None where pgvector builds none on this type and so many dimensions."""
    if dimensions > MOST_INDEXED_DIMENSIONS.get(kind, 0):
        return None
    element = -(-(ELEMENT + value_bytes(kind, dimensions)) // 8) * 8
    together = element + NEIGHBOURS + UPPER_LAYERS + 2 * ITEM
    usable = USABLE - OF_HNSW_PAGE
    return rows * 2 * PAGE if together > usable else round(rows * _on_pages(together, usable))


def _on_pages(size: int, usable: int) -> float:
    """Of one item whose parts stay on one page where they fit."""
    return size * PAGE / usable if size > usable else PAGE / (usable // size)
