"""The triggers of deleted sources are dropped: at the deletion, or when the database can be reached and the table is free."""

import asyncio
from collections import defaultdict

import pytest
from structlog.testing import capture_logs

from embedding_operator.api_errors import ApiServerUnreachable
from embedding_operator.reconciler import deleted_sources
from embedding_operator.reconciler.deleted_sources import DeletedSources
from embedding_operator.tasks import cancel_and_wait
from embedding_worker.errors import DatabaseUnavailable, RowsLocked
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Owner
from tests.support.fake_clock import let_time_pass
from tests.support.fake_database import FakeDatabase
from tests.support.operator_parts import Parts


class Records:
    """The book-keeping in the database, by owner."""

    def __init__(self) -> None:
        self.owned: dict[Owner, list[str]] = {}
        self.unseen: list[Owner] = []
        self.dropped: list[str] = []
        self.left: str | None = None
        self.errors: dict[str, list[Exception]] = defaultdict(list)

    def _fail(self, name: str) -> None:
        if self.errors[name]:
            raise self.errors[name].pop(0)

    async def release_owner(self, database: Database, owner: Owner) -> list[str]:
        self._fail("release_owner")
        return self.owned.get(owner, [])

    async def drop_triggers_of(self, database: Database, bookkeeping: str, owner: Owner) -> str | None:
        self._fail("drop_triggers_of")
        self.dropped.append(bookkeeping)
        return self.left

    async def unseen_owners(self, database: Database) -> list[Owner]:
        self._fail("unseen_owners")
        return self.unseen


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    made = Records()
    for name in ("release_owner", "drop_triggers_of", "unseen_owners"):
        monkeypatch.setattr(deleted_sources, name, getattr(made, name))
    return made


def deletions(parts: Parts) -> DeletedSources:
    return DeletedSources(FakeDatabase(), parts.server, parts.events, clock=parts.clock)


MINE = Owner("test", "businesses", "uid-1", "cluster-1")


async def test_everything_of_a_deleted_source_is_dropped(records: Records) -> None:
    records.owned[MINE] = ["one", "two"]
    await deletions(Parts()).release("businesses", "uid-1")
    assert records.dropped == ["one", "two"]


async def test_a_table_in_use_is_tried_again_a_few_times(records: Records) -> None:
    parts = Parts()
    records.owned[MINE] = ["one"]
    records.errors["drop_triggers_of"] = [RowsLocked("LockNotAvailable")] * 3
    await let_time_pass(parts.clock, deletions(parts).release("businesses", "uid-1"))
    assert records.dropped == ["one"]


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("release_owner", [DatabaseUnavailable("away")]),
        ("drop_triggers_of", [DatabaseUnavailable("away")]),
        ("drop_triggers_of", [RowsLocked("LockNotAvailable")] * 9),
    ],
)
async def test_what_cannot_be_dropped_now_is_left_to_the_next_look(
    records: Records, name: str, errors: list[Exception]
) -> None:
    parts = Parts()
    records.owned[MINE], records.unseen = ["one"], [MINE]
    records.errors[name] = errors
    await let_time_pass(parts.clock, deletions(parts).release("businesses", "uid-1"))
    assert records.dropped == []
    records.errors.clear()
    await deletions(parts).release_unseen()
    assert records.dropped == ["one"]


async def test_triggers_that_may_not_be_dropped_are_told_with_the_sql(records: Records) -> None:
    parts = Parts()
    records.owned[MINE], records.left = ["one"], "DROP FUNCTION one() CASCADE"
    with capture_logs() as lines:
        await deletions(parts).release("businesses", "uid-1")
    (event,) = parts.events.emitted
    assert (event.reason, event.regarding["name"], event.regarding["uid"]) == ("TriggersLeft", "businesses", "uid-1")
    assert "DROP FUNCTION one() CASCADE" in event.note
    assert [(line["log_level"], line["source"], line["run_as_owner_of_the_function"]) for line in lines] == [
        ("error", "businesses", "DROP FUNCTION one() CASCADE")
    ]


async def test_only_sources_of_this_cluster_and_namespace_that_do_not_exist_are_released(records: Records) -> None:
    parts = Parts()
    others = (
        Owner("test", "present", "uid-2", "cluster-1"),
        Owner("elsewhere", "businesses", "uid-3", "cluster-1"),
        Owner("test", "businesses", "uid-4", "cluster-2"),
        Owner("test", "businesses", "uid-5"),
    )
    parts.server.put_source({"metadata": {"name": "present", "uid": "uid-2"}})
    for owner in (MINE, *others):
        records.owned[owner] = [f"of {owner.uid}"]
        records.unseen.append(owner)
    await deletions(parts).release_unseen()
    assert records.dropped == ["of uid-1"]


async def test_nothing_is_released_while_the_sources_cannot_be_listed(records: Records) -> None:
    parts = Parts()
    records.owned[MINE], records.unseen = ["one"], [MINE]
    parts.server.fail("sources", ApiServerUnreachable("no route"))
    await deletions(parts).release_unseen()
    assert records.dropped == []


async def test_a_process_that_does_not_lead_releases_nothing_that_it_does_not_see(records: Records) -> None:
    parts = Parts()
    may_work = False
    deleted = DeletedSources(FakeDatabase(), parts.server, parts.events, clock=parts.clock, may_work=lambda: may_work)
    running = asyncio.create_task(deleted.run())
    await parts.clock.advance(180)
    assert parts.server.count("sources") == 0
    may_work = True
    await parts.clock.advance(60)
    assert parts.server.count("sources") == 1
    await cancel_and_wait(running)
