"""What the demo shows then: a second source whose provider is a server over HTTP, which refuses one business and stumbles
over others; the backoff, the dead letter, and its replay. Called by the demo's command, after the first story.
"""

from hack.demo.telling import Telling
from hack.provider_server.process import FakeGemini
from hack.repository import EXAMPLES, ROOT

SOURCE = "businesses-gemini"
COLUMN = "embedding_gemini"
REFUSED = "Spoke & Fender"
STUMBLED_OVER = ("Ancoats Sourdough", "Danforth Denture & Dental")
NAMED = {REFUSED, *STUMBLED_OVER}
FRESH_WITHIN_S = 120
REPLAY = '{"status":{"phase":"Pending"}}'


class Failures:
    def __init__(self, telling: Telling, server: FakeGemini) -> None:
        self._telling = telling
        self._server = server

    def tell(self) -> None:
        self.some_fail()
        self.one_is_a_dead_letter()
        self.the_dead_letter_is_replayed()

    def some_fail(self) -> None:
        telling = self._telling
        telling.scene("A second model, over HTTP, that refuses one business and stumbles over two")
        self._server.fault("400", only_matching=REFUSED)
        for name in STUMBLED_OVER:
            self._server.fault("503", only_matching=name)
        telling.say(
            f"a local server answers as Gemini's API does; it refuses {REFUSED}, and fails for a while on two others"
        )
        telling.kubectl("apply", "-f", str((EXAMPLES / "businesses-gemini.yaml").relative_to(ROOT)))
        retrying = f"--field-selector=spec.sourceRef.name={SOURCE},status.phase=Retrying"
        telling.until(lambda: bool(self._jobs("status.phase=Retrying")), "a job to be retried")
        telling.say("its neighbours are not held up: what fails alone is tried again alone, after a pause")
        telling.kubectl("get", "embeddingjobs", retrying)
        backoff = 'jsonpath={.items[0].metadata.annotations.embeddings\\.yellowbook\\.dev/backoff}{"\\n"}'
        telling.kubectl("get", "embeddingjobs", retrying, "-o", backoff)
        telling.until(lambda: bool(self._jobs("status.phase=DeadLettered")), "the refused one to be a dead letter")
        self._server.lift()
        self._server.fault("400", only_matching=REFUSED)
        telling.say("the server has recovered; it still refuses what it refuses")
        wait = ("wait", "--for=condition=Fresh", f"embeddingsource/{SOURCE}", f"--timeout={FRESH_WITHIN_S}s")
        telling.kubectl_wait(*wait, source=SOURCE, column=COLUMN, within_s=FRESH_WITHIN_S + 10)
        for name in STUMBLED_OVER:
            job = self._job_of(name)
            telling.say(f"{name}: {job['status']['phase']} at attempt {job['status']['attempts']}")

    def one_is_a_dead_letter(self) -> None:
        telling = self._telling
        telling.scene("What is refused is a dead letter, and says why")
        telling.kubectl("get", "embeddingsources")
        telling.kubectl("get", "embeddingjobs", "--field-selector=status.phase=DeadLettered")
        name = self._job_of(REFUSED)["metadata"]["name"]
        telling.kubectl("describe", "embeddingjob", name, only=_tells_its_story)

    def the_dead_letter_is_replayed(self) -> None:
        telling = self._telling
        telling.scene("The fault is lifted, and the dead letter replayed")
        self._server.lift()
        name = self._job_of(REFUSED)["metadata"]["name"]
        telling.kubectl("patch", "embeddingjob", name, "--subresource=status", "--type=merge", "-p", REPLAY)
        telling.kubectl("wait", "--for=condition=Succeeded", f"embeddingjob/{name}", "--timeout=30s")
        telling.kubectl("get", "embeddingjob", name)
        telling.until(lambda: self._jobs("status.phase=DeadLettered") == [], "no dead letter to be left")

    def _jobs(self, selector: str) -> list[dict[str, dict[str, str]]]:
        fields = f"--field-selector=spec.sourceRef.name={SOURCE},{selector}"
        items: list[dict[str, dict[str, str]]] = self._telling.stage.kubectl.get("embeddingjobs", fields)["items"]
        return items

    def _job_of(self, name: str) -> dict[str, dict[str, str]]:
        (business,) = self._telling.stage.query("SELECT id FROM public.businesses WHERE name = %s", name)[0]
        return self._jobs(f"spec.businessId={business}")[-1]


def _tells_its_story(line: str) -> bool:
    """Of what `kubectl describe` prints: the status, without who has written which field."""
    words = ("Attempts:", "Code:", "Message:", "Phase:", "Reason:", "Time:", "History:", "Status:")
    return line.strip().startswith(words)
