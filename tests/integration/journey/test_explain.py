"""The leader's local endpoint answers why a row is not fresh: as its state, its source and its provider change."""

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import GEMINI_MODEL, System, add
from tests.support.deadline import wait_until

OUTAGE_IS_SHOWN_WITHIN_S = 60


def ask(process: OperatorProcess, source: str, row_id: int | str, *, host: str = "127.0.0.1") -> tuple[int, Any]:
    query = urllib.parse.urlencode({"source": source, "id": row_id})
    request = urllib.request.Request(f"{process.local_url}/v1/rows?{query}", headers={"Host": host})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (an address of this test)
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        return exc.code, json.load(exc)


def test_the_leader_says_of_each_row_what_becomes_of_it(system: System, gemini: FakeGemini) -> None:
    system.book.add(3)
    process = system.start_with_gemini(gemini)
    system.wait_until_fresh()
    source = f"{system.kubectl.namespace}/businesses"

    def told(row_id: int | str) -> Any:
        status, answer = ask(process, source, row_id)
        assert status == 200, answer
        return answer

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
    wait_until(lambda: system.source()["status"]["summary"] == "Suspended", within_s=30, because="it is suspended")
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
