"""The third part of the demo: the provider answers 503 to every call for a while, and no row loses an attempt by it.

It shows that a circuit opens and closes, and that jobs wait meanwhile. Called by the demo's command, after the failures of
single rows, when every row is fresh.
"""

from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from embedding_worker.providers.canary import CANARY
from hack.demo.failures import SOURCE
from hack.demo.narrator import Narrator
from hack.errors import ToolError
from hack.installation.operator_process import OperatorProcess
from hack.provider_server.process import FakeGemini
from hack.provider_server.stats import Stats, hash_of

EDITED_ALONE = "Spanish Moss Ghost Walks"
NAMED = {EDITED_ALONE}
LATER = 5
"""So many of the last rows are edited during the outage. The one that is edited alone is none of them.

No search finds a row that is edited here, so that README.md and docs/search.md can show the numbers of the demo.
"""
EDIT = "UPDATE public.businesses SET description = description || ' Closed in August.' WHERE "
NOTICED_WITHIN_S = 20
FRESH_WITHIN_S = 50
CANARIES = 4
GAUGE = "embedding_operator_circuit_open"
CONDITION = (
    'jsonpath={range .status.conditions[?(@.type=="ProviderReady")]}{.type}={.status} {.reason}: {.message}{"\\n"}{end}'
)


class Outage:
    def __init__(self, narrator: Narrator, server: FakeGemini, operator: OperatorProcess) -> None:
        self._narrator = narrator
        self._server = server
        self._operator = operator

    def show(self) -> None:
        self._narrator.until(lambda: self._has("ProviderReady", "True"), "the provider to be ready")
        waiting = self.the_circuit_opens()
        self.the_circuit_closes(waiting)

    def the_circuit_opens(self) -> list[str]:
        """Returns the names of the jobs that wait."""
        narrator = self._narrator
        narrator.scene("An outage of the provider: the circuit opens, and no row uses an attempt")
        before = self._server.stats()
        self._server.fault("503")
        narrator.say(f"the server answers 503 to every call; one business is edited, and {LATER} others a moment later")
        narrator.sql(f"{EDIT}name = %s", EDITED_ALONE)
        unready = f"--for=condition=ProviderReady=False --timeout={NOTICED_WITHIN_S}s"
        narrator.kubectl("wait", *unready.split(), f"embeddingsource/{SOURCE}")
        narrator.sql(f"{EDIT}id > (SELECT max(id) - %s FROM public.businesses)", LATER)  # noqa: S608
        narrator.until(lambda: len(self._jobs("Pending")) == 1 + LATER, f"{1 + LATER} jobs that wait")
        narrator.until(lambda: _canaries(before, self._server.stats()) >= CANARIES, f"{CANARIES} test texts")
        narrator.until(lambda: self._has("Fresh", "False"), "the source not to be fresh")
        self._show_condition()
        of_source = f"--field-selector=spec.sourceRef.name={SOURCE}"
        narrator.kubectl("get", "embeddingjobs", f"{of_source},status.phase!=Succeeded")
        self._show_events("ProviderUnavailable")
        self._show_circuit("circuit opened")
        narrator.say(f"sent to the server meanwhile: {_sent(before, self._server.stats())}")
        self._expect_no_dead_letter()
        return self._jobs("Pending")

    def the_circuit_closes(self, waiting: list[str]) -> None:
        narrator = self._narrator
        narrator.scene("The provider recovers: the circuit closes, and the same jobs go on")
        self._server.lift()
        narrator.kubectl("wait", "--for=condition=Fresh", f"embeddingsource/{SOURCE}", f"--timeout={FRESH_WITHIN_S}s")
        narrator.until(lambda: self._jobs("Pending") == [], "no job to be open")
        narrator.kubectl("get", "embeddingjobs", *waiting)
        narrator.until(lambda: self._has("ProviderReady", "True"), "the provider to be ready")
        self._show_condition()
        self._show_events("ProviderReady")
        self._show_circuit("circuit closed")
        self._expect_no_dead_letter()

    def _show_condition(self) -> None:
        self._narrator.kubectl("get", f"embeddingsource/{SOURCE}", "-o", CONDITION)

    def _show_events(self, reason: str) -> None:
        chosen = f"--field-selector=involvedObject.name={SOURCE},reason={reason}"
        kubectl = self._narrator.stage.kubectl
        self._narrator.until(lambda: bool(kubectl.get("events", chosen)["items"]), f"an event {reason}")
        self._narrator.kubectl("get", "events", chosen)

    def _show_circuit(self, event: str) -> None:
        """The operator's metric and log line of the provider's circuit."""
        for line in _page(f"{self._operator.http_url}/metrics").splitlines():
            if line.startswith(f'{GAUGE}{{circuit="gemini"}}'):
                self._narrator.show(f"/metrics: {line}")
        for line in self._operator.log.read_text().splitlines():
            if f'"{event}"' in line:
                self._narrator.show(f"log: {line}")

    def _jobs(self, phase: str) -> list[str]:
        jobs = self._narrator.stage.jobs(SOURCE, f"status.phase={phase}")
        return [job["metadata"]["name"] for job in jobs]

    def _has(self, kind: str, status: str) -> bool:
        conditions = self._narrator.stage.kubectl.get("embeddingsource", SOURCE)["status"]["conditions"]
        return any(each["type"] == kind and each["status"] == status for each in conditions)

    def _expect_no_dead_letter(self) -> None:
        if dead := self._jobs("DeadLettered"):
            raise ToolError(f"the outage has made dead letters: {', '.join(dead)}")


def _sent(before: Stats, after: Stats) -> str:
    """What a server has got between two counts."""
    canaries = _canaries(before, after)
    return f"texts of rows: {after.texts - before.texts - canaries}, test texts: {canaries}"


def _canaries(before: Stats, after: Stats) -> int:
    canary = hash_of(CANARY)
    return after.texts_by_hash.get(canary, 0) - before.texts_by_hash.get(canary, 0)


def _page(url: str) -> str:
    # http.client uses no proxy, and none must be used for an address of this machine.
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", urlsplit(url).path)
        return connection.getresponse().read().decode()
    except (OSError, HTTPException) as exc:
        raise ToolError(f"the operator does not answer at {url}: {exc}") from exc
    finally:
        connection.close()
