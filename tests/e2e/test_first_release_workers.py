"""A backfill on worker pods of the first release: pods are killed, also all of them at once, and no row is lost.

It comes after the tests of test_first_release.py, which expect only their own table and pods.
"""

from typing import Any

import numpy as np
import yaml

from tests.e2e.conftest import SOURCE
from tests.support.deadline import wait_until
from tests.support.installed import Release
from tests.support.yellow_book import YellowBook, local_model

ROWS, WORKERS, THRESHOLD = 6_000, 2, 300
WITHIN_S = 240
TABLE = "CREATE TABLE public.catalogue (id bigint PRIMARY KEY, name text NOT NULL, embedding vector(512))"
FILL = "INSERT INTO public.catalogue SELECT i, 'entry ' || i || ' of the catalogue' FROM generate_series(1, %s) i"
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def worker_pods(release: Release, *phases: str) -> list[Any]:
    selector = f"app.kubernetes.io/instance={release.name},app.kubernetes.io/component=backfill-worker"
    pods = release.kubectl.get("pods", "--selector", selector)["items"]
    return [
        pod
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"] and (not phases or pod["status"].get("phase") in phases)
    ]


def wait_for_pods(release: Release, *phases: str) -> list[Any]:
    """For a moment there may be none, or none that is said to run already."""
    return wait_until(
        lambda: worker_pods(release, *phases), within_s=WITHIN_S, every_s=0.3, because="pods do the backfill"
    )


def filled(book: YellowBook) -> int:
    return int(book.run("SELECT count(embedding) FROM public.catalogue")[0][0])


def wait_until_filled(book: YellowBook, rows: int) -> None:
    wait_until(lambda: filled(book) >= rows, within_s=WITHIN_S, every_s=0.3, because="the workers embed rows")


def kill(release: Release, pods: list[Any]) -> None:
    names = [pod["metadata"]["name"] for pod in pods]
    release.kubectl.run("delete", "pods", *names, "--grace-period=0", "--force", "--ignore-not-found")


def outdated(book: YellowBook) -> list[int]:
    """Of every tenth row: those whose vector is not the one of their text."""
    rows = book.run("SELECT id, name, embedding::text FROM public.catalogue WHERE id % 10 = 0")
    expected = local_model([text for _, text, _ in rows])
    stored = np.array([vector.strip("[]").split(",") for _, _, vector in rows], dtype=np.float32)
    return [rows[n][0] for n in np.flatnonzero(np.abs(expected - stored).max(axis=1) > 1e-4)]


def backfilling(release: Release) -> Any:
    conditions = release.kubectl.get("embeddingsource", "catalogue").get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == "Backfilling"), {})


def test_a_backfill_on_pods_survives_the_loss_of_one_and_of_all(yellow_book: Release, book: YellowBook) -> None:
    book.run(TABLE)
    book.run(FILL, ROWS)
    source = yaml.safe_load(SOURCE.read_text())
    source["metadata"]["name"] = "catalogue"
    source["spec"] |= {"table": "public.catalogue", "text": "name"}
    source["spec"]["backfill"] = {"mode": "Auto", "threshold": THRESHOLD, "workers": WORKERS}
    yellow_book.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump(source))

    wait_until_filled(book, 100)
    first, *_ = pods = wait_for_pods(yellow_book, "Running")
    assert len(pods) <= WORKERS
    assert first["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in first["spec"]["volumes"] if "projected" in volume]
    listed = yellow_book.kubectl.try_run("exec", first["metadata"]["name"], "--", "ls", TOKEN)
    assert "No such file or directory" in listed.stderr
    kill(yellow_book, [first])
    done = filled(book)
    wait_until_filled(book, min(done + 300, ROWS - 1_000))
    kill(yellow_book, wait_for_pods(yellow_book))
    assert filled(book) < ROWS

    wait_until_filled(book, ROWS)
    wait_until(
        lambda: backfilling(yellow_book).get("reason") == "Completed",
        within_s=WITHIN_S,
        every_s=0.5,
        because="nothing is left",
    )
    assert outdated(book) == []
    assert len(yellow_book.jobs("spec.sourceRef.name=catalogue")) < THRESHOLD
    wait_until(
        lambda: not yellow_book.kubectl.get("jobs.batch")["items"],
        within_s=30,
        every_s=0.5,
        because="the Job is removed",
    )
    yellow_book.kubectl.run("delete", "embeddingsource", "catalogue")
