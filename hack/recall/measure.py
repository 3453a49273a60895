"""Measures one model over the demo's businesses: recall, rates and memory. Called by the command, in a process of its own."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hack.demo.data import businesses
from hack.recall.models import MODELS, Loaded, Vectors
from hack.recall.searches import Recall, Search, searches

ROUNDS_S = 3.0
"""The work is repeated for so long, and the fastest round counts: the others were disturbed by what else the machine does."""


@dataclass(frozen=True)
class Measured:
    name: str
    dimensions: int
    same_language: Recall
    across_languages: Recall
    texts_per_s: float
    """Of one core: by CPU time, which depends little on what else the machine does."""
    ms_per_search: float
    memory_mb: float
    """What the model and its work need: the largest resident set, without what the process had before."""


def ranks(texts: Vectors, queries: Vectors, asked: Sequence[Search]) -> list[int]:
    """The rank of each search's right business among all businesses, by cosine similarity. The first has rank 1."""
    place = {business.name: row for row, business in enumerate(businesses())}
    similar = queries @ texts.T
    return [1 + int((row > row[place[search.answer]]).sum()) for search, row in zip(asked, similar, strict=True)]


def recalls(texts: Vectors, queries: Vectors) -> tuple[Recall, Recall]:
    """The recall of searches in the language of the business's text, and of those in another language."""
    asked = searches()
    found = dict(zip(asked, ranks(texts, queries, asked), strict=True))
    same, across = ([rank for each, rank in found.items() if each.across_languages is other] for other in (False, True))
    return Recall.of(same), Recall.of(across)


def recalls_of(model: Loaded) -> tuple[Recall, Recall]:
    """The same, of a model that has not yet embedded anything."""
    return recalls(model.texts(listed_texts()), model.searches([search.query for search in searches()]))


def listed_texts() -> list[str]:
    """What the demo's source embeds of each business."""
    return [business.text for business in businesses()]


def measure(name: str) -> Measured:
    """All figures of this model. Load it in a process that has loaded no other, or the memory is not its own."""
    before_mb = memory_mb("VmRSS")
    model = MODELS[name]()
    texts, asked = listed_texts(), [search.query for search in searches()]
    model.texts(texts[:1])  # loads what is loaded with the first call only
    vectors, text_s = fastest(lambda: model.texts(texts))
    queries, search_s = fastest(lambda: np.concatenate([model.searches([query]) for query in asked]))
    return Measured(
        name,
        vectors.shape[1],
        *recalls(vectors, queries),
        texts_per_s=len(texts) / text_s,
        ms_per_search=1000 * search_s / len(asked),
        memory_mb=memory_mb("VmHWM") - before_mb,
    )


def fastest(work: Callable[[], Vectors]) -> tuple[Vectors, float]:
    """What it returned, and the least seconds of CPU, of all threads of this process, that it took."""
    begun, rounds = time.perf_counter(), [float("inf")]
    while len(rounds) == 1 or time.perf_counter() - begun < ROUNDS_S:
        cpu = time.process_time()
        made = work()
        rounds.append(time.process_time() - cpu)
    return made, min(rounds)


def memory_mb(field: str) -> float:
    """Of this process: its resident set (VmRSS), or the largest that it had (VmHWM). 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{field}:"))
