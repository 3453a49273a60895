"""`make bench-profile`: to which part of the code a sample belongs, and the table of the parts."""

from collections import Counter

import pytest

from hack.benchmarks.stacks import EVENT_LOOP, OTHER, PARTS, part_of, samples_by_part, table

PACKAGES = "/x/.venv/lib/python3.11/site-packages"
PYTHON = "/usr/lib/python3.11"
STARTED = (
    "run (/x/operator/embedding_operator/cli/commands.py:37)",
    f"BaseEventLoop._run_once ({PYTHON}/asyncio/base_events.py:1922)",
)
TURN = (*STARTED, f"Handle._run ({PYTHON}/asyncio/events.py:80)")
HANDLER = (
    *TURN,
    f"invoke ({PACKAGES}/kopf/_core/actions/invocation.py:115)",
    "register.<locals>.embed (/x/operator/embedding_operator/handlers/embedding_job.py:31)",
)
RUNNER = (*HANDLER, "JobRunner.run (/x/operator/embedding_operator/reconciler/job_runner.py:80)")


@pytest.mark.parametrize(
    ("stack", "part"),
    [
        (HANDLER, "kopf and the handlers"),
        (RUNNER, "reconciler and lifecycle"),
        (
            (*RUNNER, f"JSONEncoder.iterencode ({PYTHON}/json/encoder.py:258)"),
            "reconciler and lifecycle",
        ),
        ((*RUNNER, f"BaseModel.model_validate ({PACKAGES}/pydantic/main.py:792)"), "pydantic"),
        (
            (*RUNNER, "ApiServer._patch (/x/operator/embedding_operator/api_server.py:257)", "copy (<string>:3)"),
            "API server: requests, HTTP, TLS",
        ),
        ((*TURN, f"SSLProtocol.buffer_updated ({PYTHON}/asyncio/sslproto.py:439)"), "API server: requests, HTTP, TLS"),
        ((*TURN, "RowStore.read (/x/worker/embedding_worker/rows/store.py:9)"), "PostgreSQL: rows and psycopg"),
        ((*TURN, f"wait_async ({PACKAGES}/psycopg/waiting.py:1)"), "PostgreSQL: rows and psycopg"),
        (
            (*TURN, "Batcher.submit (/x/worker/embedding_worker/batching/batcher.py:1)"),
            "embedding: batches, texts, writes",
        ),
        ((*TURN, "SlowEmbedder.embed (/tmp/provider/benchmark_provider.py:1)"), "providers"),
        ((*RUNNER, f"BoundLogger.info ({PACKAGES}/structlog/_native.py:1)"), "logging"),
        ((*RUNNER, f"Handler.emit ({PYTHON}/logging/__init__.py:1)"), "logging"),
        ((*RUNNER, "count (/x/operator/embedding_operator/source_metrics.py:1)"), "metrics"),
        ((*RUNNER, f"Counter.inc ({PACKAGES}/prometheus_client/metrics.py:1)"), "metrics"),
    ],
)
def test_a_sample_belongs_to_the_innermost_frame_of_a_part(stack: tuple[str, ...], part: str) -> None:
    assert part in PARTS
    assert part_of(stack) == part


def test_the_program_that_started_the_loop_is_not_what_the_loop_works_for() -> None:
    assert part_of(STARTED) == EVENT_LOOP
    assert part_of(TURN) == EVENT_LOOP


def test_a_process_that_waits_for_events_or_for_a_core_to_handle_them_on_does_not_count() -> None:
    waiting = (*STARTED, f"EpollSelector.select ({PYTHON}/selectors.py:468)")
    assert samples_by_part(f"{';'.join(waiting)} 100\n{';'.join(TURN)} 1\n") == Counter({EVENT_LOOP: 1})


def test_a_thread_without_a_known_frame_is_other() -> None:
    assert part_of((f"Thread._bootstrap ({PYTHON}/threading.py:1002)", "<native>")) == OTHER


def test_the_samples_of_equal_stacks_are_added() -> None:
    raw = f"{';'.join(HANDLER)} 3\n{';'.join(RUNNER)} 2\n{';'.join((*HANDLER, 'copy (<string>:3)'))} 10\n"
    assert samples_by_part(raw) == Counter({"kopf and the handlers": 13, "reconciler and lifecycle": 2})


def test_the_table_shares_the_time_of_a_job_among_the_parts() -> None:
    assert table({"logging": 1, "pydantic": 3}, ms_per_job=6.0).splitlines()[2:] == [
        "| pydantic | 75.0 | 4.50 |",
        "| logging | 25.0 | 1.50 |",
        "| all | 100 | 6.00 |",
    ]
