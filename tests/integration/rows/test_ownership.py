"""The book-keeping of a table belongs to one EmbeddingSource, until it is deleted, ends, or is taken over by an annotation."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from embedding_worker.errors import RowsLocked, SourceRefused
from embedding_worker.rows.database import Database
from embedding_worker.rows.ownership import Claim, Owner
from embedding_worker.rows.pause import pause_triggers
from embedding_worker.rows.readiness import is_owner, ready_for
from embedding_worker.rows.release import drop_triggers_of, release_owner, unseen_owners
from embedding_worker.rows.schema import prepare
from embedding_worker.rows.watch import BookkeepingWatch
from tests.support.kept_rows import run, source_config
from tests.support.owned_table import OwnedTable

OWNER = Owner("yellow-book", "businesses", "uid-1", "cluster-1")
AGAIN = Owner("yellow-book", "businesses", "uid-2", "cluster-1")
FOREIGN = Owner("staging", "businesses", "uid-3", "cluster-1")
COUNTERPART = Owner("yellow-book", "businesses", "uid-4", "cluster-2")
SECONDS_AGO = "UPDATE embedding_operator.sources SET owner_seen_at = now() - interval '{} seconds'"


@pytest.fixture
async def rows(owned: OwnedTable) -> AsyncIterator[Database]:
    async with owned.rows() as opened:
        yield opened


async def claim(rows: Database, owned: OwnedTable, owner: Owner, *, take_over_from: str = "") -> BookkeepingWatch:
    prepared = await prepare(rows, owned.config, Claim(owner, take_over_from))
    return BookkeepingWatch(rows, prepared, owner)


async def refusal(rows: Database, owned: OwnedTable, owner: Owner, *, take_over_from: str = "") -> str:
    with pytest.raises(SourceRefused) as refused:
        await claim(rows, owned, owner, take_over_from=take_over_from)
    assert refused.value.reason == "OwnedElsewhere"
    return refused.value.message


async def test_a_foreign_source_is_refused_until_the_annotation_names_the_owner(
    owned: OwnedTable, rows: Database
) -> None:
    watch = await claim(rows, owned, OWNER)
    message = await refusal(rows, owned, FOREIGN)
    named = message.split("take-over-from=")[1]
    assert named == "yellow-book/businesses/uid-1/1"
    await refusal(rows, owned, FOREIGN, take_over_from="yellow-book/businesses/uid-9")
    taken_over = await claim(rows, owned, FOREIGN, take_over_from=named)
    assert await taken_over.confirm_owner() is not None
    with pytest.raises(SourceRefused, match="staging/businesses/uid-3") as refused:
        await watch.confirm_owner()
    assert refused.value.reason == "OwnedElsewhere"
    await refusal(rows, owned, OWNER)


async def test_two_annotations_that_name_each_other_do_not_fight_for_the_table(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    from_owner = (await refusal(rows, owned, FOREIGN)).split("take-over-from=")[1]
    await claim(rows, owned, FOREIGN, take_over_from=from_owner)
    from_foreign = (await refusal(rows, owned, OWNER)).split("take-over-from=")[1]
    await claim(rows, owned, OWNER, take_over_from=from_foreign)
    assert await refusal(rows, owned, FOREIGN, take_over_from=from_owner)
    await claim(rows, owned, OWNER, take_over_from=from_foreign)


async def test_a_foreign_source_is_refused_however_long_ago_the_owner_was_seen(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run(SECONDS_AGO.format(86_400))
    message = await refusal(rows, owned, FOREIGN)
    assert "not seen for more than a minute" in message
    owned.admin.run(SECONDS_AGO.format(86_407))
    assert await refusal(rows, owned, FOREIGN) == message


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (50, False), (70, True)])
async def test_a_source_of_the_same_name_takes_over_when_the_owner_has_ended(
    owned: OwnedTable, rows: Database, seconds: int, taken: bool
) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run(SECONDS_AGO.format(seconds))
    if taken:
        await claim(rows, owned, AGAIN)
    else:
        await refusal(rows, owned, AGAIN)


async def test_a_source_of_the_same_name_in_another_cluster_is_refused_however_long_ago_the_owner_was_seen(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run(SECONDS_AGO.format(86_400))
    message = await refusal(rows, owned, COUNTERPART)
    await claim(rows, owned, COUNTERPART, take_over_from=message.split("take-over-from=")[1])


async def test_a_record_without_a_cluster_is_that_of_a_source_of_the_same_name(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run("UPDATE embedding_operator.sources SET owner = (owner::jsonb - 'cluster')::text")
    owned.admin.run(SECONDS_AGO.format(61))
    await refusal(rows, owned, FOREIGN)
    await claim(rows, owned, AGAIN)


async def test_a_source_is_the_same_after_its_cluster_has_got_another_certificate_authority(
    owned: OwnedTable, rows: Database
) -> None:
    watch = await claim(rows, owned, OWNER)
    renewed = replace(OWNER, cluster="cluster-1b")
    again = await claim(rows, owned, renewed)
    assert await watch.confirm_owner() is not None
    assert await again.confirm_owner() is not None
    changes = owned.admin.run("SELECT owner::jsonb ->> 'cluster', owner_changes FROM embedding_operator.sources")
    assert changes == [("cluster-1b", 1)]
    assert await release_owner(rows, OWNER) == [owned.stem]
    assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    assert owned.triggers() == []


async def test_the_same_source_sets_up_again_at_any_time(owned: OwnedTable, rows: Database) -> None:
    await claim(rows, owned, OWNER)
    await claim(rows, owned, OWNER)


@pytest.mark.parametrize("owner", [AGAIN, FOREIGN])
async def test_the_book_keeping_of_a_deleted_source_is_free_at_once(
    owned: OwnedTable, rows: Database, owner: Owner
) -> None:
    await claim(rows, owned, OWNER)
    assert await release_owner(rows, OWNER) == [owned.stem]
    await claim(rows, owned, owner)


async def test_the_triggers_of_a_deleted_source_go_and_its_book_keeping_stays(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    await release_owner(rows, OWNER)
    assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    assert owned.triggers() == []
    assert owned.oracle.states() == {}
    assert await unseen_owners(rows) == []


async def test_after_a_deletion_the_owner_changes_the_table_freely_and_no_marks_gather(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    with owned.session() as application:
        run(application, "UPDATE businesses SET name = 'before'")
        marks = owned.oracle.marks()
        await release_owner(rows, OWNER)
        assert await drop_triggers_of(rows, owned.stem, OWNER) is None
        run(application, "UPDATE businesses SET name = 'after'")
        run(application, "ALTER TABLE businesses ALTER COLUMN name TYPE varchar(99)")
        run(application, "ALTER TABLE businesses DROP COLUMN description")
        run(application, "ALTER TABLE businesses ALTER COLUMN id TYPE text")
        run(application, "ALTER TABLE businesses DROP COLUMN embedding")
        run(application, "INSERT INTO businesses (id, name) VALUES ('2', 'two')")
    assert (owned.oracle.marks(), marks) == (["1"], ["1"])


@pytest.mark.parametrize("dropped", [False, True], ids=["at_once", "after_the_triggers_were_dropped"])
async def test_a_source_that_is_created_again_has_triggers_although_they_were_paused(
    owned: OwnedTable, rows: Database, dropped: bool
) -> None:
    await claim(rows, owned, OWNER)
    await pause_triggers(rows, owned.config.at)
    await release_owner(rows, OWNER)
    if dropped:
        assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    again = await claim(rows, owned, AGAIN)
    assert again.paused_since is None
    assert len(owned.triggers()) == 2


async def test_paused_triggers_are_forgotten_with_the_owner(owned: OwnedTable, rows: Database) -> None:
    await claim(rows, owned, OWNER)
    await release_owner(rows, OWNER)
    await pause_triggers(rows, owned.config.at)
    assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    assert (await claim(rows, owned, AGAIN)).paused_since is None


async def test_the_triggers_stay_if_another_source_has_claimed_them_meanwhile(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    await release_owner(rows, OWNER)
    await claim(rows, owned, AGAIN)
    assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    assert len(owned.triggers()) == 2


async def test_a_table_in_use_delays_the_removal_and_not_the_application(owned: OwnedTable, rows: Database) -> None:
    await claim(rows, owned, OWNER)
    await release_owner(rows, OWNER)
    with owned.admin.transaction() as open_transaction:
        open_transaction.execute("UPDATE businesses SET name = 'new'")
        with pytest.raises(RowsLocked):
            await drop_triggers_of(rows, owned.stem, OWNER)
        assert await unseen_owners(rows) == [OWNER]
    assert await drop_triggers_of(rows, owned.stem, OWNER) is None
    assert owned.triggers() == []


async def test_triggers_that_this_role_may_not_drop_are_left_with_the_sql_that_drops_them(
    owned: OwnedTable, rows: Database
) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run(f'ALTER FUNCTION embedding_operator."{owned.stem}_mark" OWNER TO CURRENT_USER')
    owned.admin.run("ALTER SCHEMA embedding_operator OWNER TO CURRENT_USER")
    owned.admin.run(f'GRANT USAGE ON SCHEMA embedding_operator TO "{owned.operator}"')
    sql = await drop_triggers_of(rows, owned.stem, OWNER)
    assert sql is not None
    assert len(owned.triggers()) == 2
    assert await unseen_owners(rows) == []
    owned.admin.run(sql)
    assert owned.triggers() == []


async def test_owners_that_ended_or_were_deleted_are_listed(owned: OwnedTable, rows: Database) -> None:
    assert await unseen_owners(rows) == []
    await claim(rows, owned, OWNER)
    assert await unseen_owners(rows) == []
    owned.admin.run(SECONDS_AGO.format(61))
    (unseen,) = await unseen_owners(rows)
    assert (unseen, unseen.cluster) == (OWNER, "cluster-1")


async def test_a_confirmed_owner_is_seen_again(owned: OwnedTable, rows: Database) -> None:
    watch = await claim(rows, owned, OWNER)
    owned.admin.run(SECONDS_AGO.format(61))
    assert await watch.confirm_owner() is not None
    assert await unseen_owners(rows) == []


@pytest.mark.parametrize(
    "lost", ["DELETE FROM embedding_operator.sources", "UPDATE embedding_operator.sources SET owner = NULL"]
)
async def test_a_record_that_was_removed_has_to_be_made_again(owned: OwnedTable, rows: Database, lost: str) -> None:
    watch = await claim(rows, owned, OWNER)
    owned.admin.run(lost)
    assert await watch.confirm_owner() is None


async def test_another_column_and_another_table_are_not_affected(owned: OwnedTable, rows: Database) -> None:
    await claim(rows, owned, OWNER)
    owned.admin.run("ALTER TABLE businesses ADD COLUMN other vector(3)")
    owned.admin.run(f'GRANT UPDATE (other) ON businesses TO "{owned.operator}"')
    await prepare(rows, source_config(text="name", embedding_column="other"), Claim(FOREIGN))


async def test_the_checks_say_that_another_source_is_the_owner(owned: OwnedTable, rows: Database) -> None:
    assert "can be kept fresh" in await ready_for(rows, owned.config, Claim(OWNER))
    await claim(rows, owned, OWNER)
    assert "can be kept fresh" in await ready_for(rows, owned.config, Claim(OWNER))
    assert await is_owner(rows, owned.config.at, Claim(OWNER))
    assert not await is_owner(rows, owned.config.at, Claim(FOREIGN))
    with pytest.raises(SourceRefused, match="belongs to EmbeddingSource businesses in namespace yellow-book"):
        await ready_for(rows, owned.config, Claim(FOREIGN))


async def test_a_refused_source_changes_nothing(owned: OwnedTable, rows: Database) -> None:
    await claim(rows, owned, OWNER)
    catalog = "SELECT xmin::text, * FROM embedding_operator.sources"
    before = owned.admin.run(catalog)
    await refusal(rows, owned, FOREIGN)
    assert owned.admin.run(catalog) == before
