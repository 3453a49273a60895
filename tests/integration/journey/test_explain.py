"""The leader's local endpoint answers why a row is not fresh: as its state, its source and its provider change."""

import json
import re
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hack.cluster_choice.choice import given_cluster
from hack.installation.operator_process import OperatorProcess
from hack.processes.run import run_to_end
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System, add
from tests.support.deadline import wait_until
from tests.support.forwarding_kubelet import ForwardingKubelet, create_pod

OUTAGE_IS_SHOWN_WITHIN_S = 60


def ask(process: OperatorProcess, source: str, row_id: int | str, *, host: str = "127.0.0.1") -> tuple[int, Any]:
    query = urllib.parse.urlencode({"source": source, "id": row_id})
    request = urllib.request.Request(f"{process.local_url}/v1/rows?{query}", headers={"Host": host})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (an address of this test)
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


@pytest.mark.timeout(400)
def test_the_leader_says_of_each_row_what_becomes_of_it(system: System, gemini: FakeGemini) -> None:
    system.book.add(3)
    process = system.start_with_gemini(gemini)
    system.wait_until_fresh()
    source = f"{system.kubectl.namespace}/businesses"

    def told(row_id: int | str) -> Any:
        status, answer = ask(process, source, row_id)
        assert status == 200, answer
        return answer

    # A row is fresh before its job is finished, which has a place in the queue until then.
    wait_until(lambda: told(1)["job"] is None, within_s=30, because="its job succeeds")
    fresh = told(1)
    assert (fresh["row"]["state"], fresh["row"]["dueSince"], fresh["why"], fresh["queue"]) == (
        "UpToDate",
        None,
        [],
        None,
    )
    assert fresh["row"]["model"] == "gemini-embedding-001@512"
    assert fresh["leader"] == system.kubectl.get("lease", "embedding-operator")["spec"]["holderIdentity"]
    for nobody in ("4711", "not a number"):
        assert told(nobody)["row"]["state"] == "NoSuchRow"

    assert ask(process, f"{system.kubectl.namespace}/others", 1)[0] == 404
    assert f"there is {source}" in ask(process, "elsewhere/businesses", 1)[1]["error"]
    assert "NAMESPACE/NAME" in ask(process, "businesses", 1)[1]["error"]
    assert ask(process, source, "")[0] == 400
    assert ask(process, source, 1, host="a-page.example")[0] == 400

    gemini.fault("503")
    (waiting,) = add(system, "While the provider is away")
    wait_until(
        lambda: [one["reason"] for one in told(waiting)["why"]] == ["ProviderUnavailable"],
        within_s=OUTAGE_IS_SHOWN_WITHIN_S,
        because="the circuit opens",
    )
    assert told(waiting)["job"]["phase"] == "Pending"

    system.apply_source(model=GEMINI_MODEL, suspend=True)
    wait_until(lambda: system.source()["status"]["summary"] == "Suspended", within_s=60, because="it is suspended")
    edits = add(system, "First of two", "Second of two", "While it is suspended")
    answer = told(edits[-1])
    assert (answer["row"]["state"], answer["row"]["foundBy"], answer["job"]) == ("Due", "Edit", None)
    assert answer["why"][0]["reason"] == "Suspended"
    assert answer["queue"] == {"rowsBefore": 0, "atLeast": False, "rowsPerSecond": None, "estimatedSeconds": None}
    assert "While it is suspended" not in json.dumps(answer)
    assert told(edits[1])["queue"]["rowsBefore"] == 2  # one from each end

    standby = OperatorProcess(
        kubeconfig=system.kubeconfig,
        database_url=system.database_url,
        folder=system.folder,
        settings={"EMBEDDING_POD_NAME": "standby"},
        name="standby",
    )
    system.stack.callback(standby.stop)
    standby.start(until="standing by")
    status, refused = ask(standby, source, 1)
    assert (status, refused["leader"]) == (503, fresh["leader"])


def embeddings(system: System, *arguments: str) -> str:
    """What this verb of `kubectl embeddings` prints for an administrator."""
    where = ["--kubeconfig", str(system.kubectl.cluster.admin_kubeconfig), "-n", system.kubectl.namespace]
    done = run_to_end([str(Path(sys.executable).with_name("kubectl-embeddings")), *arguments, *where], within_s=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.skipif(given_cluster() is not None, reason="a given cluster reaches no kubelet of this machine")
def test_kubectl_embeddings_asks_the_running_operator(system: System, gemini: FakeGemini, tmp_path: Path) -> None:
    """Through the API server and a kubelet that does nothing but forward ports, to the process in place of a pod."""
    system.book.add(2)
    system.use_gemini()
    process = system.start_gemini_operator(gemini, EMBEDDING_POD_NAME="operator-1")
    system.wait_until_fresh()
    with ForwardingKubelet(tmp_path / "kubelet") as kubelet:
        kubelet.log = process.log.read_text()
        ports = {"local": urlsplit(process.local_url).port or 0, "http": urlsplit(process.http_url).port or 0}
        secrets = {"DATABASE_URL": system.database_url, "GEMINI_API_KEY": gemini.api_key}
        node = create_pod(system.kubectl, kubelet, "operator-1", ports=ports, env=secrets)
        system.stack.callback(system.kubectl.run, "delete", "node", node)

        told = embeddings(system, "explain", "businesses/1").splitlines()
        assert told[0] == "row '1' of businesses: fresh: it has the vector of its present text"
        assert [line for line in told if line.endswith(" its vector was written (gemini-embedding-001@512)")]

        system.apply_source(model=GEMINI_MODEL, suspend=True)
        wait_until(lambda: system.source()["status"]["summary"] == "Suspended", within_s=60, because="it is suspended")
        (edited,) = add(system, "Text of a row")
        told = embeddings(system, "explain", f"businesses/{edited}").splitlines()
        assert re.fullmatch(rf"row '{edited}' of businesses: due for \d+s", told[0])
        assert told[-2].startswith("    kubectl embeddings resume businesses -n ")
        assert told[-1] == "  no due rows come before it"

        path = tmp_path / "report.tar.gz"
        embeddings(system, "report", "-o", str(path))
        with tarfile.open(path) as archive:
            opened = {entry.name.partition("/")[2]: archive.extractfile(entry) for entry in archive.getmembers()}
            files = {name: file.read().decode() for name, file in opened.items() if file is not None}
        assert json.loads(files["manifest.json"])["missing"] == []
        assert "embedding_operator_leader 1.0" in files["metrics.txt"]
        assert "operator ready" in files["logs/operator-1-operator.log"]
        assert json.loads(files["sources.json"])[0]["spec"]["suspend"] is True
        password = urlsplit(system.database_url).password or "none"
        hidden = (password, gemini.api_key, "Text of a row")
        assert [(name, secret) for name, text in files.items() for secret in hidden if secret in text] == []
