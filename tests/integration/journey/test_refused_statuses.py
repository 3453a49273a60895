"""Status patches that the API server refuses: the job stays open, and is finished when the refusal ends."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from hack.provider_server.process import FakeGemini
from tests.integration.journey.conftest import System
from tests.support.deadline import wait_until
from tests.support.json_log import json_lines


@contextmanager
def refuse_statuses(system: System, business_id: int) -> Iterator[None]:
    """Have an admission policy refuse every status of the jobs of this business while the context lasts."""
    name = f"refuse-{system.kubectl.namespace}"
    resources = {
        "apiGroups": ["embeddings.yellowbook.dev"],
        "apiVersions": ["*"],
        "resources": ["embeddingjobs/status"],
    }
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [resources | {"operations": ["UPDATE"]}]},
            "validations": [
                {"expression": f"object.spec.businessId != '{business_id}'", "message": "refused by the test"}
            ],
        },
    }
    selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": system.kubectl.namespace}}}
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": selector},
    }
    system.kubectl.run("apply", "-f", "-", stdin=yaml.safe_dump_all([policy, binding]))
    try:
        yield
    finally:
        system.kubectl.run("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def policy_is_enforced(system: System, job: str) -> bool:
    patch = json.dumps({"status": {"message": "any"}})
    done = system.kubectl.try_run("patch", "embeddingjob", job, "--subresource=status", "--type=merge", "-p", patch)
    return done.returncode != 0 and "refused by the test" in done.stderr


def create_job(system: System, business_id: str, name: str = "by-hand") -> None:
    """Create a job as a person with kubectl would."""
    spec = {
        "sourceRef": {"name": "businesses"},
        "businessId": business_id,
        "contentHash": "0" * 64,
        "fingerprint": "any@8",
    }
    manifest = {
        "apiVersion": "embeddings.yellowbook.dev/v1alpha1",
        "kind": "EmbeddingJob",
        "metadata": {"name": name},
        "spec": spec,
    }
    system.kubectl.run("create", "-f", "-", stdin=yaml.safe_dump(manifest))


@pytest.mark.timeout(400)
def test_a_job_whose_status_is_refused_stays_open_and_succeeds_when_the_policy_is_deleted(
    system: System, gemini: FakeGemini
) -> None:
    system.book.add(5)
    with refuse_statuses(system, business_id=3):
        create_job(system, "3", "probe")
        wait_until(
            lambda: policy_is_enforced(system, "probe"), within_s=60, every_s=0.2, because="the policy was created"
        )
        system.kubectl.run("delete", "embeddingjob", "probe")
        operator = system.start_with_gemini(gemini)
        wait_until(
            lambda: system.book.outdated_rows() == [],
            within_s=60,
            because="a vector is written before the status of its job",
        )
        wait_until(
            lambda: "status of a job refused" in operator.log.read_text(),
            within_s=30,
            because="the policy refuses the status",
        )
        assert system.job(3)["status"]["phase"] == "Pending"
    system.wait_for_phase(3, "Succeeded", within_s=90)
    assert gemini.stats().texts == 5, "the row was embedded once"


def test_a_refused_status_does_not_delay_the_end_of_the_process(system: System, gemini: FakeGemini) -> None:
    system.book.add(1)
    with refuse_statuses(system, business_id=1):
        create_job(system, "1", "probe")
        wait_until(
            lambda: policy_is_enforced(system, "probe"), within_s=60, every_s=0.2, because="the policy was created"
        )
        system.kubectl.run("delete", "embeddingjob", "probe")
        operator = system.start_with_gemini(gemini)
        wait_until(
            lambda: "status of a job refused" in operator.log.read_text(),
            within_s=30,
            because="the policy refuses the status",
        )
        operator.stop()
    (drained,) = [line for line in json_lines(operator.log) if line["event"] == "drained"]
    assert drained["left"] == 0
    assert drained["took_s"] < 5


def test_a_job_with_an_impossible_id_is_superseded_and_affects_no_other_row(system: System) -> None:
    system.book.add(2)
    system.apply_source()
    system.start_operator()
    system.wait_until_fresh()
    create_job(system, "no-number")
    ended = wait_until(
        lambda: (job := system.job("no-number"))["status"]["phase"] == "Superseded" and job,
        within_s=30,
        every_s=0.1,
        because="an id of the table is a number",
    )
    assert ended["status"]["reason"] == "IdInvalid"
    assert "'no-number'" in ended["status"]["message"]
    assert "bigint" in ended["status"]["message"]
    system.book.run("UPDATE public.businesses SET name = name || ' & Co'")
    system.wait_until_fresh()
    assert system.condition("Stalled")["status"] == "False"
