"""`kubectl embeddings remove`: the SQL that removes what the operator has created in the database for one source.

Called by source_verbs.py. Prints a script for psql, and runs nothing: neither in the database nor in the cluster.
"""

from pydantic import ValidationError

from embedding_operator.resources.embedding_source import parse_source
from embedding_worker.rows.removal import drop_vectors, remove_bookkeeping
from embedding_worker.source import TableColumn
from kubectl_embeddings.cluster import Json, Requests
from kubectl_embeddings.failures import DONE, CommandFailed
from kubectl_embeddings.layout import Screen
from kubectl_embeddings.shown_commands import BARE, Commands
from kubectl_embeddings.views import source_of


async def show_removal(cluster: Requests, name: str, screen: Screen) -> int:
    """Raises NotFound, and CommandFailed where another source owns the book-keeping or uses the same column."""
    body = await cluster.source(name)
    at = column_of(body)
    if is_owned_elsewhere(body):
        raise CommandFailed(
            f"the book-keeping of {at}.{at.embedding_column} belongs to another source than {name}, which its condition Stalled "
            f"names: delete {name} with `{cluster.commands.of(f'kubectl delete esrc {name}')}`, and leave "
            "the database as it is"
        )
    sharing = [other for other in await cluster.sources() if _name(other) != name and _same(other, at)]
    if sharing:
        raise CommandFailed(
            f"EmbeddingSource {', '.join(map(_name, sharing))} is of the same column, {at}.{at.embedding_column}, and shares its "
            f"book-keeping: delete {name} with `{cluster.commands.of(f'kubectl delete esrc {name}')}`, and leave "
            "the database as it is"
        )
    screen.emit(script(at, name, cluster.namespace, body["metadata"]["uid"], cluster.commands))
    return DONE


def column_of(body: Json) -> TableColumn:
    """Raises CommandFailed."""
    try:
        return parse_source(body).spec.config().at
    except ValidationError as exc:
        raise CommandFailed(
            f"EmbeddingSource {_name(body)} can't be understood, its CRD is of another version: use that version's command"
        ) from exc


def is_owned_elsewhere(body: Json) -> bool:
    stalled = source_of(body).conditions.get("Stalled")
    return stalled is not None and stalled.status is True and stalled.reason == "OwnedElsewhere"


def script(at: TableColumn, source: str, namespace: str, uid: str, commands: Commands = BARE) -> str:
    """What to do in which order, as comments of SQL, and the SQL. It begins when the source is deleted."""
    return "\n".join(
        [
            "-- 1. First delete the source. The operator stops its work, and drops the",
            "--    triggers within seconds:",
            *_commented(commands.of(f"kubectl delete esrc {source} --namespace {namespace}")),
            "-- 2. Then run this as the operator's role, or as a superuser; again, if a lock",
            "--    is not free within 2 s:",
            *(f"{statement};" for statement in remove_bookkeeping(at, uid)),
            "-- 3. The vectors remain, and the rights of the operator's role. To drop the",
            "--    vectors too, run this as the owner of the table:",
            *_commented(f"{drop_vectors(at)};"),
        ]
    )


def _commented(sql: str) -> list[str]:
    """No name of a table, whatever its characters are, ends the comment."""
    return [f"--      {line}" for line in sql.splitlines()]


def _name(body: Json) -> str:
    return str(body["metadata"]["name"])


def _same(body: Json, at: TableColumn) -> bool:
    spec = body.get("spec") or {}
    return (spec.get("table"), spec.get("embeddingColumn", "embedding")) == (str(at), at.embedding_column)
