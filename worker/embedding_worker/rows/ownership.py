"""Decides which EmbeddingSource may use the book-keeping of a table and column, so that two operators never serve the same one.

Pure; schema.py claims the book-keeping with these statements, and watch.py confirms it every few seconds. `sources.owner` names
the owner as JSON, and `sources.owner_seen_at` is the time at which it was last confirmed; null if the owner was deleted.
"""

import json
from dataclasses import asdict, dataclass, field, fields

from embedding_worker.errors import SourceRefused
from embedding_worker.rows.derived_table import SCHEMA
from embedding_worker.source import TableColumn

TAKE_OVER_ANNOTATION = "embeddings.yellowbook.dev/take-over-from"
UNSEEN_AFTER_S = 60.0
"""An owner that was not confirmed for so long has ended, if it has the same cluster, namespace and name."""

# The columns that an earlier version has not created are null.
OWNER_ON_RECORD = f"""
SELECT to_jsonb(s) ->> 'owner', extract(epoch FROM now() - (to_jsonb(s) ->> 'owner_seen_at')::timestamptz)::float8,
       coalesce((to_jsonb(s) ->> 'owner_changes')::bigint, 0)
FROM {SCHEMA}.sources s WHERE s.bookkeeping = $1
"""
OWNERS_EXIST = f"""
SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('{SCHEMA}.sources') AND attname = 'owner')
"""
# An owner is the same by its uid: the rest of the record changes, for example with the cluster's certificate authority.
CLAIM = f"""
UPDATE {SCHEMA}.sources SET owner_changes = owner_changes + (owner::jsonb ->> 'uid' IS DISTINCT FROM $3)::int,
       owner = $2, owner_seen_at = now()
WHERE bookkeeping = $1
"""
CONFIRM = f"""
UPDATE {SCHEMA}.sources s SET owner_seen_at = now() WHERE s.bookkeeping = $1 AND s.owner::jsonb ->> 'uid' = $2
RETURNING s.triggers_paused_at, s.filled_for
"""
RELEASE = f"""
UPDATE {SCHEMA}.sources SET owner_seen_at = NULL, triggers_paused_at = NULL, filled_for = NULL WHERE owner::jsonb ->> 'uid' = $1
RETURNING bookkeeping
"""
FORGET_OWNER = f"""
UPDATE {SCHEMA}.sources SET owner = NULL, trigger_definition = '', triggers_paused_at = NULL, filled_for = NULL
WHERE bookkeeping = $1 AND owner::jsonb ->> 'uid' = $2
RETURNING table_name
"""
UNSEEN = f"""
SELECT s.owner FROM {SCHEMA}.sources s WHERE s.owner IS NOT NULL
AND (s.owner_seen_at IS NULL OR s.owner_seen_at < now() - interval '{UNSEEN_AFTER_S:.0f} seconds')
"""


@dataclass(frozen=True)
class Owner:
    """An EmbeddingSource. Sources of two clusters may have the same namespace and name, but never the same uid."""

    namespace: str
    name: str
    uid: str
    cluster: str = field(default="", compare=False)
    """What the cluster is recognized by. It may change; empty if an earlier build has written the record."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}/{self.uid}"

    def as_record(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_record(cls, record: str) -> "Owner":
        """Of a record that an earlier or a later version may have written."""
        known = json.loads(record)
        return cls(**{each.name: known.get(each.name, "") for each in fields(cls)})


@dataclass(frozen=True)
class Claim:
    owner: Owner
    take_over_from: str = ""
    """The token of the owner from which the user takes the book-keeping over, as the refusal names it."""


@dataclass(frozen=True)
class RecordedOwner:
    owner: Owner
    seen_s_ago: float | None
    """None if the owner was deleted."""
    changes: int = 0
    """How often the owner has changed so far."""

    @property
    def token(self) -> str:
        """What a user copies into the annotation. It is valid for one take-over: two annotations never fight for a table."""
        return f"{self.owner}/{self.changes}"


def recorded_owner(row: tuple[str | None, float | None, int] | None) -> RecordedOwner | None:
    """Of a row of OWNER_ON_RECORD; None if the book-keeping has no owner."""
    if row is None or row[0] is None:
        return None
    return RecordedOwner(Owner.of_record(row[0]), row[1], row[2])


def refuse_claim(at: TableColumn, claim: Claim, recorded: RecordedOwner | None) -> None:
    """Raises SourceRefused (OwnedElsewhere) if another source that may still exist owns the book-keeping."""
    if recorded is None or recorded.owner == claim.owner or recorded.seen_s_ago is None:
        return
    wanted, owner = claim.owner, recorded.owner
    same_name = (owner.namespace, owner.name) == (wanted.namespace, wanted.name)
    same_cluster = owner.cluster in ("", wanted.cluster)
    if same_name and same_cluster and recorded.seen_s_ago > UNSEEN_AFTER_S:
        return
    if claim.take_over_from != recorded.token:
        raise owned_elsewhere(at, recorded, wanted)


def owned_elsewhere(at: TableColumn, recorded: RecordedOwner, refused: Owner) -> SourceRefused:
    """The refusal of this source. Its message is the same at each try, so that it is reported once."""
    owner = recorded.owner
    return SourceRefused(
        "OwnedElsewhere",
        f"{at}.{at.embedding_column} belongs to EmbeddingSource {owner.name} {_where(owner, refused)}, uid {owner.uid}, "
        f"{_seen(recorded.seen_s_ago)}: delete that source, or annotate this one with {TAKE_OVER_ANNOTATION}={recorded.token}",
    )


def _where(owner: Owner, refused: Owner) -> str:
    of_cluster = " of another cluster" if owner.cluster not in ("", refused.cluster) else ""
    if owner.namespace != refused.namespace or of_cluster:
        return f"in namespace {owner.namespace}{of_cluster}"
    unknown = owner.cluster != refused.cluster
    return "in this namespace" + (", or one of the same name in another cluster" if unknown else "")


def _seen(seen_s_ago: float | None) -> str:
    if seen_s_ago is None:
        return "deleted"
    return "seen within the last minute" if seen_s_ago <= UNSEEN_AFTER_S else "not seen for more than a minute"
