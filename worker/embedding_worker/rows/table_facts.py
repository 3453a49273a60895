"""What the catalog says about a source's table and its columns: the statements that read it, and their rows. Decides nothing.

Called by inspection.py; table.py, rights.py and expression.py decide. All names that the statements return are quoted, so that
they can be used in SQL as they are; they are read under search_path pg_catalog.
"""

from dataclasses import dataclass

# A policy lets the role see and write every row only if its expression is the constant true.
_POLICIES = """
SELECT p.polname, p.polpermissive AS permissive, p.polcmd IN ('r', '*') AS reads, p.polcmd IN ('w', '*') AS writes,
    coalesce(pg_get_expr(p.polqual, p.polrelid) = 'true', false)
      AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid) = 'true', true) AS lets_all
FROM pg_policy p WHERE p.polrelid = c.oid
  AND (0 = ANY(p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) r(oid) WHERE pg_has_role(r.oid, 'USAGE')))
"""

# Index probes on the catalogs: milliseconds, once when a source appears or changes.
TABLE_FACTS = f"""
SELECT c.oid::bigint, n.oid::bigint, c.relkind::text, c.relpersistence = 't', c.oid::bigint < 16384,
    pg_has_role(c.relowner, 'USAGE'), current_user::text, current_database()::text,
    ARRAY(SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r' ORDER BY 1),
    ARRAY(SELECT t.relid::bigint FROM pg_partition_tree(c.oid) t WHERE t.relid <> c.oid ORDER BY t.relid::text),
    ARRAY(SELECT t.relid::text FROM pg_partition_tree(c.oid) t WHERE t.relid <> c.oid ORDER BY t.relid::text),
    ARRAY(SELECT t.relid::text FROM pg_partition_tree(c.oid) t JOIN pg_class f ON f.oid = t.relid AND f.relkind = 'f'),
    ARRAY(SELECT quote_ident(r.rulename) FROM pg_rewrite r
          WHERE r.ev_class = c.oid AND r.ev_type = '2' AND r.ev_enabled IN ('O', 'A')),
    row_security_active(c.oid),
    EXISTS (SELECT FROM ({_POLICIES}) p WHERE p.permissive AND p.reads AND p.lets_all)
      AND EXISTS (SELECT FROM ({_POLICIES}) p WHERE p.permissive AND p.writes AND p.lets_all),
    ARRAY(SELECT quote_ident(p.polname) FROM ({_POLICIES}) p
          WHERE NOT p.permissive AND NOT p.lets_all AND (p.reads OR p.writes) ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2
"""

# A domain is what it is made of, at any depth. Its length or dimensions are given where the domain is declared.
_BASE_TYPE = """
SELECT b.typname, b.typnamespace, b.typtype, b.modifier FROM (
    WITH RECURSIVE d AS (
        SELECT t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod, a.atttypmod AS modifier
        FROM pg_type t WHERE t.oid = a.atttypid
        UNION ALL
        SELECT t.typname, t.typnamespace, t.typtype, t.typbasetype, t.typtypmod,
            CASE WHEN d.modifier = -1 THEN d.typtypmod ELSE d.modifier END
        FROM d JOIN pg_type t ON t.oid = d.typbasetype WHERE d.typtype = 'd')
    SELECT * FROM d) b WHERE b.typtype <> 'd'
"""
# An index that a search for one id can use, and that lets no two rows with this id exist at any moment.
_USABLE = """i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
    AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum"""
_UNUSABLE = f"""
SELECT quote_ident(k.relname) || CASE
    WHEN i.indexprs IS NOT NULL THEN ' is on an expression' WHEN i.indnkeyatts > 1 THEN ' is on other columns too'
    WHEN i.indpred IS NOT NULL THEN ' covers some rows only' WHEN NOT i.indimmediate THEN ' is deferrable'
    ELSE ' is not valid' END
FROM pg_index i JOIN pg_class k ON k.oid = i.indexrelid
WHERE i.indrelid = a.attrelid AND i.indisunique AND NOT ({_USABLE}) AND (
    a.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
    AND d.objid = i.indexrelid AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum)) ORDER BY k.relname
"""
COLUMN_FACTS = f"""
SELECT a.attname::text, a.attnum::int, b.typname::text, tn.nspname::text, tn.oid::bigint, b.typtype = 'b', b.modifier,
    format_type(a.atttypid, a.atttypmod),
    a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conrelid = a.attrelid AND o.contype = 'n'
                                 AND o.conkey = ARRAY[a.attnum] AND NOT o.convalidated),
    a.attgenerated <> '', coalesce((SELECT l.collisdeterministic FROM pg_collation l WHERE l.oid = a.attcollation), true),
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND {_USABLE}), ARRAY({_UNUSABLE})
FROM pg_attribute a CROSS JOIN LATERAL ({_BASE_TYPE}) b JOIN pg_namespace tn ON tn.oid = b.typnamespace
WHERE a.attrelid = $1::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
"""
VECTOR_SCHEMA = """
SELECT n.oid::bigint, n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector'
"""
DEFAULT_PATH = "SET LOCAL search_path TO DEFAULT"
# After DEFAULT_PATH: the path of a new session, from the URL, ALTER ROLE, ALTER DATABASE or the server. This one may be older.
APPLICATION_PATH = """
SELECT CASE WHEN p.source = 'client' THEN p.setting ELSE coalesce((
    SELECT substr(c.setting, 13) FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c(setting)
    WHERE split_part(c.setting, '=', 1) = 'search_path'
      AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
    ORDER BY s.setrole DESC, s.setdatabase DESC LIMIT 1), p.setting) END
FROM pg_settings p WHERE p.name = 'search_path'
"""
IS_IN_PATH = "SELECT $1 = ANY (current_schemas(false)::text[])"


POLICIES = """
SELECT coalesce(string_agg(p.oid || '.' || p.xmin, ',' ORDER BY p.oid), '') FROM pg_policy p WHERE p.polrelid = $1::bigint::oid
"""
"""$1 oid of a table → what changes whenever one of its policies does."""


@dataclass(frozen=True)
class TableFacts:
    oid: int
    schema_oid: int
    kind: str
    """pg_class.relkind: 'r' a table, 'p' a partitioned one, others are refused."""
    temporary: bool
    system: bool
    owned: bool
    role: str
    database: str
    children: tuple[str, ...]
    """Tables that inherit from this one, which are no partitions of it."""
    partition_oids: tuple[int, ...]
    partitions: tuple[str, ...]
    """Partitions of all levels, in the order of partition_oids."""
    foreign_partitions: tuple[str, ...]
    update_rules: tuple[str, ...]
    """Rules that rewrite an UPDATE."""
    row_security: bool
    """Policies apply to the role."""
    sees_all: bool
    """Permissive policies let the role see and write every row."""
    restrictive_policies: tuple[str, ...]


@dataclass(frozen=True)
class ColumnFacts:
    name: str
    number: int
    type_name: str
    """pg_type.typname of the base type: a domain is what it is made of."""
    type_schema: str
    type_schema_oid: int
    is_base_type: bool
    """No enum, range or composite type."""
    type_modifier: int
    """For pgvector, the dimensions; -1 if none were given."""
    declared: str
    """The type as in a CREATE TABLE, such as character varying(20)."""
    not_null: bool
    generated: bool
    deterministic: bool
    """Its collation treats different texts as different."""
    unique: bool
    unusable_indexes: tuple[str, ...]
    """Unique indexes that contain the column and cannot be used, each with the reason."""


@dataclass(frozen=True)
class VectorExtension:
    """Where pgvector is."""

    schema_oid: int
    schema: str
