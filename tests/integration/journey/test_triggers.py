"""The triggers of a source that runs: they go with the source, can be paused, and belong to one source only."""

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from hack.cluster_choice.choice import Cluster
from hack.installation.kubectl import Kubectl
from hack.installation.operator_process import OperatorProcess
from hack.installation.prerequisites import temporary_namespace
from hack.processes.environment import program_environment
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.resource_reader import ResourceReader
from tests.support.rights import wait_until_granted

PROGRAM = Path(sys.executable).with_name("embedding-operator")
TRIGGERS = """
SELECT tgname::text FROM pg_trigger WHERE tgrelid = 'public.businesses'::regclass AND NOT tgisinternal ORDER BY 1
"""
LATER = "UPDATE embedding_operator.sources SET owner_seen_at = owner_seen_at - interval '2 minutes'"


def fresh_system(system: System) -> System:
    system.book.add(5)
    system.apply_source()
    system.start_operator()
    system.wait_until_fresh()
    return system


def wait_for_triggers(system: System, count: int, *, within_s: float = 60) -> None:
    wait_until(
        lambda: len(system.book.run(TRIGGERS)) == count,
        within_s=within_s,
        every_s=0.1,
        because=f"the table has {count} triggers",
    )


def wait_for_stalled(system: System, reason: str) -> str:
    return str(system.wait_for_condition("Stalled", reason, within_s=60)["message"])


