"""Which configuration of a source runs, and what its loop works with."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from embedding_operator.lifecycle.source_facts import Pending
from embedding_operator.reconciler import configuration, source_setup
from embedding_operator.reconciler.backfill_workers import WorkersNotEnabled
from embedding_operator.reconciler.configuration import Configuration, Progress
from embedding_operator.reconciler.peeker import Peeker
from embedding_operator.reconciler.ready_source import ReadySource
from embedding_operator.reconciler.registers import SharedParts
from embedding_operator.reconciler.source_setup import SourceSetup
from embedding_operator.resources.embedding_source import EmbeddingSource
from embedding_worker.errors import DatabaseUnavailable, SourceRefused, TableRefused
from embedding_worker.limits import Limits
from embedding_worker.outcome import OutcomeKind, RowRequest
from embedding_worker.providers.provider import Provider
from embedding_worker.providers.registry import Credentials, ProviderRegistry
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import TAKE_OVER_ANNOTATION, Claim, Owner, RecordedOwner
from embedding_worker.rows.store import RowStore
from embedding_worker.source import SourceConfig, TableColumn
from embedding_worker.text import content_hash
from tests.support.fake_clock import let_time_pass
from tests.support.fake_database import FakeDatabase
from tests.support.fake_provider import FakeEmbedder
from tests.support.fake_store import FakeStore
from tests.support.looped_source import FakeWatch
from tests.support.operator_parts import Parts, source


class Tables:
    """What the row store's class methods find in the database. Records what they were asked, in order."""

    def __init__(self) -> None:
        self.record: str | None = None
        """The configuration that was in force before."""
        self.refusal: SourceRefused | None = None
        self.would_embed = (0, 0)
        self.store = FakeStore({"1": "Bakery"})
        self.asked: list[tuple[str, SourceConfig]] = []
        self.claims: list[Claim] = []
        self.lost = False
        """Whether edits are not recorded at present."""
        self.unreachable = False
        self.owner: RecordedOwner | None = None
        self.scans = 0
        """How often the whole table was read to count what would be embedded."""
        self.pages = 1

    async def owner_on_record(self, database: Database, at: TableColumn) -> RecordedOwner | None:
        return self.owner

    async def configuration_on_record(self, database: Database, at: TableColumn) -> str | None:
        return self.record

    async def inspect(self, database: Database, config: SourceConfig) -> "Inspected":
        self.asked.append(("inspect", config))
        if self.refusal is not None:
            raise self.refusal
        return Inspected(self)

    async def claim_table(self, database: Database, config: SourceConfig, claim: Claim) -> tuple[FakeStore, FakeWatch]:
        self.asked.append(("claim_table", config))
        self.claims.append(claim)
        if self.refusal is not None:
            raise self.refusal
        return self.store, FakeWatch()

    async def edits_are_lost(self, database: Database, at: TableColumn) -> bool:
        if self.unreachable:
            raise DatabaseUnavailable("no route")
        return self.lost


class Inspected:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def would_embed(self, progress: Progress) -> tuple[int, int]:
        self._tables.scans += 1
        for _ in range(self._tables.pages):
            progress()
        return self._tables.would_embed


