"""What the measurements of `make bench` read and compute: percentiles, metrics of an API server, memory, versions of Node.js."""

import random
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from embedding_worker.providers.provider import ENTRY_POINT_GROUP, registered_providers
from hack.benchmarks import slow_provider
from hack.benchmarks.api_requests import counted, written_jobs
from hack.benchmarks.edits import percentile
from hack.benchmarks.installed_provider import install_provider
from hack.benchmarks.listings import in_batches
from hack.benchmarks.memory import memory_mb
from hack.benchmarks.node_programs import is_new_enough
from hack.benchmarks.quota import duration_s, used_in_a_minute
from hack.benchmarks.single_edits import EDITS, pauses_s
from hack.benchmarks.slow_provider import DIMENSIONS
from hack.benchmarks.starting import job_like
from hack.benchmarks.statement_log import StatementLog, statements_in
from hack.benchmarks.vector_costs import BATCH, answers

METRICS = """
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",group="embeddings.yellowbook.dev",resource="embeddingjobs",verb="LIST"} 3
apiserver_request_total{code="200",group="embeddings.yellowbook.dev",resource="embeddingsources",verb="APPLY"} 40
apiserver_request_total{code="201",group="events.k8s.io",resource="events",verb="POST"} 5
apiserver_request_total{code="200",group="coordination.k8s.io",resource="leases",verb="PUT"} 1e+01
apiserver_request_total{code="200",group="",resource="namespaces",verb="GET"} 700
apiserver_request_duration_seconds_count{group="embeddings.yellowbook.dev"} 999
"""


def test_requests_for_the_resources_the_events_and_the_leases_are_counted() -> None:
    assert counted(METRICS) == 58


WRITES = """
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingjobs",subresource="",verb="POST"} 1000
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingjobs",subresource="status",verb="PATCH"} 1001
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingjobs",subresource="",verb="DELETE"} 3
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingjobs",subresource="",verb="DELETECOLLECTION"} 10
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingjobs",subresource="",verb="WATCH"} 7
apiserver_request_total{group="embeddings.yellowbook.dev",resource="embeddingsources",subresource="status",verb="PATCH"} 20
"""


def test_of_the_jobs_only_the_writes_are_counted() -> None:
    assert written_jobs(WRITES + METRICS) == 2014


def test_every_tenth_edit_finds_an_operator_that_is_idle() -> None:
    pauses = list(pauses_s(random.Random(1)))  # noqa: S311  # no secret depends on it
    assert len(pauses) == EDITS
    assert set(pauses[9::10]) == {10.0}
    assert sum(pauses) < 240
    assert sum(pause > 0.3 for pause in pauses) == EDITS // 10


def test_the_largest_memory_of_a_process_is_read_in_megabytes() -> None:
    assert memory_mb("Name:\tpython\nVmHWM:\t  250000 kB\nVmRSS:\t  100 kB\n", "VmHWM") == 256.0


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (0, 1)])
def test_a_percentile_is_the_value_that_this_share_does_not_exceed(percent: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_items_are_split_into_batches_and_the_last_one_may_be_smaller() -> None:
    assert in_batches([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]


@pytest.mark.parametrize(
    ("version", "enough"),
    [("v22.12.0\n", True), ("v24.1.0\n", True), ("v22.11.9\n", False), ("v20.20.2\n", False), ("node?", False)],
)
def test_an_older_node_is_not_used(version: str, enough: bool) -> None:
    assert is_new_enough(version) is enough


async def test_the_provider_is_registered_by_its_entry_point_and_gives_each_text_its_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install_provider(tmp_path)["PYTHONPATH"].split(":")[0]
    monkeypatch.syspath_prepend(folder)
    assert slow_provider.NAME in {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    provider = registered_providers()[slow_provider.NAME]
    first, again = [await provider.make(None, slow_provider.AT_ONCE).embed(["a", "b"]) for _ in range(2)]  # type: ignore[arg-type]
    assert provider.name == slow_provider.NAME
    assert first == again
    assert first[0] != first[1]
    assert {len(vector) for vector in first} == {slow_provider.DIMENSIONS}
    assert sum(value**2 for value in first[0]) == pytest.approx(1)


ACCEPTED = [(5.0, 1), (10.0, 100), (12.0, 100), (69.9, 100), (70.0, 100)]
"""When calls were accepted, and their texts. The first one is a canary."""


def test_the_minute_of_a_quota_begins_with_the_first_call_of_several_texts() -> None:
    assert used_in_a_minute(ACCEPTED) == 300
    assert duration_s({"accepted": ACCEPTED}) == 60.0
    assert duration_s({"accepted": ACCEPTED[:1]}) == 0.0


@pytest.mark.parametrize("form", answers())
def test_the_answers_that_are_measured_are_read_to_vectors(form: str) -> None:
    answer, read = answers()[form]
    assert [len(vector) for vector in read(answer)] == [DIMENSIONS] * BATCH


LOG = """2026-11-27 17:20:00 UTC [7] LOG:  statement: BEGIN
2026-11-27 17:20:00 UTC [7] LOG:  execute <unnamed>: SELECT id
\tFROM public.businesses
2026-11-27 17:20:00 UTC [7] DETAIL:  Parameters: $1 = 'LOG:  checkpoint'
2026-11-27 17:20:01 UTC [7] LOG:  execute _pg3_0: SELECT 1
2026-11-27 17:20:01 UTC [7] ERROR:  relation "x" does not exist
2026-11-27 17:20:01 UTC [7] STATEMENT:  SELECT FROM x
2026-11-27 17:20:01 UTC [9] LOG:  checkpoint starting: time
2026-11-27 17:20:01 UTC [7] LOG:  statement: COMMIT
"""


def test_each_statement_of_the_log_counts_once() -> None:
    assert statements_in(LOG) == 4


@pytest.mark.parametrize(
    ("message", "statements"),
    [
        (
            "BEGIN ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE; SELECT pg_catalog.set_config(E'search_path', E'a', true)",
            2,
        ),
        ("SELECT E'it''s; \\'; one', \"a;b\";", 1),
        ("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $f$\n\tSELECT 1; SELECT 2;\n\t$f$;\n\tSELECT f()", 2),
        ("SELECT 1 -- one; not two", 1),
    ],
)
def test_statements_that_were_sent_together_count_one_by_one(message: str, statements: int) -> None:
    line = f"2026-11-27 17:20:00 UTC [7] LOG:  statement: {message}\n"
    assert statements_in(LOG + line + LOG) == 8 + statements


def test_statements_are_counted_from_a_position_of_the_log(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(LOG)
    log = StatementLog(path)
    position = len(log)
    with path.open("a") as appended:
        appended.write(LOG)
    assert log.statements_since(position) == 4
    assert log.statements_since(0) == 8


def test_a_job_is_copied_for_another_row_without_what_the_server_has_added() -> None:
    spec = {"sourceRef": {"name": "s"}, "businessId": "1", "contentHash": "0" * 64, "fingerprint": "f"}
    metadata = {"name": "s-1-x", "labels": {"a": "b"}, "uid": "1", "resourceVersion": "5"}
    found = job_like({"apiVersion": "v", "kind": "k", "metadata": metadata, "spec": spec, "status": {}}, "2", "1" * 64)
    assert found["spec"] == {**spec, "businessId": "2", "contentHash": "1" * 64}
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["name"].startswith("s-2-")
    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
