"""The rights of the operator's account: the single ones of the rules in a Role, and when they are in force. Called by tests."""

from collections.abc import Iterator

import yaml

from hack.installation.kubectl import Kubectl
from hack.installation.prerequisites import ACCOUNT
from hack.repository import RULES
from tests.support.deadline import wait_until
from tests.support.manifests import Json

EVENTS, LEASES = "events.k8s.io", "coordination.k8s.io"
Rule = tuple[str, str, str]
"""Verb, API group, and resource with its subresource, as in a Role."""


def single_rules(rules: list[Json]) -> Iterator[Rule]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                names = rule.get("resourceNames") or [""]
                for verb in rule["verbs"]:
                    yield from ((verb, group, f"{resource}{'#' if name else ''}{name}") for name in names)


def wait_until_granted(kubectl: Kubectl, verb: str, resource: str) -> None:
    """Wait until the operator's account has this right in the namespace: a Role is in force shortly after it was written."""
    account = f"system:serviceaccount:{kubectl.namespace}:{ACCOUNT}"
    asked = ("auth", "can-i", verb, resource, "--as", account)
    wait_until(lambda: kubectl.try_run(*asked).returncode == 0, within_s=60, because="the account's Role was written")


GRANTED = sorted(single_rules(yaml.safe_load(RULES.read_text())))
