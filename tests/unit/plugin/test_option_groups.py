"""A verb's parameter whose type is a dataclass stands for an option for each of its fields."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from kubectl_embeddings.option_groups import with_option_groups


@dataclass(frozen=True)
class Where:
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None
    context: Annotated[str, typer.Option("--context")] = "current"


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def verb(where: Where, name: str = "none", loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
        """Says what it was given."""
        typer.echo(f"{where.namespace} {where.context} {name} {loud}")

    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output.strip()


def test_the_fields_are_options_beside_the_verbs_own() -> None:
    assert run("-n", "shops", "--name", "a", "--loud") == (0, "shops current a True")


def test_a_field_that_is_not_given_has_its_default() -> None:
    assert run() == (0, "None current none False")


def test_an_unknown_option_is_a_wrong_use() -> None:
    assert run("--nowhere")[0] == 2
