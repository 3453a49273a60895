"""The rights that the operator checks are those that the chart grants: neither more nor less."""

from pathlib import Path

import yaml

from embedding_operator.rights import RIGHTS, Right

RULES = Path(__file__).parents[3] / "charts" / "embedding-operator" / "files" / "rules.yaml"


def test_the_rights_that_are_checked_are_those_of_the_chart() -> None:
    granted = [
        Right(verb, group, resource)
        for rule in yaml.safe_load(RULES.read_text())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert sorted(RIGHTS) == sorted(granted)
