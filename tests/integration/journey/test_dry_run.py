"""`run --dry-run` logs what the operator would do for each due row, and changes nothing."""

from hack.installation.operator_process import OperatorProcess
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines


def test_a_dry_run_logs_each_due_row_once_and_changes_nothing(system: System) -> None:
    system.book.add(7)
    system.book.run("INSERT INTO public.businesses (id, name) VALUES (90, '')")
    before = system.book.run("SELECT id, xmin::text FROM public.businesses ORDER BY id")
    system.apply_source()
    process = OperatorProcess(
        kubeconfig=system.kubeconfig, database_url=system.database_url, folder=system.folder, dry_run=True
    )
    system.stack.callback(process.stop)
    process.start()

    def logged_rows() -> list[dict[str, object]]:
        return [event for event in json_lines(process.log) if event["event"] == "row is due"]

    wait_until(lambda: len(logged_rows()) == 8, within_s=30, because="eight rows are due")
    system.book.run("UPDATE public.businesses SET name = 'Edited meanwhile' WHERE id = 3")
    wait_until(lambda: len(logged_rows()) == 9, within_s=30, because="one of them was edited")
    process.stop()
    assert [event["business"] for event in logged_rows()].count("3") == 2
    assert any("create EmbeddingJob businesses-1-" in str(event["steps"]) for event in logged_rows())
    assert "Business 1" not in process.log.read_text(), "a text is never logged"
    assert system.book.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]
    after = system.book.run("SELECT id, xmin::text FROM public.businesses WHERE id <> 3 ORDER BY id")
    assert after == [row for row in before if row[0] != 3]
    assert system.jobs() == []
    assert system.source()["status"] == {"observedGeneration": -1}, "the CRD's default, which no patch has replaced"
