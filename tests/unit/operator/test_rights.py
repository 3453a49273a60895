"""The rights that the operator checks are those that the chart grants: neither more nor less."""

from pathlib import Path

import pytest
import yaml

from embedding_operator.rights import RIGHTS, WORKER_RIGHTS, Right

FILES = Path(__file__).parents[3] / "charts" / "embedding-operator" / "files"


@pytest.mark.parametrize(("file", "rights"), [("rules.yaml", RIGHTS), ("workers-rules.yaml", WORKER_RIGHTS)])
def test_the_rights_that_are_checked_are_those_of_the_chart(file: str, rights: tuple[Right, ...]) -> None:
    granted = [
        Right(verb, group, resource, name)
        for rule in yaml.safe_load((FILES / file).read_text())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    ]
    assert sorted(rights) == sorted(granted)
