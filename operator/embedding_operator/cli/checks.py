"""`embedding-operator check`: checks everything that the operator needs, one thing after the other. Creates and writes nothing.

Called by commands.py. A failing check hides no other; those that depend on it are reported as skipped. verdicts.py decides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import structlog
from pydantic import ValidationError

from embedding_operator.api_errors import (
    ApiServerError,
    ApiServerUnavailable,
)
from embedding_operator.api_server import ApiServer
from embedding_operator.cli import verdicts
from embedding_operator.cli.cluster_checks import check_crds, check_rights
from embedding_operator.cli.index_checks import advise_index
from embedding_operator.cli.verdicts import CheckFailed, Mark, Verdict, failed, passed, skipped
from embedding_operator.resources.embedding_source import EmbeddingSource, older_on_the_same_column, parse_source
from embedding_operator.settings import Settings
from embedding_worker.errors import EmbeddingError
from embedding_worker.providers.registry import embed_canary
from embedding_worker.rows import readiness
from embedding_worker.rows.database import Database
from embedding_worker.source import Model

log = structlog.get_logger(__name__)

WITHIN_S = 20.0
"""The limit of each check, so that `helm test` ends. One call to a provider has 15 s."""
NO_SERVER = "the API server can't be reached"
NO_SOURCES = "the sources can't be listed"
NO_DATABASE = "the database can't be reached"


async def check(settings: Settings, emit: Callable[[Verdict], None]) -> int:
    """Emit each verdict as soon as it is known. Returns the exit code: 0 if every check passes, 1 if one fails."""
    checks = Checks(settings, emit)
    async with AsyncExitStack() as stack:
        await checks.check_cluster(stack)
        url = settings.database_url.get_secret_value()
        await checks.check_database(await stack.enter_async_context(Database(url, max_connections=1)))
        await checks.check_providers()
    return verdicts.exit_code(checks.verdicts)


class Checks:
    """The checks in their order, and what later ones need from earlier ones: None if it is not available."""

    def __init__(self, settings: Settings, emit: Callable[[Verdict], None]) -> None:
        self._settings = settings
        self._emit = emit
        self._server: ApiServer | None = None
        self._sources: list[EmbeddingSource] | None = None
        self._facts: readiness.DatabaseFacts | None = None
        self.verdicts: list[Verdict] = []

    def _record(self, verdict: Verdict) -> Verdict:
        self.verdicts.append(verdict)
        self._emit(verdict)
        return verdict

    async def check_cluster(self, stack: AsyncExitStack) -> None:
        self._record(await reach_verdict("Kubernetes", self._kubernetes(stack)))
        server = self._server
        if server is None:
            for what in ("CRDs", "rights", "sources"):
                self._record(skipped(what, NO_SERVER))
            return
        with_workers = self._settings.backfill_pod_template is not None
        served = self._record(await reach_verdict("CRDs", check_crds(server)))
        self._record(await reach_verdict("rights", check_rights(server, with_workers=with_workers)))
        if served.mark is Mark.PASSED:
            self._record(await reach_verdict("sources", self._list_sources(server)))
        else:
            self._record(skipped("sources", "the CRDs are not as this operator needs them"))

    async def check_database(self, database: Database) -> None:
        self._record(await reach_verdict("database", self._read_database(database)))
        sources, facts = self._sources or [], self._facts
        cluster = self._server.cluster if self._server is not None else ""
        if facts is None:
            for what in ("pgvector", "schema", *map(_title, sources)):
                self._record(skipped(what, NO_DATABASE))
            return
        tables = [
            await reach_verdict(_title(source), check_table(database, source, sources, cluster=cluster))
            for source in sources
        ]
        self._record(verdicts.pgvector(await reach_verdict("pgvector", decide(readiness.usable_vector, facts)), tables))
        self._record(await reach_verdict("schema", decide(readiness.creatable_schema, facts)))
        for source, verdict in zip(sources, tables, strict=True):
            self._record(verdict)
            if verdict.mark is Mark.PASSED and (advice := await advise_index(database, source)) is not None:
                self._record(advice)

    async def check_providers(self) -> None:
        if self._sources is None:
            self._record(skipped("providers", f"{NO_SOURCES}, which name the models"))
        for model in verdicts.models_of(self._sources or []):
            embedded = try_model(model, self._settings)
            self._record(await reach_verdict(verdicts.title_of(model), embedded))

    async def _kubernetes(self, stack: AsyncExitStack) -> str:
        server = await stack.enter_async_context(await ApiServer.connected(self._settings))
        version = await server.version()
        self._server = server
        return f"{verdicts.supported_kubernetes(version)} at {server.host}"

    async def _list_sources(self, server: ApiServer) -> str:
        bodies = await server.sources()
        self._sources, unknown = [], []
        for body in bodies:
            try:
                self._sources.append(parse_source(body))
            except ValidationError:  # a CRD older or newer than this operator
                unknown.append(body["metadata"]["name"])
        return verdicts.sources([source.name for source in self._sources], unknown)

    async def _read_database(self, database: Database) -> str:
        self._facts = await readiness.database_facts(database)
        return readiness.supported_server(self._facts)


def _title(source: EmbeddingSource) -> str:
    return f"source {source.name}"


async def reach_verdict(what: str, check: Awaitable[str]) -> Verdict:
    """The verdict of a check, within bounded time."""
    try:
        async with asyncio.timeout(WITHIN_S):
            return passed(what, await check)
    except TimeoutError:
        return failed(what, f"no answer within {WITHIN_S:g} s: check that the network allows the connection")
    except ApiServerUnavailable as exc:
        return failed(what, f"{exc}: check that it runs, and that this process may reach it")
    except (CheckFailed, ApiServerError, EmbeddingError) as exc:
        return failed(what, str(exc))
    except Exception as exc:  # a bug, which must not hide the checks after it
        log.exception("check failed with an unexpected error", check=what)
        return failed(what, f"an unexpected error, {type(exc).__name__}: see the log on stderr, and report it")


async def decide(decide: Callable[[readiness.DatabaseFacts], str], facts: readiness.DatabaseFacts) -> str:
    return decide(facts)


async def check_table(
    database: Database, source: EmbeddingSource, sources: Sequence[EmbeddingSource], *, cluster: str
) -> str:
    config, claim = source.spec.config(), source.claim(cluster)
    older = older_on_the_same_column(source, sources)
    if older is not None and not await readiness.is_owner(database, config.at, claim):
        raise CheckFailed(f"EmbeddingSource {older} already serves this column: delete one of the two")
    return await readiness.ready_for(database, config, claim)


async def try_model(model: Model, settings: Settings) -> str:
    """Embed one text, and say so. The embedder itself refuses an answer of other dimensions."""
    vector = await embed_canary(model, settings.credentials())
    return f"one text was embedded, in {len(vector)} dimensions (it counts as one text of the quota)"
