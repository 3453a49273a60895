"""How many requests 2,000 jobs cost: an operator as a process, and a server of Gemini's API that answers each in 200 ms.

Called by __main__.py. The jobs are created as for edits: without a backfill, one EmbeddingJob for each row.
"""

from collections.abc import Mapping

from hack.benchmarks.api_requests import job_writes_so_far
from hack.benchmarks.operator_system import operator_system
from hack.benchmarks.setting import Setting
from hack.provider_server.process import API_KEY, FakeGemini

JOBS = 2_000
DISTINCT = 100
LATENCY_MS = 200
ENDS_WITHIN_S = 300.0
MODEL = {"provider": "gemini", "name": "gemini-embedding-001", "dimensions": 768}


def measure(setting: Setting) -> Mapping[str, float]:
    return {"batching_requests_2000": measure_counts(setting)["batching_requests_2000"]}


def measure_counts(setting: Setting) -> Mapping[str, float]:
    """Also the requests that write jobs to the API server, for each job of the whole run.

    Where the setting has fewer rows, there are as many jobs.
    """
    jobs = min(JOBS, setting.rows)
    with operator_system(setting, jobs) as system, FakeGemini(setting.folder, latency_ms=LATENCY_MS) as server:
        system.start_operator(settings=settings_of(server))
        before = job_writes_so_far(system.kubectl)
        system.apply_source(model=MODEL, backfill={"mode": "Jobs"})
        system.wait_until_filled(within_s=ENDS_WITHIN_S)
        system.wait_until_jobs_are_done()
        writes = job_writes_so_far(system.kubectl) - before
        stats = server.stats()
        setting.say(f"{stats.calls} requests with {stats.texts} texts, the largest with {stats.largest_batch}")
        return {"batching_requests_2000": stats.calls, "api_requests_per_job": writes / jobs}


def settings_of(server: FakeGemini) -> dict[str, str]:
    return {"GEMINI_API_KEY": API_KEY, "EMBEDDING_GEMINI_ENDPOINT": server.url}
