"""Options that several verbs have in common: a parameter whose type is a dataclass stands for an option for each of its fields.

Applied by app.py to each verb. Typer itself knows one parameter for each option only.
"""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter
from typing import Any

from kubectl_embeddings.given_values import check_given


def with_option_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """The same verb with these fields as its options, in the order in which typer is to show them. It raises WrongUse."""
    parameters = inspect.signature(verb).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in parameters if is_dataclass(one.annotation)}

    def run(**given: Any) -> None:
        check_given(given)
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        verb(**given)

    shown = [option for one in parameters for option in _options(one, groups.get(one.name))]
    run.__name__, run.__doc__ = verb.__name__, verb.__doc__
    run.__annotations__ = {one.name: one.annotation for one in shown}
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    return run


def _options(parameter: Parameter, group: Any) -> list[Parameter]:
    if group is None:
        return [parameter.replace(kind=Parameter.KEYWORD_ONLY)]
    return [_option(field) for field in fields(group)]


def _option(field: Field[Any]) -> Parameter:
    default = Parameter.empty if field.default is MISSING else field.default
    return Parameter(field.name, Parameter.KEYWORD_ONLY, annotation=field.type, default=default)
