"""What the life of a job costs without an operator: a client that creates jobs, patches their statuses and deletes each of them.

The operator deletes many jobs with one request, so it sends fewer.

Called by lifecycle.py, as a process of its own:

    python -m hack.benchmarks.raw_lives KUBECONFIG NAMESPACE LIVES

It prints a JSON object: the lives a second, and the processor time of this process.
"""

import asyncio
import base64
import json
import resource
import ssl
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import yaml

from embedding_operator.lifecycle.job_status import settled
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import JobSpec, SourceRef, job_manifest, job_name, parse_job
from embedding_operator.resources.embedding_source import RetrySpec
from embedding_worker.outcome import OutcomeKind, outcome

AT_ONCE = 32
"""Requests in flight, as many as the operator has connections."""
HASH = "0" * 64


async def live(session: aiohttp.ClientSession, url: str, manifest: dict[str, object], name: str) -> None:
    """The life of a job in three requests. The first two have the bodies that the operator sends."""
    async with session.post(url, json=manifest) as response:
        assert response.status == 201, await response.text()
        created = await response.json()
    now = datetime.now(UTC)
    done = outcome(OutcomeKind.EMBEDDED)
    patch = settled(done, parse_job(created), policy=RetrySpec(), started=now, now=now, jitter=0.0)
    headers = {"Content-Type": "application/merge-patch+json"}
    body = json.dumps({"status": patch.status})
    async with session.patch(f"{url}/{name}/status", data=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        await response.read()
    async with session.delete(f"{url}/{name}") as response:
        assert response.status == 200, await response.text()
        await response.read()


async def run(kubeconfig: Path, namespace: str, lives: int) -> float:
    """Returns the seconds that all lives took."""
    content = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
    cluster, token = content["clusters"][0]["cluster"], content["users"][0]["user"]["token"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    url = f"{cluster['server']}/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{JOBS}"
    connector = aiohttp.TCPConnector(limit=AT_ONCE, ssl=tls)
    manifests = iter(_manifests(namespace, lives))
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"}) as session:

        async def work() -> None:
            for name, manifest in manifests:
                await live(session, url, manifest, name)

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return time.monotonic() - began


def _manifests(namespace: str, lives: int) -> Iterator[tuple[str, dict[str, object]]]:
    for number in range(lives):
        spec = JobSpec(
            source_ref=SourceRef(name="raw"), business_id=str(number), content_hash=HASH, fingerprint="benchmark"
        )
        name = job_name(source="raw", business_id=str(number), content_hash=HASH, fingerprint="benchmark")
        yield name, job_manifest(name=name, namespace=namespace, cohort="raw", spec=spec)


def main(kubeconfig: str, namespace: str, lives: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF)
    took_s = asyncio.run(run(Path(kubeconfig), namespace, int(lives)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"lives_per_s": int(lives) / took_s, "processor_s": spent_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
