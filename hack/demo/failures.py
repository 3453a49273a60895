"""The second part of the demo: a source whose provider, a server over HTTP, refuses one business and fails on two others.

It shows the backoff, the dead letter and its replay. Called by the demo's command, after the first story.
"""

from typing import Any

from hack.demo.narrator import Narrator
from hack.provider_server.process import FakeGemini
from hack.repository import EXAMPLES, ROOT

SOURCE = "businesses-gemini"
COLUMN = "embedding_gemini"
REFUSED = "Spoke & Fender"
FAILED_ON = ("Ancoats Sourdough", "Danforth Denture & Dental")
NAMED = {REFUSED, *FAILED_ON}
FRESH_WITHIN_S = 120
REPLAY = '{"status":{"phase":"Pending"}}'


class Failures:
    def __init__(self, narrator: Narrator, server: FakeGemini) -> None:
        self._narrator = narrator
        self._server = server

    def show(self) -> None:
        self.some_fail()
        self.one_is_a_dead_letter()
        self.the_dead_letter_is_replayed()

    def some_fail(self) -> None:
        narrator = self._narrator
        narrator.scene("A second model, over HTTP, that refuses one business and fails on two others")
        self._server.fault("400", only_matching=REFUSED)
        for name in FAILED_ON:
            self._server.fault("503", only_matching=name)
        narrator.say(
            f"a local server answers as Gemini's API does; it refuses {REFUSED}, and fails for a while on two others"
        )
        narrator.kubectl("apply", "-f", str((EXAMPLES / "businesses-gemini.yaml").relative_to(ROOT)))
        retrying = f"--field-selector=spec.sourceRef.name={SOURCE},status.phase=Retrying"
        narrator.until(lambda: len(self._jobs("status.phase=Retrying")) == len(FAILED_ON), "two jobs to be retried")
        narrator.say(
            "each failed alone while the server answered other texts: it counts as an attempt, and no other row waits"
        )
        narrator.kubectl("get", "embeddingjobs", retrying)
        backoff = 'jsonpath={.items[0].metadata.annotations.embeddings\\.yellowbook\\.dev/backoff}{"\\n"}'
        narrator.kubectl("get", "embeddingjobs", retrying, "-o", backoff)
        narrator.until(lambda: bool(self._jobs("status.phase=DeadLettered")), "the refused one to be a dead letter")
        narrator.say(f"the server has refused {REFUSED} alone four times, and accepted other texts after each")
        self._server.lift()
        self._server.fault("400", only_matching=REFUSED)
        narrator.say("the server has recovered, but it still refuses the one business")
        wait = ("wait", "--for=condition=Fresh", f"embeddingsource/{SOURCE}", f"--timeout={FRESH_WITHIN_S}s")
        narrator.kubectl_wait(*wait, source=SOURCE, column=COLUMN, within_s=FRESH_WITHIN_S + 10)
        for name in FAILED_ON:
            job = self._job_of(name)
            narrator.say(f"{name}: {job['status']['phase']} at attempt {job['status']['attempts']}")

    def one_is_a_dead_letter(self) -> None:
        narrator = self._narrator
        narrator.scene("The refused row is a dead letter, and says why")
        narrator.kubectl("get", "embeddingsources")
        narrator.kubectl("get", "embeddingjobs", "--field-selector=status.phase=DeadLettered")
        name = self._job_of(REFUSED)["metadata"]["name"]
        narrator.kubectl("describe", "embeddingjob", name, only=_is_of_the_status)

    def the_dead_letter_is_replayed(self) -> None:
        narrator = self._narrator
        narrator.scene("The fault is removed, and the dead letter is replayed")
        self._server.lift()
        name = self._job_of(REFUSED)["metadata"]["name"]
        narrator.kubectl("patch", "embeddingjob", name, "--subresource=status", "--type=merge", "-p", REPLAY)
        narrator.kubectl("wait", "--for=condition=Succeeded", f"embeddingjob/{name}", "--timeout=30s")
        narrator.kubectl("get", "embeddingjob", name)
        narrator.until(lambda: self._jobs("status.phase=DeadLettered") == [], "no dead letter to be left")

    def _jobs(self, selector: str) -> list[dict[str, Any]]:
        return self._narrator.stage.jobs(SOURCE, selector)

    def _job_of(self, name: str) -> dict[str, Any]:
        (business,) = self._narrator.stage.query("SELECT id FROM public.businesses WHERE name = %s", name)[0]
        return self._jobs(f"spec.businessId={business}")[-1]


def _is_of_the_status(line: str) -> bool:
    """Whether a line of `kubectl describe` is of the status, without the managed fields."""
    words = ("Attempts:", "Code:", "Message:", "Phase:", "Reason:", "Time:", "History:", "Status:")
    return line.strip().startswith(words)
