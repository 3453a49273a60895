"""`embedding-operator plan`: what a source would embed, how long it takes, and what limits it. Calls no model, writes nothing.

Called by commands.py, for a manifest or for a source that exists. plan_facts.py reads the facts, and plan_lines.py decides what
is said of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TextIO

import yaml
from pydantic import ValidationError

from embedding_operator.api_errors import ApiServerError
from embedding_operator.cli.manifest_fields import unknown_fields
from embedding_operator.cli.plan_facts import read_plan_facts
from embedding_operator.cli.plan_lines import plan_table
from embedding_operator.cli.plan_values import Rates
from embedding_operator.cli.trigger_commands import CommandFailed, find_source
from embedding_operator.resources.embedding_source import EmbeddingSource, parse_source
from embedding_operator.settings import Settings
from embedding_worker.errors import EmbeddingError
from embedding_worker.rows.database import Database

Emit = Callable[[str], None]


async def plan_manifest(settings: Settings, manifest: TextIO, rates: Rates, emit: Emit) -> int:
    """Emit the plan of each EmbeddingSource of a manifest. Needs no API server. Returns the exit code."""
    try:
        sources = list(sources_of(manifest))
    except CommandFailed as exc:
        return _failed(emit, str(exc))
    return await _plan_each(settings, sources, rates, emit)


async def plan_source(settings: Settings, name: str, rates: Rates, emit: Emit) -> int:
    """Emit the plan of a source that exists. Returns the exit code."""
    try:
        source = await find_source(settings, name)
    except (CommandFailed, ApiServerError) as exc:
        return _failed(emit, str(exc))
    return await _plan_each(settings, [source], rates, emit)


def sources_of(manifest: TextIO) -> Iterator[EmbeddingSource]:
    """The sources that it declares. Raises CommandFailed if it declares none, or one that is not understood."""
    try:
        documents = list(yaml.safe_load_all(manifest))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise CommandFailed(f"{manifest.name} is no YAML: {' '.join(str(exc).split())}") from exc
    bodies = [body for body in documents if isinstance(body, dict) and body.get("kind") == "EmbeddingSource"]
    if not bodies:
        raise CommandFailed(f"{manifest.name} declares no EmbeddingSource: name the file that does")
    for body in bodies:
        yield _parsed(manifest.name, body)


def _parsed(file: str, body: Mapping[str, Any]) -> EmbeddingSource:
    if unknown := unknown_fields(body):
        raise CommandFailed(f"{file} declares an EmbeddingSource that is not valid: {'; '.join(unknown)}")
    try:
        return parse_source(body)
    except ValidationError as exc:
        problems = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors(include_input=False)]
        raise CommandFailed(f"{file} declares an EmbeddingSource that is not valid: {'; '.join(problems)}") from exc


async def _plan_each(settings: Settings, sources: Sequence[EmbeddingSource], rates: Rates, emit: Emit) -> int:
    exit_code = 0
    async with Database(settings.database_url.get_secret_value(), max_connections=1) as database:
        for source in sources:
            try:
                price = source.spec.price(settings.price_per_million_tokens)
                facts = await read_plan_facts(database, source, rates, settings.credentials(), price=price)
            except EmbeddingError as exc:
                exit_code = _failed(emit, f"source {source.name}: {exc}")
            else:
                emit(plan_table(facts))
    return exit_code


def _failed(emit: Emit, message: str) -> int:
    emit(f"✗ {message}")
    return 1
