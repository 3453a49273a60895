"""`embedding-operator serve` for one source, as an application calls it. Called by the tests of docs/search.md.

The status of the source says, as after its set-up, which model is in force. No operator runs.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedding_worker.source import Model
from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import make_serve_account
from hack.installation.search_process import SearchProcess
from tests.support.manifests import a_source

TOKEN = "token-of-the-application"


@contextmanager
def embeddings_service(kubectl: Kubectl, folder: Path, source: str, model: Model) -> Iterator[str]:
    """Serves until the context ends. Yields the base URL for a client of OpenAI's API."""
    declared = {"provider": model.provider, "name": model.name, "dimensions": model.dimensions}
    kubectl.run("apply", "-f", "-", stdin=json.dumps(a_source(source, model=declared)))
    status = json.dumps({"status": {"observedGeneration": 1, "model": declared}})
    kubectl.run("patch", "esrc", source, "--subresource=status", "--type=merge", "-p", status)
    (folder / "token").write_text(TOKEN)
    process = SearchProcess(
        kubeconfig=make_serve_account(kubectl.cluster, kubectl.namespace, folder),
        folder=folder,
        settings={"EMBEDDING_SERVE_TOKEN_FILE": str(folder / "token")},
    )
    process.start()
    try:
        yield f"{process.http_url}/v1"
    finally:
        process.stop()