class PreparedEmbedder(FakeEmbedder):
    """Notes what the tables were asked before it was made ready."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self._tables = tables
        self.asked_before: list[list[tuple[str, SourceConfig]]] = []

    async def prepare(self) -> None:
        self.asked_before.append(list(self._tables.asked))


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Tables:
    found = Tables()
    monkeypatch.setattr(RowStore, "inspect", found.inspect)
    for name in ("claim_table", "edits_are_lost"):
        monkeypatch.setattr(source_setup, name, getattr(found, name))
    for name in ("configuration_on_record", "owner_on_record"):
        monkeypatch.setattr(configuration, name, getattr(found, name))
    return found


def setup_of(parts: Parts, providers: Mapping[str, Provider] | None = None, *, leads: bool = True) -> SourceSetup:
    embedder = FakeEmbedder(max_texts=7)
    known = {"local": Provider("local", lambda model, values: embedder)} if providers is None else providers
    registry = ProviderRegistry(Credentials({}), clock=parts.clock, observer=parts.metrics, providers=known)
    peeker = Peeker(FakeDatabase(), clock=parts.clock)
    shared = SharedParts(
        parts.server, parts.jobs, lambda source: WorkersNotEnabled(), 500, lambda: leads, peeker, parts.clock
    )
    return SourceSetup(FakeDatabase(), registry, catalog=parts.catalog, shared=shared)


async def decide(shown: EmbeddingSource, parts: Parts | None = None) -> Configuration:
    return await setup_of(parts or Parts()).decide(shown, no_progress)


def no_progress() -> None:
    """Nobody looks whether the loop hangs."""


BEFORE, CHANGED = source(), source(generation=2, text="name || city")


async def test_the_first_configuration_of_a_source_needs_no_approval(tables: Tables) -> None:
    assert await decide(BEFORE) == Configuration(BEFORE.spec.config())
    assert tables.asked == []


async def test_an_unchanged_configuration_needs_no_approval(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    assert await decide(BEFORE) == Configuration(BEFORE.spec.config())


async def test_a_changed_text_waits_for_approval_with_what_it_would_cost(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    tables.would_embed = (90, 3_001)
    assert await decide(CHANGED) == Configuration(
        BEFORE.spec.config(), Pending(CHANGED.spec.config().signature, rows=90, tokens=1_000)
    )


async def test_an_approved_change_runs(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    approved = source(generation=3, text="name || city", approvedFingerprint=CHANGED.spec.config().signature)
    assert await decide(approved) == Configuration(approved.spec.config())


async def test_a_change_that_cannot_run_leaves_the_previous_configuration_in_force(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    tables.refusal = SourceRefused("ColumnMissing", "there is no column city")
    assert await decide(CHANGED) == Configuration(
        BEFORE.spec.config(),
        refused_change=("ColumnMissing", "there is no column city (the previous configuration stays in force)"),
    )


async def test_the_younger_of_two_sources_of_one_column_is_refused(tables: Tables) -> None:
    parts = Parts()
    parts.catalog.put(source("a-first"))
    parts.catalog.put(source("b-second"))
    message = "EmbeddingSource a-first keeps the same column: delete one of the two"
    with pytest.raises(SourceRefused, match=message):
        await decide(source("b-second"), parts)
    assert (await decide(source("a-first"), parts)).config == source().spec.config()


@pytest.mark.parametrize("older_by", [timedelta(0), timedelta(days=1)], ids=["same_second", "older"])
async def test_of_two_sources_of_one_column_the_one_that_owns_the_table_runs(
    tables: Tables, older_by: timedelta
) -> None:
    parts = Parts()
    first, owner = source("a-first", uid="uid-1"), source("b-second", uid="uid-2")
    created = owner.metadata.creation_timestamp + older_by
    younger = owner.metadata.model_copy(update={"creation_timestamp": created})
    owner = owner.model_copy(update={"metadata": younger})
    for each in (first, owner):
        parts.catalog.put(each)
    tables.owner = RecordedOwner(owner.claim(parts.server.cluster).owner, 1.0)
    assert (await decide(owner, parts)).config == owner.spec.config()
    with pytest.raises(SourceRefused, match="belongs to EmbeddingSource b-second in this namespace"):
        await decide(first, parts)


async def test_a_source_of_a_foreign_table_is_refused_before_its_table_is_read(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    tables.owner = RecordedOwner(Owner("staging", "businesses", "uid-9"), 1.0)
    with pytest.raises(SourceRefused) as refused:
        await decide(CHANGED)
    assert (refused.value.reason, tables.scans) == ("OwnedElsewhere", 0)


async def test_a_source_takes_over_by_its_newest_annotation_also_where_a_change_waits(tables: Tables) -> None:
    parts = Parts()
    tables.record = BEFORE.spec.config().as_record()
    tables.owner = RecordedOwner(Owner("staging", "businesses", "uid-9"), 1.0, changes=1)
    annotated = CHANGED.metadata.model_copy(update={"annotations": {TAKE_OVER_ANNOTATION: tables.owner.token}})
    parts.catalog.put(CHANGED.model_copy(update={"metadata": annotated}))
    assert (await decide(CHANGED, parts)).pending is not None


async def test_the_table_is_read_once_in_five_minutes_however_often_a_source_is_set_up(tables: Tables) -> None:
    parts = Parts()
    tables.record = BEFORE.spec.config().as_record()
    tables.would_embed = (90, 3_001)
    setup = setup_of(parts)
    with capture_logs() as logs:
        for _ in range(60):
            chosen = await setup.decide(CHANGED, no_progress)
            assert chosen.pending == Pending(CHANGED.spec.config().signature, rows=90, tokens=1_000)
            await parts.clock.advance(5)
    assert tables.scans == 1
    tables.would_embed = (91, 3_001)
    assert (await setup.decide(CHANGED, no_progress)).pending != chosen.pending
    assert [line["event"] for line in logs] == ["a changed model or text waits for approval"]


async def test_a_change_that_cannot_run_is_logged_once_and_looked_at_again(tables: Tables) -> None:
    tables.record = BEFORE.spec.config().as_record()
    tables.refusal = SourceRefused("ColumnMissing", "there is no column city")
    setup = setup_of(Parts())
    with capture_logs() as logs:
        for _ in range(3):
            assert (await setup.decide(CHANGED, no_progress)).refused_change is not None
        tables.refusal = None
        assert (await setup.decide(CHANGED, no_progress)).pending is not None
    assert [line["log_level"] for line in logs] == ["error", "info"]


async def test_each_page_that_is_read_is_progress(tables: Tables) -> None:
    tables.record, tables.pages = BEFORE.spec.config().as_record(), 3
    seen: list[None] = []
    await setup_of(Parts()).decide(CHANGED, lambda: seen.append(None))
    assert len(seen) == 3


async def test_a_source_is_prepared_with_its_provider_and_its_days_limit(tables: Tables) -> None:
    parts = Parts()
    shown = source(limits={"textsPerDay": 1})
    ready = await setup_of(parts).prepare(shown, Configuration(shown.spec.config()))
    tables.store.texts["2"] = "Garage"
    async with ready.pipeline.batcher as batcher:
        first = RowRequest("1", content_hash("Bakery"))
        outcome = await let_time_pass(parts.clock, batcher.submit(first))
    assert outcome.kind is OutcomeKind.EMBEDDED
    assert (await tables.store.acquire_texts([1], Limits(1))).texts == 0


@pytest.mark.parametrize(
    ("limits", "model", "reason", "words"),
    [
        (
            {"estimatedCostPerMonth": 20},
            {},
            "PriceMissing",
            "and no price is known: set spec.model.pricePerMillionTokens",
        ),
        (
            {"estimatedCostPerMonth": 0.1},
            {"pricePerMillionTokens": 1_000},
            "LimitTooSmall",
            "estimatedCostPerMonth is 0.1, which allows 100 tokens, and one text of this model may have 333",
        ),
        ({"tokensPerDay": 332}, {}, "LimitTooSmall", "tokensPerDay is 332, which allows 332 tokens"),
    ],
)
async def test_a_limit_that_cannot_be_kept_is_refused_before_anything_is_created(
    tables: Tables, limits: dict[str, float], model: dict[str, float], reason: str, words: str
) -> None:
    shown = source(limits=limits, model=model)
    with pytest.raises(SourceRefused, match=words) as raised:
        await setup_of(Parts()).prepare(shown, Configuration(shown.spec.config()))
    assert raised.value.reason == reason
    assert tables.claims == []


@pytest.mark.parametrize(
    ("own", "release", "tokens_a_month"),
    [(None, 10.0, 100_000), (20.0, 10.0, 50_000), (20.0, 0.0, 50_000), (0.0, 10.0, None)],
)
async def test_the_price_of_a_source_goes_before_that_of_the_release(
    own: float | None, release: float, tokens_a_month: int | None
) -> None:
    priced = {} if own is None else {"pricePerMillionTokens": own}
    shown = source(limits={"estimatedCostPerMonth": 1}, model=priced)
    assert shown.spec.limits_at(release).tokens_per_month == tokens_a_month


@pytest.mark.parametrize("leads", [True, False])
async def test_a_prepared_source_may_begin_calls_while_this_process_leads(tables: Tables, leads: bool) -> None:
    ready = await setup_of(Parts(), leads=leads).prepare(source(), Configuration(source().spec.config()))
    assert ready.pipeline.gate.is_open is leads


async def test_the_audit_of_a_source_that_was_filled_before_does_not_begin_its_first_pass(tables: Tables) -> None:
    tables.store.filled = True
    assert (await prepared(Parts())).audit.filled is True


async def test_the_sweep_of_a_source_creates_jobs_of_its_name_and_fingerprint(tables: Tables) -> None:
    parts = Parts()
    tables.store.edit("1", "Bakery")
    await (await prepared(parts)).sweeper.sweep()
    (job,) = parts.server.stored_jobs.values()
    assert (job["spec"]["sourceRef"], job["spec"]["fingerprint"]) == ({"name": "businesses"}, "any@8")


async def test_a_source_of_an_unknown_provider_is_refused_before_anything_is_created(tables: Tables) -> None:
    with pytest.raises(SourceRefused, match="local"):
        await prepared(Parts(), providers={})
    assert tables.asked == []


@pytest.mark.parametrize(("suspend", "times"), [(False, 1), (True, 0)])
async def test_the_provider_is_made_ready_with_the_source_and_not_for_a_suspended_one(
    tables: Tables, suspend: bool, times: int
) -> None:
    made = PreparedEmbedder(tables)
    shown = source(suspend=suspend)
    setup = setup_of(Parts(), {"local": Provider("local", lambda model, values: made)})
    await setup.prepare(shown, Configuration(shown.spec.config()))
    assert made.asked_before == [[]] * times


async def test_a_source_whose_sdk_can_not_be_imported_is_refused_before_anything_is_created(tables: Tables) -> None:
    def fails(module: str) -> None:
        raise ModuleNotFoundError(name="grpc")

    broken = Provider("local", lambda model, values: FakeEmbedder(), sdk_module="json", extra="local", import_sdk=fails)
    with pytest.raises(SourceRefused, match=r"install embedding-operator\[local\] \(json can't be imported: .*grpc\)"):
        await prepared(Parts(), providers={"local": broken})
    assert tables.claims == []


async def test_a_refused_table_is_raised(tables: Tables) -> None:
    tables.refusal = SourceRefused("TableMissing", "public.businesses does not exist")
    with pytest.raises(SourceRefused, match=r"public\.businesses does not exist"):
        await prepared(Parts())


async def test_a_source_claims_its_table_with_its_uid_and_its_newest_annotation(tables: Tables) -> None:
    """The loop keeps the source that it began with, and an annotation does not begin another loop."""
    parts = Parts()
    shown = source(uid="uid-1")
    annotated = shown.metadata.model_copy(update={"annotations": {TAKE_OVER_ANNOTATION: "staging/businesses/uid-9"}})
    parts.catalog.put(shown.model_copy(update={"metadata": annotated}))
    await setup_of(parts).prepare(shown, Configuration(shown.spec.config()))
    owner = Owner(shown.metadata.namespace, "businesses", "uid-1")
    assert tables.claims == [Claim(owner, "staging/businesses/uid-9")]
    assert tables.claims[0].owner.cluster == parts.server.cluster


@pytest.mark.parametrize(
    ("lost", "unreachable", "added"),
    [
        (True, False, " (edits are not recorded meanwhile; the next audit finds them)"),
        (False, False, ""),
        (True, True, ""),
    ],
)
async def test_a_refusal_says_that_edits_are_not_recorded_where_that_is_so(
    tables: Tables, lost: bool, unreachable: bool, added: str
) -> None:
    tables.lost, tables.unreachable = lost, unreachable
    explained = await setup_of(Parts()).explain(source(), ("ColumnMissing", "there is no column id"))
    assert explained == ("ColumnMissing", f"there is no column id{added}")


FORBIDDEN = SourceRefused("Forbidden", "role app lacks rights: GRANT UPDATE")


@pytest.mark.parametrize(
    ("error", "shown_by_the_catalog", "cause"),
    [
        (TableRefused("DatabaseRefused", "permission denied"), FORBIDDEN, "Forbidden"),
        (TableRefused("DatabaseRefused", "a constraint"), None, "DatabaseRefused"),
        (SourceRefused("TableChanged", "it has changed"), FORBIDDEN, "TableChanged"),
    ],
)
async def test_a_refused_statement_is_explained_by_all_that_the_table_lacks(
    tables: Tables, error: SourceRefused, shown_by_the_catalog: SourceRefused | None, cause: str
) -> None:
    tables.refusal = shown_by_the_catalog
    found = await setup_of(Parts()).find_cause(source(), error)
    assert isinstance(found, SourceRefused)
    assert found.reason == cause


async def test_the_cause_of_a_refusal_is_looked_for_in_the_configuration_in_force(tables: Tables) -> None:
    setup = setup_of(Parts())
    await setup.prepare(BEFORE, Configuration(BEFORE.spec.config()))
    tables.asked.clear()
    await setup.find_cause(CHANGED, TableRefused("DatabaseRefused", "a constraint"))
    assert tables.asked == [("inspect", BEFORE.spec.config())]


async def prepared(parts: Parts, *, providers: Mapping[str, Provider] | None = None) -> ReadySource:
    return await setup_of(parts, providers).prepare(source(), Configuration(source().spec.config()))
