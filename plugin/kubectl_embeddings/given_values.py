"""Checks the arguments of a verb before anything is requested. Pure; called by option_groups.py for each verb.

An empty value is refused, because it is what an unset variable of a script leaves: `--source "$SOURCE"` must not select all.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kubectl_embeddings.failures import WrongUse

LONGEST_NAME, LONGEST_NAMESPACE = 253, 63
LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAMES = frozenset({"name", "names", "source"})
NAMESPACES = frozenset({"namespace", "operator_namespace"})
ARGUMENTS = frozenset({"name", "names", "job_or_row"})
"""Those that have no option."""


def check_given(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant, by the names of the verb's parameters. Raises WrongUse."""
    for parameter, values in given.items():
        for value in values if isinstance(values, Sequence) and not isinstance(values, str) else (values,):
            if isinstance(value, str):
                _check(parameter, value)


def _check(parameter: str, value: str) -> None:
    what = "a name" if parameter in ARGUMENTS else f"--{parameter.replace('_', '-')}"
    if not value:
        raise WrongUse(f"{what} is empty: give it a value, or leave it out")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise WrongUse(f"{what} {value!r} is not written in UTF-8: correct it")
    if parameter in NAMES:
        check_name(value, what)
    if parameter in NAMESPACES:
        check_namespace(value, what)
    if parameter == "job_or_row":
        _check_job_or_row(value)


def _check_job_or_row(value: str) -> None:
    """A job's name, or SOURCE/ID; the id of a row may be anything."""
    name, slash, row_id = value.partition("/")
    if slash and not (name and row_id):
        raise WrongUse(f"{value!r} names no row: write SOURCE/ID")
    check_name(name, "a name")


def check_name(value: str, what: str) -> None:
    """Raises WrongUse for what no object can be named."""
    if not is_name(value):
        raise WrongUse(
            f"{what} {value!r} can't be a name in Kubernetes: these have lower-case letters, digits, '-' and '.', at most "
            f"{LONGEST_NAME} of them"
        )


def check_namespace(value: str, what: str) -> None:
    """Raises WrongUse."""
    if not (re.fullmatch(LABEL, value) and len(value) <= LONGEST_NAMESPACE):
        raise WrongUse(
            f"{what} {value!r} is no name of a namespace: it has lower-case letters, digits and '-', at most "
            f"{LONGEST_NAMESPACE} of them"
        )


def is_name(value: str) -> bool:
    """Whether it is a DNS subdomain as RFC 1123 has it: then it is also safe in a URL."""
    return len(value) <= LONGEST_NAME and re.fullmatch(rf"{LABEL}(\.{LABEL})*", value) is not None
