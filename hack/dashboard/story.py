"""`python -m hack.dashboard.story FILE` draws the dashboard of an operator that works for five minutes on this machine.

It runs the demo's system with a Prometheus beside it: two sources, a backfill, edits all the time, rows that fail, a replay, an
outage of the provider, and a pause that it asks for. docs/install.md shows the picture.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hack.dashboard.grafana import FILE
from hack.dashboard.picture import draw
from hack.dashboard.prometheus import Prometheus
from hack.dashboard.queries import as_asked
from hack.demo.data import businesses
from hack.demo.stage import Stage, stage
from hack.errors import ToolError
from hack.go_build.programs import go_program
from hack.provider_server.process import FakeGemini
from hack.repository import CHART

COPIES = 8
"""Of the demo's businesses, so that the backfill takes a while."""
SCRAPED_EVERY_S = 2
SECONDS = 300
SETTINGS = {"EMBEDDING_GEMINI_REQUESTS_PER_MINUTE": "600", "EMBEDDING_PRICE_PER_MILLION_TOKENS": "0.15"}
POISON, REFUSED = "VENOM", "REFUSED"
TABLE = "public.businesses"
SOURCES = {"businesses": ("embedding", 512), "descriptions": ("embedding_gemini", 768)}
TEXTS = {"businesses": "concat_ws(' ', name, city)", "descriptions": "description"}
EDIT = "UPDATE public.businesses SET {column} = {column} || ' ' WHERE id % 211 = {rest}"
RENAME = "UPDATE public.businesses SET name = '{word} ' || id WHERE id IN ({first}, {first} + 1)"


@dataclass(frozen=True)
class Happening:
    """What is done so many seconds after the begin."""

    at_s: int
    what: str


STORY = (
    Happening(60, "two rows fail"),
    Happening(110, "rows are repaired"),
    Happening(170, "outage"),
    Happening(220, "recovery"),
    Happening(265, "too many requests"),
)


def source(name: str) -> str:
    column, dimensions = SOURCES[name]
    spec = {
        "table": TABLE,
        "idColumn": "id",
        "text": TEXTS[name],
        "embeddingColumn": column,
        "model": {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": dimensions},
        "backfill": {"mode": "Auto", "threshold": 500, "concurrency": 1},
        "retry": {"maxAttempts": 3, "initialSeconds": 1, "maxSeconds": 2},
        "freshnessTarget": "30s",
        "limits": {"textsPerDay": 10_000, "estimatedCostPerMonth": 20},
    }
    group = "embeddings.yellowbook.dev/v1alpha1"
    return yaml.safe_dump({"apiVersion": group, "kind": "EmbeddingSource", "metadata": {"name": name}, "spec": spec})


def fake(scene: Stage) -> FakeGemini:
    if scene.gemini is None:
        raise ToolError("the picture is drawn with the server that answers as Gemini's API does")
    return scene.gemini


def act(scene: Stage, what: str) -> None:
    """Let this happen. The provider refuses one text until the end."""
    server = fake(scene)
    server.lift()
    if what == "outage":
        server.fault("503")
    if what == "too many requests":
        server.fault("429", times=1, seconds=10)
    server.fault("400", only_matching=REFUSED)
    if what == "two rows fail":
        server.fault("500", only_matching=POISON)
        for word, first in ((POISON, 11), (REFUSED, 21)):
            scene.query(RENAME.format(word=word, first=first))
    if what == "rows are repaired":
        replay_one(scene)
    server.fault("slow", seconds=0.4)


def replay_one(scene: Stage) -> None:
    for job in scene.jobs("businesses", "status.phase=DeadLettered")[:1]:
        patch = json.dumps({"status": {"phase": "Pending"}})
        name = job["metadata"]["name"]
        scene.kubectl.run("patch", "embeddingjob", name, "--subresource=status", "--type=merge", "-p", patch)


def edit_some(scene: Stage, chance: random.Random) -> None:
    """Rows of one source or of the other, as an application would."""
    column = chance.choice(("name", "name", "description"))
    scene.query(EDIT.format(column=column, rest=chance.randrange(211)))


def tell(scene: Stage) -> None:
    """Edits all the time, and each happening at its moment."""
    begin, left, chance = time.monotonic(), list(STORY), random.Random(20)  # noqa: S311 - no secret
    while (passed := time.monotonic() - begin) < SECONDS:
        if left and passed >= left[0].at_s:
            act(scene, left.pop(0).what)
        edit_some(scene, chance)
        time.sleep(chance.uniform(0.5, 2.5))


@contextmanager
def watched(scene: Stage) -> Iterator[Prometheus]:
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    prometheus = Prometheus(
        go_program("prometheus"),
        scene.folder,
        target=scene.operator.http_url,
        namespace=scene.kubectl.namespace,
        rules=rules,
        every_s=SCRAPED_EVERY_S,
    )
    prometheus.start()
    try:
        yield prometheus
    finally:
        prometheus.stop()


def show(file: Path) -> None:
    with stage(businesses() * COPIES, settings=SETTINGS, keep=False, say=print) as scene, watched(scene) as prometheus:
        since = time.time()
        fake(scene).fault("slow", seconds=0.8)
        for name in SOURCES:
            scene.kubectl.run("apply", "-f", "-", stdin=source(name))
        tell(scene)
        until = time.time()

        def ask(expr: str) -> Any:
            query = as_asked(expr, namespace=prometheus.namespace, interval="20s")
            return prometheus.series(query, since=since, until=until, step_s=SCRAPED_EVERY_S)

        draw(json.loads(FILE.read_text()), ask, file, since=since, until=until)


if __name__ == "__main__":
    show(Path(sys.argv[1]))
