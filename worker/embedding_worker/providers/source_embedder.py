"""Makes the calls of one source, by a connection that it shares with others, and records what they show. Made by the registry.

A failed canary opens a circuit here, and nothing else does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from embedding_worker.clock import Clock
from embedding_worker.errors import CallsPaused, ProviderError, ProviderThrottled, ProviderUnavailable
from embedding_worker.providers.attribution import Evidence
from embedding_worker.providers.breaker import Breaker
from embedding_worker.providers.canary import ANSWERED_WITHIN_S, CANARY, within
from embedding_worker.providers.connection import Connection, SharedModel
from embedding_worker.providers.embedder import Vector, call_bytes_of, first_texts_of, tokens_of
from embedding_worker.providers.observer import CallObserver
from embedding_worker.providers.problem import Problem
from embedding_worker.providers.pulse import Pulse
from embedding_worker.rows.records import RateLimits
from embedding_worker.source import Model

LOOK_EVERY_S = 1.0
"""How long it takes at most until a waiting call notices that the credential was rotated."""


class SourceEmbedder:
    """See SharedEmbedder. After a rotation of the credential, it uses the connection of the new one."""

    def __init__(
        self,
        connection: Callable[[], Connection],
        model: Model,
        *,
        source: str,
        pulse: Pulse,
        clock: Clock,
        observer: CallObserver,
    ) -> None:
        client = connection().model(model).client
        self.max_texts = client.max_texts
        self.first_texts = first_texts_of(client)
        self.max_text_bytes = client.max_text_bytes
        self.max_call_bytes = call_bytes_of(client)
        self._connection = connection
        self._model = model
        self._source = source
        self._pulse = pulse
        self._clock = clock
        self._observer = observer

    @property
    def problem(self) -> Problem | None:
        connection, model = self._shared
        return connection.breaker.problem or model.breaker.problem or connection.throttle.problem

    @property
    def may_call(self) -> bool:
        connection, model = self._shared
        return connection.breaker.is_closed and model.breaker.is_closed and not connection.throttle.remaining_s()

    @property
    def paused_for_s(self) -> float:
        """Seconds until a call may be made, or the next probe is sent; 0 if a call may be made now."""
        connection, model = self._shared
        return max(connection.throttle.remaining_s(), connection.breaker.probe_in_s, model.breaker.probe_in_s)

    @property
    def evidence(self) -> Evidence:
        return self._shared[1].evidence

    @property
    def limits(self) -> tuple[str, RateLimits]:
        connection = self._connection()
        return connection.key, connection.limits

    @property
    def throttled_times(self) -> int:
        return self._connection().throttle.times

    @property
    def _shared(self) -> tuple[Connection, SharedModel]:
        connection = self._connection()
        return connection, connection.model(self._model)

    def retry_now(self) -> None:
        connection, model = self._shared
        connection.throttle.end()
        self._show_throttle(connection)
        connection.breaker.retry_now()
        model.breaker.retry_now()

    def _show_throttle(self, connection: Connection) -> None:
        self._observer.throttled(provider=connection.account.name, until=connection.throttle.until)

    def beat(self) -> None:
        self._pulse.beat(self._clock.monotonic())

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See Embedder.embed. Raises CallsPaused if no call may be made now. Waits only for other calls after an outage."""
        connection, model = await self._admitted()
        return await self._call(connection, model, texts)

    async def prepare(self) -> None:
        await self._connection().prepare(self._model)

    async def wait_until_admitted(self) -> None:
        await self._admitted()

    async def _admitted(self) -> tuple[Connection, SharedModel]:
        while True:
            self._refuse_if_paused()
            connection, model = self._shared
            if connection.breaker.admits() and model.breaker.admits():
                return connection, model
            waits_for = model.breaker if connection.breaker.admits() else connection.breaker
            await self._clock.wait_for(waits_for.changed, within_s=LOOK_EVERY_S)

    async def send_canary(self) -> None:
        self._refuse_if_paused()
        connection, model = self._shared
        await self._ask(connection, model)

    def _refuse_if_paused(self) -> None:
        if not self.may_call:
            problem = self.problem
            raise CallsPaused(problem.message if problem is not None else "the credential was rotated")

    async def _ask(self, connection: Connection, model: SharedModel) -> None:
        number = model.evidence.next_number()
        try:
            await self._call(connection, model, [CANARY], within_s=ANSWERED_WITHIN_S)
        except (CallsPaused, ProviderThrottled):
            raise
        except ProviderError as exc:
            model.evidence.record_provider_failure(number, self._clock.monotonic(), refused=exc.is_refusal)
            breaker = model.breaker if exc.of_the_model else connection.breaker
            breaker.open(_with_what_failed_before(exc, model))
            raise

    @property
    def may_probe(self) -> bool:
        connection, model = self._shared
        return connection.breaker.may_probe or model.breaker.may_probe

    def begin_probe(self) -> bool:
        connection, model = self._shared
        began = [connection.breaker.begin_probe(), model.breaker.begin_probe()]
        return any(began)

    async def probe(self) -> bool:
        connection, model = self._shared
        error: ProviderError | None = None
        try:
            await self._ask(connection, model)
        except ProviderError as exc:
            error = exc
        finally:  # no result, or cancelled
            connection.breaker.stop_probing()
            model.breaker.stop_probing()
        if error is None or isinstance(error, ProviderThrottled) or error.of_the_model:
            connection.breaker.close()  # it has answered; after a 429 the throttle says when it is called again
        if error is None or isinstance(error, ProviderThrottled):
            model.breaker.close()
        return error is None or error.reached

    async def _call(
        self, connection: Connection, model: SharedModel, texts: Sequence[str], *, within_s: float | None = None
    ) -> list[Vector]:
        began, number = self._clock.monotonic(), model.evidence.next_number()
        try:
            with _counted(connection.breaker), _counted(model.breaker):
                vectors = await within(self._measured_call(connection, model, texts), seconds=within_s)
        except ProviderError as exc:
            now = self._clock.monotonic()
            if self._pulse.was_stopped(since=began, now=now):
                raise CallsPaused(
                    "this process was stopped during a call, so its failure shows nothing", reached=exc.reached
                ) from None
            model.evidence.record_failure()
            if list(texts) != [CANARY]:
                model.failed_call = f"a call of {len(texts)} text{'s' * (len(texts) != 1)} failed: {exc.message}"
            if isinstance(exc, ProviderThrottled):
                connection.throttle.pause(exc, began=began)
                self._show_throttle(connection)
            raise
        model.evidence.record_success(number, self._clock.monotonic())
        if list(texts) != [CANARY]:
            model.failed_call = ""
        connection.throttle.record_success()
        connection.breaker.record_success()
        model.breaker.record_success()
        return vectors

    async def _measured_call(self, connection: Connection, model: SharedModel, texts: Sequence[str]) -> list[Vector]:
        clock, observer = self._clock, self._observer
        provider, tokens = connection.account.name, tokens_of(texts)
        observer.call_started(source=self._source, provider=provider, texts=len(texts), tokens=tokens)
        started, outcome = clock.monotonic(), "Cancelled"
        try:
            vectors = await model.client.embed(texts)
            outcome = "Succeeded"
        except Exception as exc:
            outcome = type(exc).__name__
            raise
        else:
            return vectors
        finally:
            observer.call_finished(source=self._source, outcome=outcome, seconds=clock.monotonic() - started)


def _with_what_failed_before(error: ProviderError, model: SharedModel) -> ProviderError:
    """The error of a canary. One that only got no answer in time says less than the failure because of which it was sent."""
    if not (isinstance(error, ProviderUnavailable) and error.timed_out and model.failed_call):
        return error
    return ProviderUnavailable(f"{error.message}, after {model.failed_call}", reached=error.reached, timed_out=True)


@contextmanager
def _counted(breaker: Breaker) -> Iterator[None]:
    breaker.count(1)
    try:
        yield
    finally:
        breaker.count(-1)
