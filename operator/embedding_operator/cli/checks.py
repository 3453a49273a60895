"""`embedding-operator check`: each thing that the operator needs, asked for in turn, with nothing made or written.

A failure of one check hides no other; what depends on it says that it was skipped. What is well is decided in verdicts.py.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import structlog
from pydantic import ValidationError

from embedding_operator.api_errors import (
    ApiServerError,
    ApiServerUnavailable,
    ApiServerUnreachable,
    Gone,
    RequestRefused,
)
from embedding_operator.api_server import ApiServer
from embedding_operator.cli import verdicts
from embedding_operator.cli.verdicts import Mark, Unfit, Verdict, skipped, well, wrong
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN_SELECTOR
from embedding_operator.resources.embedding_source import EmbeddingSource, older_on_the_same_column, parse_source
from embedding_operator.rights import RIGHTS, Right
from embedding_operator.settings import Settings
from embedding_worker.clock import SystemClock
from embedding_worker.errors import DatabaseUnavailable, EmbeddingError
from embedding_worker.providers.registry import NoObserver, ProviderRegistry
from embedding_worker.rows import readiness
from embedding_worker.rows.database import Database
from embedding_worker.rows.readiness import DatabaseFacts
from embedding_worker.source import Model

log = structlog.get_logger(__name__)

WITHIN_S = 20.0
"""A check takes no longer, so that `helm test` ends; one call to a provider has 15 s."""
CRDS_SERVED_WITHIN_S = 10.0
CANARY = "embedding-operator check"
NO_SERVER = "the API server can't be asked"
NO_SOURCES = "the sources can't be listed"
NO_DATABASE = "the database can't be asked"


async def check(settings: Settings, say: Callable[[Verdict], None]) -> int:
    """Say each verdict as soon as it is known. Returns the exit code: 0 where all is well, 1 where something is wrong."""
    checks = Checks(settings, say)
    async with AsyncExitStack() as stack:
        await checks.cluster(stack)
        url = settings.database_url.get_secret_value()
        await checks.database(await stack.enter_async_context(Database(url, max_connections=1)))
        await checks.providers()
    return verdicts.exit_code(checks.said)


class Checks:
    """The checks in their order, and what the later ones need of the earlier: None where it could not be had."""

    def __init__(self, settings: Settings, say: Callable[[Verdict], None]) -> None:
        self._settings = settings
        self._say = say
        self._server: ApiServer | None = None
        self._sources: list[EmbeddingSource] | None = None
        self._facts: DatabaseFacts | None = None
        self.said: list[Verdict] = []

    def _note(self, verdict: Verdict) -> Verdict:
        self.said.append(verdict)
        self._say(verdict)
        return verdict

    async def cluster(self, stack: AsyncExitStack) -> None:
        self._note(await verdict("Kubernetes", self._kubernetes(stack)))
        server = self._server
        if server is None:
            for what in ("CRDs", "rights", "sources"):
                self._note(skipped(what, NO_SERVER))
            return
        served = self._note(await verdict("CRDs", crds(server)))
        self._note(await verdict("rights", rights(server)))
        if served.mark is Mark.WELL:
            self._note(await verdict("sources", self._list_sources(server)))
        else:
            self._note(skipped("sources", "the CRDs are not as they should be"))

    async def database(self, database: Database) -> None:
        self._note(await verdict("database", self._read_database(database)))
        sources, facts = self._sources or [], self._facts
        if facts is None:
            for what in ("pgvector", "schema", *map(_title, sources)):
                self._note(skipped(what, NO_DATABASE))
            return
        tables = [await verdict(_title(source), table(database, source, sources)) for source in sources]
        self._note(verdicts.pgvector(await verdict("pgvector", decided(readiness.usable_vector, facts)), tables))
        self._note(await verdict("schema", decided(readiness.makeable_schema, facts)))
        for said in tables:
            self._note(said)

    async def providers(self) -> None:
        if self._sources is None:
            self._note(skipped("providers", f"{NO_SOURCES}, which name the models"))
        registry = ProviderRegistry(self._settings.provider_values(), clock=SystemClock(), observer=NoObserver())
        for model in verdicts.models_of(self._sources or []):
            embedded = embed_canary(model, registry)
            self._note(await verdict(f"provider {model.provider}, model {model.fingerprint}", embedded))

    async def _kubernetes(self, stack: AsyncExitStack) -> str:
        server = await stack.enter_async_context(await ApiServer.connected(self._settings))
        version = await server.version()
        self._server = server
        return f"{verdicts.supported_kubernetes(version)} at {server.host}"

    async def _list_sources(self, server: ApiServer) -> str:
        bodies = await server.sources()
        self._sources, odd = [], []
        for body in bodies:
            try:
                self._sources.append(parse_source(body))
            except ValidationError:  # a CRD older or newer than this operator
                odd.append(body["metadata"]["name"])
        return verdicts.sources([source.name for source in self._sources], odd)

    async def _read_database(self, database: Database) -> str:
        self._facts = await readiness.database_facts(database)
        return readiness.supported_server(self._facts)


def _title(source: EmbeddingSource) -> str:
    return f"source {source.name}"


async def verdict(what: str, check: Awaitable[str]) -> Verdict:
    """What comes of a check, in bounded time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return well(what, await check)
    except TimeoutError:
        return wrong(what, f"no answer within {WITHIN_S:g} s: see whether the way there is open")
    except ApiServerUnavailable as exc:
        return wrong(what, f"{exc}: see that it runs, and that this process may reach it")
    except DatabaseUnavailable as exc:
        return wrong(what, f"{exc}: correct DATABASE_URL, or open the way to it")
    except (Unfit, ApiServerError, EmbeddingError) as exc:
        return wrong(what, str(exc))
    except Exception as exc:  # a fault of ours, which must not hide what comes after it
        log.exception("check ended by an unexpected error", check=what)
        return wrong(what, f"an unexpected error, {type(exc).__name__}: see the log on stderr, and report it")


