"""Every command that a verb prints to be copied reaches the namespace and the cluster that the user named."""

import re
import subprocess
from datetime import timedelta

import pytest

from embedding_operator.resources.embedding_job import Phase
from hack.processes.environment import program_environment
from kubectl_embeddings.approval import approve
from kubectl_embeddings.dead_letter_groups import Filter, show_dead_letters
from kubectl_embeddings.explanation import explain
from kubectl_embeddings.failures import CommandFailed
from kubectl_embeddings.layout import printable
from kubectl_embeddings.leader import find_leader
from kubectl_embeddings.removal_script import show_removal
from kubectl_embeddings.row_story import explain_row
from kubectl_embeddings.shown_commands import BARE, Commands, quoted
from kubectl_embeddings.source_changes import reconcile
from kubectl_embeddings.status import show_status
from tests.support.fake_clock import START, FakeClock, let_time_pass
from tests.support.fake_requests import FakeRequests, Printed, condition, source_body
from tests.support.jobs import job_body, name_of
from tests.support.manifests import a_source

NAMED = Commands(("--context", "prod eu"), "shops")
FLAGS = "-n shops --context 'prod eu'"
CHANGED = condition("ReembedRequired", "True", "ApprovalNeeded", "2000 rows wait")


class Named(FakeRequests):
    commands = NAMED


def stand() -> Named:
    waits = {"pendingFingerprint": "other@8#1", "conditions": [CHANGED], "jobs": {"deadLettered": 1}}
    sources = [source_body("shops", status=waits, suspend=True), source_body("b"), a_source("new", table="public.new")]
    sources[2]["metadata"]["uid"] = "of-new"
    dead = job_body("1", Phase.DEAD_LETTERED, reason="it's\x1b[31m")
    requests = Named(sources=sources, jobs=[dead, job_body("2", Phase.RETRYING)])
    requests.leads(id="1", row=None, why=[{"reason": "Suspended", "message": "it is suspended"}])
    return requests


async def printed_by_all() -> str:
    cluster, printed, clock = stand(), Printed(), FakeClock()
    await show_status(cluster, (), printed.screen, now=START)
    await show_dead_letters(cluster, Filter(source="shops"), printed.screen, now=START)
    for number in ("1", "2"):
        await explain(cluster, name_of(number), printed.screen, now=START)
    await explain_row(cluster, "shops/1", printed.screen, operator_namespace=None, now=START)
    await approve(cluster, "shops", printed.screen, agreed=lambda: True)
    await let_time_pass(clock, reconcile(cluster, ["b"], printed.screen, wait=timedelta(seconds=1), clock=clock))
    await show_removal(cluster, "new", printed.screen)
    for failing in (show_removal(cluster, "b", printed.screen), find_leader(cluster, "ops")):
        with pytest.raises(CommandFailed) as failed:
            await failing
        printed.lines.append(str(failed.value))
    return printed.text


async def test_every_command_has_what_the_user_gave() -> None:
    commands = re.findall(r"^(?:-- )? {4,6}?(kubectl .*)|`(kubectl .*?)`", await printed_by_all(), re.MULTILINE)
    found = ["".join(one) for one in commands]
    assert len(found) >= 9
    for command in found:
        assert command.endswith(" --context 'prod eu'"), command
        assert re.search(r" (-n|--namespace) (shops|ops) ", command), command


async def test_a_reason_with_control_characters_is_not_written_to_the_terminal() -> None:
    assert "\x1b" not in await printed_by_all()


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "two  spaces",
        "it's",
        "\x1b[31m",
        "a\nkubectl delete ns x",
        "\u202e'\\n",
        "日本\x85",
        "\U000e0041",
        "",
        "$x",
    ],
)
def test_a_copied_value_is_the_same_in_a_shell_and_shows_no_control_characters(value: str) -> None:
    shown = quoted(value)
    assert printable(shown) == shown
    assert "\n" not in shown
    shell = ["bash", "-c", f"printf %s {shown}"]
    given = program_environment() | {"LC_ALL": "C.UTF-8"}
    assert subprocess.run(shell, env=given, capture_output=True, check=True).stdout.decode() == value


@pytest.mark.parametrize(
    ("commands", "namespace", "expected"),
    [
        (BARE, "", "kubectl x"),
        (BARE, "ops", "kubectl x -n ops"),
        (NAMED, "", f"kubectl x {FLAGS}"),
        (NAMED, "ops", "kubectl x -n ops --context 'prod eu'"),
    ],
)
def test_nothing_is_added_that_was_not_given(commands: Commands, namespace: str, expected: str) -> None:
    assert commands.of("kubectl x", namespace) == expected
    assert commands.of("", namespace) == ""


def test_a_command_that_names_its_namespace_keeps_it() -> None:
    assert NAMED.of("kubectl get pods -n ops", "shops") == "kubectl get pods -n ops --context 'prod eu'"
