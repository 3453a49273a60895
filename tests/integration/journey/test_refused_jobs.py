"""Jobs that the API server refuses to create: said once, few requests, and all goes on by itself when the cause is removed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until

ADMISSION = "admissionregistration.k8s.io/v1"
JOBS = {"apiGroups": ["embeddings.yellowbook.dev"], "apiVersions": ["*"], "resources": ["embeddingjobs"]}
GOES_ON_WITHIN_S = 40
"""An idle machine needs ten seconds at most, and other tests run at the same time. Jobs are listed again after a minute only."""
KINDS = "validatingadmissionpolicybinding,validatingadmissionpolicy,validatingwebhookconfiguration"


def of_namespace(system: System) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system.kubectl.namespace}}}


def policy(system: System, name: str, expression: str) -> list[dict[str, Any]]:
    spec = {
        "matchConstraints": {"resourceRules": [JOBS | {"operations": ["CREATE"]}]},
        "validations": [{"expression": expression, "message": "denied by the test"}],
    }
    bound = {"policyName": name, "validationActions": ["Deny"], "matchResources": of_namespace(system)}
    return [
        {"apiVersion": ADMISSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {
            "apiVersion": ADMISSION,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": bound,
        },
    ]


def denies_all(system: System, name: str) -> list[dict[str, Any]]:
    return policy(system, name, "false")


def denies_some(system: System, name: str) -> list[dict[str, Any]]:
    return policy(system, name, "int(object.spec.businessId) % 4 != 0")


def dead_webhook(system: System, name: str) -> list[dict[str, Any]]:
    webhook = {
        "name": "dead.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [JOBS | {"operations": ["CREATE"]}],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **of_namespace(system),
    }
    kind = "ValidatingWebhookConfiguration"
    return [{"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}, "webhooks": [webhook]}]


@contextmanager
def applied(system: System, make: Callable[[System, str], list[dict[str, Any]]]) -> Iterator[None]:
    name = f"deny-{system.kubectl.namespace}"
    system.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump_all(make(system, name)))
    try:
        wait_until(lambda: is_denied(system), within_s=60, every_s=0.2, because="it was created")
        yield
    finally:
        system.kubectl.run("delete", KINDS, name, "--ignore-not-found")


def is_denied(system: System) -> bool:
    """Whether a create by hand is refused now. Nothing is created otherwise."""
    spec = {"sourceRef": {"name": "none"}, "businessId": "4", "contentHash": "0" * 64, "fingerprint": "any@8"}
    manifest = {
        "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
        "kind": "EmbeddingJob",
        "metadata": {"name": "probe"},
        "spec": spec,
    }
    done = system.kubectl.try_run("create", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(manifest))
    return done.returncode != 0


def is_stalled(system: System) -> Any:
    stalled = system.condition("Stalled")
    return stalled if stalled and stalled["status"] == "True" else None


def refused_lines(log: str) -> int:
    return log.count('"jobs refused"')


@pytest.mark.parametrize(
    ("make", "said"),
    [(denies_all, "denied by the test"), (dead_webhook, "failed calling webhook")],
)
def test_refused_jobs_are_said_once_and_created_soon_after_the_cause_is_removed(
    system: System, gemini: FakeGemini, make: Callable[[System, str], list[dict[str, Any]]], said: str
) -> None:
    with applied(system, make):
        system.book.add(40)
        operator = system.start_with_gemini(gemini)
        stalled = wait_until(lambda: is_stalled(system), within_s=60, every_s=0.2, because="jobs are refused")
        assert (stalled["reason"], said in stalled["message"]) == ("JobsRefused", True)
        assert system.condition("Ready")["status"] == "False"
        began, lines = time.monotonic(), refused_lines(operator.log.read_text())

        def a_while() -> bool:
            assert is_stalled(system), system.source()["status"]
            return time.monotonic() - began > 12

        wait_until(a_while, within_s=60, every_s=0.5, because="it stays so")
        assert refused_lines(operator.log.read_text()) - lines <= 2 + (time.monotonic() - began) / 5
        system.book.add(3, prefix="While jobs are refused")
        counted = "the rows are counted meanwhile"
        wait_until(lambda: system.source()["status"]["rows"]["total"] == 43, within_s=30, every_s=0.2, because=counted)
        assert int(system.source()["status"]["rows"]["due"]) > 0
    system.wait_until_fresh(within_s=GOES_ON_WITHIN_S)
    wait_until(lambda: not is_stalled(system), within_s=30, every_s=0.2, because="jobs are created again")
    selector = "--field-selector=involvedObject.kind=EmbeddingSource"
    reasons = [event["reason"] for event in system.kubectl.get("events", selector)["items"]]
    assert reasons.count("JobsRefused") == 1
    operator.stop()


@pytest.mark.timeout(300)
def test_rows_that_a_policy_denies_stop_no_others_and_get_their_jobs_when_it_is_gone(
    system: System, gemini: FakeGemini
) -> None:
    with applied(system, denies_some):
        system.book.add(40)
        system.start_with_gemini(gemini)
        wait_until(
            lambda: system.book.outdated_rows() == [4 * n for n in range(1, 11)],
            within_s=60,
            every_s=0.5,
            because="the other rows get their jobs",
        )
        system.wait_for_condition("Fresh", "False")
        assert not is_stalled(system)
    wait_until(lambda: system.book.outdated_rows() == [], within_s=90, every_s=0.5, because="the policy is gone")
