"""The statements of docs/gitops.md about drift, with a real API server: which changes are differences, and which are not."""

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hack.installation.kubectl import Kubectl
from hack.repository import CRDS
from tests.support.manifests import Json, a_source, example_source, merged
from tests.support.source_states import SWEEPING, shown

APPLY_FLAGS = [[], ["--server-side", "--field-manager=argocd-controller"]]
both_ways = pytest.mark.parametrize("flags", APPLY_FLAGS, ids=["client-side", "server-side"])


@pytest.fixture
def source() -> Json:
    return a_source(f"n{secrets.token_hex(4)}", retry={"maxAttempts": 3})


def apply(kubectl: Kubectl, document: Json, flags: list[str]) -> None:
    kubectl.run("apply", *flags, "-f", "-", stdin=yaml.safe_dump(document))


def difference(kubectl: Kubectl, document: Json, flags: list[str]) -> str:
    """What the next sync would change; empty if the object is in sync."""
    done = kubectl.try_run("diff", *flags, "-f", "-", stdin=yaml.safe_dump(document))
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def write_status(kubectl: Kubectl, name: str) -> None:
    status = yaml.safe_dump({"status": shown(replace(SWEEPING, generation=1))})
    kubectl.run("patch", "embeddingsource", name, "--subresource=status", "--type=merge", "-p", status)


@both_ways
def test_defaults_and_the_operators_status_are_no_difference(kubectl: Kubectl, source: Json, flags: list[str]) -> None:
    for document in (source, merged(example_source(), {"metadata": {"name": f"{source['metadata']['name']}-e"}})):
        apply(kubectl, document, flags)
        write_status(kubectl, document["metadata"]["name"])
        assert difference(kubectl, document, flags) == ""


@both_ways
def test_an_edit_in_git_is_a_difference(kubectl: Kubectl, source: Json, flags: list[str]) -> None:
    apply(kubectl, source, flags)
    assert "+    textsPerDay: 5" in difference(kubectl, merged(source, {"spec": {"limits": {"textsPerDay": 5}}}), flags)


@both_ways
def test_a_manual_suspension_stays_if_git_does_not_set_suspend(
    kubectl: Kubectl, source: Json, flags: list[str]
) -> None:
    name = source["metadata"]["name"]
    apply(kubectl, source, flags)
    kubectl.run("patch", "esrc", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    assert difference(kubectl, source, flags) == ""
    apply(kubectl, source, flags)
    assert kubectl.get("esrc", name)["spec"]["suspend"] is True


def test_a_manual_suspension_is_a_difference_if_git_sets_suspend(kubectl: Kubectl, source: Json) -> None:
    document = merged(source, {"spec": {"suspend": False}})
    apply(kubectl, document, [])
    kubectl.run("patch", "esrc", source["metadata"]["name"], "--type=merge", "-p", '{"spec":{"suspend":true}}')
    assert "+  suspend: false" in difference(kubectl, document, [])


@both_ways
def test_a_request_to_reconcile_is_no_difference(kubectl: Kubectl, source: Json, flags: list[str]) -> None:
    apply(kubectl, source, flags)
    annotation = "reconcile.embeddings.yellowbook.dev/requestedAt=1"
    kubectl.run("annotate", "esrc", source["metadata"]["name"], annotation)
    assert difference(kubectl, source, flags) == ""


@pytest.mark.parametrize("crd", sorted(CRDS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_api_server_returns_the_crds_as_they_were_applied(kubectl: Kubectl, crd: Path) -> None:
    assert difference(kubectl, yaml.safe_load(crd.read_text()), ["--server-side"]) == ""
