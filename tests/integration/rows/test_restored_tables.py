"""A backup that is restored over the table: rows whose vector is of their present text are not sent again, all others are due."""

from dataclasses import dataclass

import pytest

from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle, run, vector_write

LOADS = {
    "with triggers": "SELECT",
    "with triggers disabled": "ALTER TABLE businesses DISABLE TRIGGER ALL",
    "without triggers": "DROP TRIGGER {insert} ON businesses; DROP TRIGGER {update} ON businesses",
}


@dataclass(frozen=True)
class Backup:
    """The content of tables, as `pg_dump --data-only` writes it."""

    tables: dict[str, bytes]

    @classmethod
    def of(cls, application: Application, *tables: str) -> "Backup":
        with application.transaction() as connection, connection.cursor() as cursor:
            found = {}
            for table in tables:
                with cursor.copy(f"COPY {table} TO STDOUT".encode()) as copy:
                    found[table] = b"".join(bytes(part) for part in copy)
            return cls(found)

    def restore(self, application: Application, before: str) -> None:
        with application.transaction() as connection, connection.cursor() as cursor:
            run(connection, before)
            for table, content in self.tables.items():
                run(connection, f"TRUNCATE {table}")
                with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    copy.write(content)


@pytest.fixture
async def kept(businesses: Application, keep: Keep) -> tuple[Keeper, Oracle]:
    keeper, oracle = await keep(text="name")
    businesses.run("INSERT INTO businesses (name) VALUES ('one'), ('two'), ('three'), ('')")
    await keeper.keep()
    return keeper, oracle


@pytest.fixture(params=LOADS)
def load(businesses: Application, kept: tuple[Keeper, Oracle], request: pytest.FixtureRequest) -> str:
    """What is done before the backup is loaded."""
    insert, update = businesses.run(
        "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'businesses'::regclass ORDER BY tgname"
    )
    return LOADS[str(request.param)].format(insert=insert[0], update=update[0])


async def repaired(keeper: Keeper) -> set[str]:
    """The rows that the audit and the sweep find due. They are written, and afterwards nothing is due."""
    await keeper.audit(page=2)
    due = {row.id for row in await keeper.sweep() if not row.up_to_date and not row.gone}
    assert await keeper.keep() == len(due)
    return due


async def test_a_row_that_was_due_when_the_backup_was_made_is_due_again(
    businesses: Application, kept: tuple[Keeper, Oracle], load: str
) -> None:
    """The book-keeping has the hash of its text, but the vector in the backup is of the text before."""
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
    backup = Backup.of(businesses, "businesses")
    assert await keeper.keep() == 1
    backup.restore(businesses, load)
    assert await repaired(keeper) == {"1"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_rows_that_have_been_edited_since_the_backup_are_due(
    businesses: Application, kept: tuple[Keeper, Oracle], load: str
) -> None:
    keeper, oracle = kept
    backup = Backup.of(businesses, "businesses")
    businesses.run("UPDATE businesses SET name = name || ' new' WHERE id IN (2, 4)")
    businesses.run("INSERT INTO businesses (name) VALUES ('five')")
    businesses.run("DELETE FROM businesses WHERE id = 3")
    await keeper.keep()
    backup.restore(businesses, load)
    assert await repaired(keeper) == {"2", "4"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_row_that_was_emptied_when_the_backup_was_made_loses_the_restored_vector(
    businesses: Application, kept: tuple[Keeper, Oracle], load: str
) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = '' WHERE id = 1; UPDATE businesses SET name = 'four' WHERE id = 4")
    backup = Backup.of(businesses, "businesses")
    await keeper.keep()
    backup.restore(businesses, load)
    assert await repaired(keeper) == {"1", "4"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_where_nothing_was_due_and_nothing_has_changed_nothing_is_sent(
    businesses: Application, kept: tuple[Keeper, Oracle], load: str
) -> None:
    keeper, oracle = kept
    Backup.of(businesses, "businesses").restore(businesses, load)
    assert await repaired(keeper) == set()
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_a_backup_with_the_book_keeping_restores_what_was_due(
    businesses: Application, kept: tuple[Keeper, Oracle], load: str
) -> None:
    keeper, oracle = kept
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 1")
    backup = Backup.of(businesses, "businesses", keeper.statements.state, keeper.statements.marks)
    businesses.run("UPDATE businesses SET name = 'later' WHERE id = 2")
    await keeper.keep()
    backup.restore(businesses, load)
    assert await repaired(keeper) == {"1"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_book_keeping_that_is_older_than_the_table_makes_only_the_rows_due_that_it_does_not_know(
    businesses: Application, kept: tuple[Keeper, Oracle]
) -> None:
    keeper, oracle = kept
    backup = Backup.of(businesses, keeper.statements.state)
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id = 1; INSERT INTO businesses (name) VALUES ('five')")
    await keeper.keep()
    backup.restore(businesses, "SELECT")
    assert await repaired(keeper) == {"1", "5"}
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_triggers_that_are_created_again_leave_what_happened_meanwhile_to_the_audit(
    businesses: Application, kept: tuple[Keeper, Oracle], keep: Keep
) -> None:
    _, oracle = kept
    for (name,) in businesses.run(
        "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'businesses'::regclass AND NOT tgisinternal"
    ):
        businesses.run(f"DROP TRIGGER {name} ON businesses")
    businesses.run("UPDATE businesses SET name = 'unseen' WHERE id = 1")
    keeper, oracle = await keep(text="name")
    businesses.run("UPDATE businesses SET name = 'seen' WHERE id = 2")
    assert oracle.marks() == ["2"]
    assert await keeper.audit() == 1
    assert await keeper.keep() == 2
    assert (oracle.wrong(), oracle.marks()) == ([], [])


async def test_of_two_operators_that_write_the_later_one_writes_no_text_that_has_changed(
    businesses: Application, kept: tuple[Keeper, Oracle], keep: Keep
) -> None:
    first, oracle = kept
    second, _ = await keep(text="name")
    businesses.run("UPDATE businesses SET name = 'edited' WHERE id IN (1, 2)")
    late = await second.read(["1", "2"])
    assert await first.keep() == 2
    businesses.run("UPDATE businesses SET name = 'newer' WHERE id = 1")
    assert await second.write([vector_write(row.id, row.text) for row in late.values()]) == {"2"}
    assert oracle.wrong() == ["1"]
    assert {row.id for row in await second.sweep()} == {"1"}
    assert (await first.round(), await second.round()) == ((1, 1), (0, 0))
    assert (oracle.wrong(), oracle.marks(), await second.audit()) == ([], [], 0)


async def test_vectors_that_get_another_type_are_not_sent_again(businesses: Application, keep: Keep) -> None:
    keeper, _ = await keep()
    businesses.run("INSERT INTO businesses (name) SELECT 'name ' || i FROM generate_series(1, 20) i")
    await keeper.keep()
    businesses.run("ALTER TABLE businesses ALTER COLUMN embedding TYPE halfvec(3)")
    keeper, oracle = await keep()
    assert await keeper.audit() == 0
    businesses.run("UPDATE businesses SET embedding = '[9,9,9]' WHERE id = 7")
    assert await keeper.audit() == 1
    assert await keeper.keep() == 1
    assert (oracle.wrong(), oracle.marks()) == ([], [])