async def decided(decide: Callable[[DatabaseFacts], str], facts: DatabaseFacts) -> str:
    return decide(facts)


async def crds(server: ApiServer) -> str:
    versions, resources = list[str](), set[str]()
    with contextlib.suppress(Gone):
        versions = await server.served_versions()
        resources = await server.served_resources()
    said = verdicts.served_kinds(versions, resources)
    if await server.may(Right("list", GROUP, JOBS)):  # else the rights say it
        try:
            await _selected_by_phase(server)
        except RequestRefused as exc:
            raise Unfit(
                f"{JOBS} of {GROUP}/{VERSION} can't be found by their phase ({exc}): {verdicts.CRD_MEND}"
            ) from exc
    return said


async def _selected_by_phase(server: ApiServer) -> None:
    """For some seconds after CRDs are made, their storage is not there yet: `helm test` may come right after."""
    give_up_at = time.monotonic() + CRDS_SERVED_WITHIN_S
    while True:
        try:
            return await server.selects_by(OPEN_SELECTOR)
        except ApiServerUnavailable as exc:
            if isinstance(exc, ApiServerUnreachable) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(exc.retry_after_s)


async def rights(server: ApiServer) -> str:
    allowed = await asyncio.gather(*map(server.may, RIGHTS))
    return verdicts.all_rights(dict(zip(RIGHTS, allowed, strict=True)), namespace=server.namespace)


async def table(database: Database, source: EmbeddingSource, sources: Sequence[EmbeddingSource]) -> str:
    if (older := older_on_the_same_column(source, sources)) is not None:
        raise Unfit(f"EmbeddingSource {older} keeps this very column: delete one of the two")
    return await readiness.ready_for(database, source.spec.config())


async def embed_canary(model: Model, registry: ProviderRegistry) -> str:
    """Embed one text, and say so. The embedder itself refuses an answer of other dimensions."""
    (vector,) = await registry.embedder(model, source="check").embed([CANARY])
    return f"one text was embedded, in {len(vector)} dimensions (it counts as one text of the quota)"
