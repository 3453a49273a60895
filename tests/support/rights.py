"""The single rights of the rules in a Role. Called by the tests of the rights of the operator's account."""

from collections.abc import Iterator

import yaml

from hack.repository import RULES
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


GRANTED = sorted(single_rules(yaml.safe_load(RULES.read_text())))