def command(system: System, *arguments: str) -> "subprocess.CompletedProcess[str]":
    settings = {"KUBECONFIG": str(system.kubeconfig), "DATABASE_URL": system.database_url}
    return subprocess.run(
        [PROGRAM, *arguments],
        env=program_environment() | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_deleted_sources_triggers_go_and_one_made_again_at_once_embeds_nothing_again(system: System) -> None:
    fresh_system(system)
    vectors = system.book.run("SELECT id, xmin::text FROM public.businesses ORDER BY id")
    system.kubectl.run("delete", "embeddingsource", "businesses")
    wait_for_triggers(system, 0)
    system.apply_source()
    wait_for_triggers(system, 2)
    system.wait_until_fresh()
    assert system.book.run("SELECT id, xmin::text FROM public.businesses ORDER BY id") == vectors


def test_the_triggers_of_a_source_that_was_deleted_without_an_operator_go_at_the_next_start(system: System) -> None:
    system.book.add(1)
    system.apply_source()
    operator = system.start_operator()
    system.wait_until_fresh()
    operator.stop()
    system.kubectl.run("delete", "embeddingsource", "businesses")
    assert len(system.book.run(TRIGGERS)) == 2
    system.book.run(LATER)
    system.start_operator()
    wait_for_triggers(system, 0)


def test_triggers_that_may_not_be_dropped_are_told_with_their_sql_in_an_event(system: System) -> None:
    fresh_system(system)
    (function,) = system.book.run("SELECT oid::regproc::text FROM pg_proc WHERE proname LIKE %s", "%_mark")[0]
    (role,) = system.book.run("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'embedding_operator'")[
        0
    ]
    system.book.run(f"ALTER FUNCTION {function}() OWNER TO CURRENT_USER")
    system.book.run("ALTER SCHEMA embedding_operator OWNER TO CURRENT_USER")
    system.book.run(f"GRANT USAGE ON SCHEMA embedding_operator TO {role}")
    system.kubectl.run("delete", "embeddingsource", "businesses")

    def note() -> str | None:
        found = json.loads(system.kubectl.run("get", "events.events.k8s.io", "--output=json"))["items"]
        return next((event["note"] for event in found if event["reason"] == "TriggersLeft"), None)

    sql = str(wait_until(note, within_s=60, because="the triggers stay")).split(" run ")[1]
    system.book.run(sql)
    wait_for_triggers(system, 0)


def test_a_source_whose_id_column_was_renamed_says_that_edits_are_not_recorded(system: System) -> None:
    fresh_system(system)
    system.book.run("ALTER TABLE public.businesses RENAME COLUMN id TO key")
    message = wait_for_stalled(system, "ColumnMissing")
    assert message.endswith("(edits are not recorded meanwhile; the next audit finds them)")
    system.book.run("UPDATE public.businesses SET name = 'edited meanwhile' WHERE key = 3")
    system.book.run("ALTER TABLE public.businesses RENAME COLUMN key TO id")
    wait_until(lambda: system.book.outdated_rows() == [], within_s=60, every_s=0.2, because="the audit finds the edit")


@pytest.mark.timeout(400)
def test_paused_triggers_are_in_the_status_and_after_they_are_resumed_the_audit_finds_the_edits(
    system: System,
) -> None:
    fresh_system(system)
    printed = command(system, "pause-triggers", "businesses", "--dry-run")
    assert (printed.returncode, len(system.book.run(TRIGGERS))) == (0, 2)
    paused = command(system, "pause-triggers", "businesses")
    assert (paused.returncode, system.book.run(TRIGGERS)) == (0, []), paused.stdout
    wait_until(
        lambda: "triggers are paused since" in system.condition("Ready")["message"],
        within_s=90,
        because="the operator notices the pause",
    )
    assert system.book.run(TRIGGERS) == []
    system.book.run("UPDATE public.businesses SET name = 'while paused' WHERE id = 2")
    printed = command(system, "resume-triggers", "businesses", "--dry-run")
    assert (printed.returncode, system.book.run(TRIGGERS)) == (0, [])
    resumed = command(system, "resume-triggers", "businesses")
    assert (resumed.returncode, len(system.book.run(TRIGGERS))) == (0, 2), resumed.stdout
    wait_until(
        lambda: "paused" not in system.condition("Ready")["message"] and system.book.outdated_rows() == [],
        within_s=90,
        every_s=0.2,
        because="the audit finds the edit",
    )


def test_the_printed_sql_pauses_and_resumes_too(system: System) -> None:
    fresh_system(system)
    for name, count in (("pause-triggers", 0), ("resume-triggers", 2)):
        printed = command(system, name, "businesses", "--dry-run")
        system.book.run(f'SET ROLE "{system.database_url.split("//")[1].split(":")[0]}"; {printed.stdout}')
        assert len(system.book.run(TRIGGERS)) == count


@pytest.mark.parametrize("name", ["pause-triggers", "resume-triggers"])
def test_a_source_that_does_not_exist_is_named(system: System, name: str) -> None:
    system.apply_source()
    wait_until_granted(system.kubectl, "list", "embeddingsources.embeddings.yellowbook.dev")
    done = command(system, name, "shops")
    assert done.returncode == 1
    assert "has no EmbeddingSource shops: there is businesses" in done.stdout


@pytest.mark.timeout(400)
def test_a_second_release_on_the_same_table_is_refused_until_it_takes_over(system: System, cluster: Cluster) -> None:
    fresh_system(system)
    namespace = f"test-{secrets.token_hex(4)}"
    folder = system.folder / "second"
    folder.mkdir()
    with temporary_namespace(cluster, namespace, folder) as kubeconfig:
        second = System(
            Kubectl(cluster, namespace),
            ResourceReader(cluster, namespace),
            system.book,
            kubeconfig,
            system.database_url,
            folder,
            system.stack,
        )
        second.apply_source()
        operator = OperatorProcess(kubeconfig=kubeconfig, database_url=system.database_url, folder=folder)
        operator.start()
        try:
            message = wait_for_stalled(second, "OwnedElsewhere")
            annotation = message.split("annotate this one with ")[1]
            assert system.condition("Ready")["status"] == "True"
            second.kubectl.run("annotate", "embeddingsource", "businesses", annotation)
            second.wait_for_condition("Ready", "True", within_s=60)
            taken = wait_for_stalled(system, "OwnedElsewhere")
            assert f"in namespace {namespace}" in taken
            system.book.run("UPDATE public.businesses SET name = 'of the second' WHERE id = 1")
            second.wait_until_fresh()
            assert [job["spec"]["businessId"] for job in second.jobs()] == ["1"]
        finally:
            operator.stop()
