"""What the database says of one row: whether it is up to date, its marks, and how many due rows get a job before it."""

import pytest

from embedding_operator.lifecycle.row_explanation import place
from embedding_worker.errors import SourceRefused
from embedding_worker.rows.one_row import OneRow, RowFacts
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper


def add(application: Application, count: int) -> None:
    application.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, %s) i", count)


async def facts(keeper: Keeper, row_id: str) -> RowFacts:
    return await OneRow.of(keeper.store).facts(row_id)


async def test_a_row_is_followed_from_its_insert_to_its_vector_and_its_end(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 2)
    due = await facts(keeper, "1")
    assert (due.exists, due.up_to_date, due.embedded_at) == (True, False, None)
    assert due.marks is not None
    ((since, first, newest),) = businesses.run(
        f"SELECT min(since), min(seq), max(seq) FROM {keeper.statements.marks} WHERE id = '1'"
    )
    assert (due.marks.since, due.marks.first, due.marks.newest_edit, due.marks.edited) == (since, first, newest, True)

    await keeper.keep()
    fresh = await facts(keeper, "1")
    assert (fresh.exists, fresh.up_to_date, fresh.marks, fresh.fingerprint) == (True, True, None, "fake@3")
    assert fresh.embedded_at is not None

    businesses.run("UPDATE businesses SET embedding = '[0,0,1]' WHERE id = 1")
    assert (await facts(keeper, "1")).up_to_date is False
    businesses.run("DELETE FROM businesses WHERE id = 1")
    assert (await facts(keeper, "1")).exists is False


async def test_a_row_that_the_audit_has_found_is_told_from_an_edited_one(businesses: Application, keep: Keep) -> None:
    add(businesses, 1)
    keeper, _ = await keep()
    assert (await facts(keeper, "1")).marks is None
    await keeper.audit()
    found = (await facts(keeper, "1")).marks
    assert found is not None
    assert (found.edited, found.newest_edit) == (False, 0)
    businesses.run("UPDATE businesses SET name = 'edited'")
    edited = (await facts(keeper, "1")).marks
    assert edited is not None
    assert (edited.edited, edited.first) == (True, found.first)
    assert edited.newest_edit > found.first


async def test_an_empty_text_and_one_that_fails_are_said_and_no_text_is(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep(text="name || (1 / coalesce(nullif(phone, 'x')::int, 0))::text")
    businesses.run("INSERT INTO businesses (name, phone) VALUES (NULL, '1'), ('secret text', '0'), ('fine', '1')")
    assert (await facts(keeper, "1")).blank is True
    failing = await facts(keeper, "2")
    assert (failing.exists, failing.up_to_date) == (True, False)
    assert "22012" in failing.text_problem
    assert "secret text" not in repr(failing)
    assert (await facts(keeper, "3")).text_problem == ""


@pytest.mark.parametrize("row_id", ["4711", "-1", "99999999999999999999", "no number", "", "1\x00"])
async def test_an_id_that_no_row_has_is_no_error(businesses: Application, keep: Keep, row_id: str) -> None:
    keeper, _ = await keep()
    add(businesses, 1)
    assert await facts(keeper, row_id) == RowFacts()


async def test_ids_of_other_types_are_found(application: Application, keep: Keep) -> None:
    application.run('CREATE TABLE "Odd" ("Key" text PRIMARY KEY, name text, embedding vector(3))')
    keeper, _ = await keep("Odd", id_column="Key")
    application.run("""INSERT INTO "Odd" VALUES ('a/b "c" ''d''', 'x')""")
    await keeper.keep()
    assert (await facts(keeper, """a/b "c" 'd'""")).up_to_date is True


async def test_a_table_that_is_gone_is_no_answer_about_the_row(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 1)
    businesses.run("ALTER TABLE businesses RENAME TO others")
    with pytest.raises(SourceRefused):
        await facts(keeper, "1")


@pytest.mark.parametrize("backfill", [0, 30])
async def test_a_row_gets_its_job_after_as_many_as_its_place_says(
    businesses: Application, keep: Keep, backfill: int
) -> None:
    """Compared with what sweeps select. `backfill`: so many of the 40 rows were found by the audit."""
    add(businesses, backfill)
    keeper, _ = await keep()
    await keeper.audit()
    add(businesses, 40 - backfill)
    left_out = ("3", "38")
    for row_id in (str(number) for number in range(1, 41) if str(number) not in left_out):
        marks = (await facts(keeper, row_id)).marks
        assert marks is not None
        around = await OneRow.of(keeper.store).rows_around(marks, leave_out=left_out, edits_only=False)
        before = place(around, edited=marks.edited, backfilling=False, rows_per_s=None).before
        selected = [row.id for row in await keeper.sweep(leave_out=left_out, limit=before + 2)]
        assert row_id in selected
        earlier = [row.id for row in await keeper.sweep(leave_out=left_out, limit=max(0, before - 1))]
        assert row_id not in earlier


async def test_only_edited_rows_come_before_one_while_a_backfill_embeds_the_others(
    businesses: Application, keep: Keep
) -> None:
    add(businesses, 10)
    keeper, _ = await keep()
    await keeper.audit()
    add(businesses, 3)
    marks = (await facts(keeper, "12")).marks
    assert marks is not None
    for edits_only, older in ((False, 11), (True, 1)):
        around = await OneRow.of(keeper.store).rows_around(marks, leave_out=[], edits_only=edits_only)
        assert (around.older, around.newer, around.more_older, around.more_newer) == (older, 1, False, False)


async def test_a_row_with_several_marks_counts_once(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    add(businesses, 2)
    for number in range(5):
        businesses.run("UPDATE businesses SET name = %s WHERE id = 1", f"edit {number}")
    marks = (await facts(keeper, "2")).marks
    assert marks is not None
    around = await OneRow.of(keeper.store).rows_around(marks, leave_out=["none", "1\x00"], edits_only=False)
    assert (around.older, around.newer) == (1, 1)


async def test_no_more_marks_are_counted_than_a_person_waits_for(
    businesses: Application, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedding_worker.rows.one_row.COUNTED", 3)
    keeper, _ = await keep()
    add(businesses, 10)
    marks = (await facts(keeper, "10")).marks
    assert marks is not None
    around = await OneRow.of(keeper.store).rows_around(marks, leave_out=[], edits_only=False)
    assert (around.older, around.newer, around.more_older, around.more_newer) == (3, 0, True, False)
