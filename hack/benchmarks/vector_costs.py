"""What a vector of 768 dimensions costs on its way from an answer to PostgreSQL, in processor time. Called by __main__.py.

Reading: from the bytes of an answer to checked vectors of unit length, for each form in which they come; the slowest counts.
Writing: encoding, and the operator's own write of batches, as far as this process does it and not PostgreSQL.
"""

import asyncio
import base64
import json
import random
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle

from embedding_worker.providers import google_answers, openai
from embedding_worker.providers.embedder import Vector, at_unit_length, check_vectors
from embedding_worker.providers.http_settings import Access
from embedding_worker.rows.database import Database
from embedding_worker.rows.records import VectorWrite
from embedding_worker.rows.store import RowStore
from embedding_worker.text import content_hash
from hack.benchmarks.listings import Listings, audit, in_batches
from hack.benchmarks.setting import Setting
from hack.benchmarks.slow_provider import DIMENSIONS, make_vectors

BATCH = 100
READINGS = 40
ROWS = 5_000
MS = 1_000
Read = Callable[[bytes], Sequence[Vector]]


def measure_reading(setting: Setting) -> Mapping[str, float]:
    found = {name: reading_ms(answer, read) for name, (answer, read) in answers().items()}
    setting.say(", ".join(f"{name}: {took_ms:.3f} ms" for name, took_ms in found.items()))
    return {"provider_parse_ms_per_vector": max(found.values())}


def answers() -> dict[str, tuple[bytes, Read]]:
    """By a name: an answer with BATCH vectors, and what reads it. The numbers have the digits of 32 bits, and no unit length."""
    numbers = random.Random(1)  # noqa: S311  # no secret depends on it
    exact = [array("f", [numbers.gauss(0, 0.03) for _ in range(DIMENSIONS)]) for _ in range(BATCH)]
    floats = [[float(f"{value:.9g}") for value in vector] for vector in exact]
    encoded = [base64.b64encode(vector.tobytes()).decode() for vector in exact]
    return {
        "gemini": (json.dumps({"embeddings": [{"values": each} for each in floats]}).encode(), read_google),
        "openai, numbers": (openai_answer(floats), read_openai),
        "openai, base64": (openai_answer(encoded), read_openai),
    }


def openai_answer(vectors: Sequence[object]) -> bytes:
    return json.dumps({"data": [{"index": n, "embedding": each} for n, each in enumerate(vectors)]}).encode()


def read_google(answer: bytes) -> Sequence[Vector]:
    return google_answers.vectors_in(answer, provider="gemini", texts=BATCH, dimensions=DIMENSIONS)


def read_openai(answer: bytes) -> Sequence[Vector]:
    vectors = openai.vectors_in(openai.body_of(answer, endpoint=""), texts=BATCH, access=Access("", "", ""))
    return at_unit_length(check_vectors(vectors, texts=BATCH, dimensions=DIMENSIONS))


def reading_ms(answer: bytes, read: Read) -> float:
    """For each vector. The best of several times: the machine may be busy."""
    took_s = []
    for _ in range(READINGS):
        began = time.process_time()
        read(answer)
        took_s.append(time.process_time() - began)
    return MS * min(took_s) / BATCH


def measure_writing(setting: Setting) -> Mapping[str, float]:
    listings = Listings(setting.new_database().url)
    listings.create(ROWS)
    return {"vector_write_ms_per_vector": asyncio.run(writing_ms(listings))}


async def writing_ms(listings: Listings) -> float:
    found = listings.run(f"SELECT id::text, {listings.text} FROM public.{listings.name} ORDER BY id")
    rows = [
        VectorWrite(row, content_hash(text), vector)
        for (row, text), vector in zip(found, cycle(make_vectors()), strict=False)
    ]
    async with Database(listings.url) as database:
        store = await listings.prepared(database)
        await audit(store)
        return await written_in(store, rows)


async def written_in(store: RowStore, rows: Sequence[VectorWrite]) -> float:
    began = time.process_time()
    for batch in in_batches(rows, BATCH):
        result = await store.write(batch)
        assert len(result.written) == len(batch), "nothing else uses the table"
    return MS * (time.process_time() - began) / len(rows)
