"""`kubectl embeddings remove` prints the SQL of docs/database.md, for any name, and refuses to where it would remove too much."""

import pytest

from embedding_worker.rows.change_marks import drop_triggers, marking_function
from embedding_worker.rows.removal import remove_bookkeeping
from embedding_worker.source import TableColumn
from hack.repository import ROOT
from kubectl_embeddings.failures import DONE, CommandFailed, NotFound
from kubectl_embeddings.removal_script import script, show_removal
from tests.support.documented_sql import sql_blocks
from tests.support.fake_requests import UID, FakeRequests, Printed, condition, source_body

AT = TableColumn("public", "businesses", "id", "embedding")
PAGE = (ROOT / "docs" / "database.md").read_text()


def sql_of(printed: str) -> list[str]:
    """The lines that psql runs."""
    return [line for line in printed.splitlines() if not line.startswith("--")]


async def test_it_prints_what_the_page_for_administrators_says_and_writes_nothing() -> None:
    cluster, printed = FakeRequests(sources=[source_body("businesses")]), Printed()
    assert await show_removal(cluster, "businesses", printed.screen) == DONE
    assert sql_of(printed.text) == sql_blocks(PAGE, "Remove it")[0].splitlines()
    assert cluster.writes == []


def test_the_order_is_said_and_what_remains() -> None:
    printed = script(AT, "shops", "yellow", UID)
    assert printed.index("kubectl delete esrc shops --namespace yellow") < printed.index("BEGIN;")
    assert printed.endswith('\n--      ALTER TABLE "public"."businesses" DROP COLUMN "embedding";')


def test_the_triggers_are_dropped_as_the_operator_does_it_and_says_it_in_its_event() -> None:
    assert drop_triggers(marking_function(AT.bookkeeping_name)) in remove_bookkeeping(AT, UID)


@pytest.mark.parametrize(
    "name", ['"quoted"', "it's", "two\nlines; DROP TABLE users", "a\r\nDROP TABLE users", "$$x", "日本 \u2028DROP"]
)
def test_no_name_runs_sql_of_its_own(name: str) -> None:
    at = TableColumn("Sch" + name, "Tab" + name, "id", "Col" + name)
    lines = sql_of(script(at, "shops", "yellow", "it's $mark$"))
    expected = "\n".join(f"{statement};" for statement in remove_bookkeeping(at, "it's $mark$"))
    assert lines == expected.split("\n")
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("status", "reason", "refused"),
    [("True", "OwnedElsewhere", True), ("False", "OwnedElsewhere", False), ("True", "TableMissing", False)],
)
async def test_book_keeping_that_another_source_owns_is_not_removed(status: str, reason: str, refused: bool) -> None:
    stalled = condition("Stalled", status, reason, "it belongs to EmbeddingSource new")
    cluster, printed = FakeRequests(sources=[source_body("a", status={"conditions": [stalled]})]), Printed()
    if not refused:
        assert await show_removal(cluster, "a", printed.screen) == DONE
        return
    with pytest.raises(CommandFailed, match=r"public\.businesses\.embedding belongs to another source than a,"):
        await show_removal(cluster, "a", printed.screen)
    assert printed.lines == []


async def test_book_keeping_that_another_source_shares_is_not_removed() -> None:
    cluster = FakeRequests(sources=[source_body("a"), source_body("b"), source_body("c", table="public.other")])
    with pytest.raises(CommandFailed, match=r"EmbeddingSource b is of the same column, public\.businesses\.embedding"):
        await show_removal(cluster, "a", Printed().screen)
    assert await show_removal(cluster, "c", Printed().screen) == DONE


async def test_a_source_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound):
        await show_removal(FakeRequests(), "nowhere", Printed().screen)
