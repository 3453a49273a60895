"""docs/migrations.md: columns that a text reads are altered, dropped and renamed while the operator runs."""

import re
import shlex

import pytest

from hack.installation.operator_process import OperatorProcess
from hack.repository import ROOT
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.documented_sql import sql_blocks

PAGE = (ROOT / "docs" / "migrations.md").read_text()
ALTER, DROP = sql_blocks(PAGE, "Columns that text reads")
(PATCH,) = re.findall(r"^    kubectl (patch embeddingsource .*)$", PAGE, re.MULTILINE)
NEW_TEXT = "concat_ws(' ', name, city)"
BEFORE = "concat_ws(' ', name, description, array_to_string(categories, ' '), city)"


def approve(system: System) -> None:
    """As `kubectl embeddings approve` does it, and until the change is in force."""
    pending = wait_until(
        lambda: system.source()["status"].get("pendingFingerprint"), within_s=60, because="the text has changed"
    )
    system.kubectl.run(
        "patch",
        "embeddingsource",
        "businesses",
        "--type=merge",
        f'--patch={{"spec": {{"approvedFingerprint": "{pending}"}}}}',
    )
    system.wait_for_condition("ReembedRequired", "False", within_s=60)


def edit_and_wait(system: System, name: str, text: str) -> None:
    """The application edits a row, and its vector follows."""
    system.book.run("UPDATE public.businesses SET name = %s WHERE id = 1", name)
    wait_until(
        lambda: system.book.outdated_rows(text) == [], within_s=60, every_s=0.2, because=f"the row has the name {name}"
    )


def refused(operator: OperatorProcess) -> bool:
    """Whether the source was ever stalled because of its text."""
    return "TextRefused" in operator.log.read_text()


@pytest.mark.timeout(600)
def test_columns_that_the_text_reads_are_altered_dropped_and_renamed_while_the_operator_runs(system: System) -> None:
    system.book.add(5)
    system.apply_source()
    operator = system.start_operator()
    system.wait_until_fresh()

    system.book.run(ALTER.split(";")[1])
    edit_and_wait(system, "After the type", BEFORE)

    system.kubectl.run(*shlex.split(PATCH))
    approve(system)
    system.book.run(DROP.split(";")[1])
    edit_and_wait(system, "After the column", NEW_TEXT)
    assert not refused(operator)

    system.book.run("ALTER TABLE public.businesses RENAME COLUMN city TO town")
    system.book.run("UPDATE public.businesses SET name = 'Meanwhile' WHERE id = 2")
    wait_until(lambda: refused(operator), within_s=60, because="the text names a column that is gone")
    vectors = "SELECT id, xmin::text FROM public.businesses WHERE id > 2 ORDER BY id"
    before = system.book.run(vectors)
    renamed = NEW_TEXT.replace("city", "town")
    system.kubectl.run(*(argument.replace("city", "town") for argument in shlex.split(PATCH)))
    approve(system)
    edit_and_wait(system, "After the name", renamed)
    assert system.book.run(vectors) == before, "the texts of these rows are the same"
