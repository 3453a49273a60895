"""Tables, ids and columns of every kind that works: inserted, edited and audited rows get the vector of their text."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from embedding_worker.rows.table import quoted
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application, Keeper, Oracle


@dataclass(frozen=True)
class Kind:
    """A table with at least two rows, and an edit of all of them."""

    table: str
    rows: str
    edit: str = "UPDATE businesses SET name = name || ' new'"
    source: dict[str, Any] = field(default_factory=dict)


async def is_kept(application: Application, keep: Keep, kind: Kind) -> tuple[Keeper, Oracle]:
    """Rows that were there, rows that are edited and rows that are inserted become fresh, and stay so."""
    application.run(kind.table)
    application.run(kind.rows)
    keeper, oracle = await keep(**kind.source)
    rows = len(oracle.vectors())
    assert rows >= 2
    assert await keeper.audit(page=2) == rows
    assert (await keeper.keep(), oracle.wrong()) == (rows, [])
    application.run(kind.edit)
    assert len(oracle.wrong()) == rows
    assert (await keeper.keep(), oracle.wrong(), oracle.marks()) == (rows, [], [])
    application.run(f"TRUNCATE {keeper.statements.table}")
    application.run(kind.rows)
    assert (await keeper.keep(), oracle.wrong(), oracle.marks()) == (rows, [], [])
    assert await keeper.audit() == 0
    assert (await keeper.store.counts()).total == rows
    return keeper, oracle


def with_id(declared: str, *ids: str, before: str = "") -> Kind:
    values = ", ".join(f"('{row_id}', 'name {n}')" for n, row_id in enumerate(ids))
    return Kind(
        f"{before}CREATE TABLE businesses (id {declared} PRIMARY KEY, name text, embedding vector(3))",
        f"INSERT INTO businesses VALUES {values}",
    )


SCRIPTS = (
    "",
    " ",
    "  two  ",
    "tab\tnew\nline",
    "\x01\x7f",
    "Größe",
    "e\u0301",
    "鮨処",
    "مقهى",
    "בית קפה",
    "ก๋วยเตี๋ยว",
    "🍣👩‍👩‍👧",
    "\u202eabc",
    "\ufeff",
    "O''Hara",
    'sa"y',
    "a,b{}",
    "NULL",
    "back\\slash",
    "%s $1 :id ?",
    "Ab",
    "aB",
    "x" * 63,
    "x" * 1_025,
    "é" * 1_300,
)
IDS = {
    "smallint": with_id("smallint", "-32768", "0", "32767"),
    "text of every script and length": with_id("text", *SCRIPTS),
    "varchar": with_id("varchar", *SCRIPTS),
    "varchar with a length": with_id("varchar(4)", "abcd", "abc", "é鮨🍣x"),
    "char": with_id("char(8)", "ab", "abcdefgh", "", "é鮨🍣", " a"),
    "bpchar": with_id("bpchar", "ab", "a"),
    "a domain": with_id(
        "key",
        "1",
        "2147483648",
        before="CREATE DOMAIN inner_key AS bigint; CREATE DOMAIN key AS inner_key CHECK (VALUE > 0); ",
    ),
    "a domain over varchar": with_id(
        "slug", "a", "B", before="CREATE DOMAIN slug AS varchar(20) COLLATE \"C\" NOT NULL CHECK (VALUE <> ''); "
    ),
    "a domain over uuid": with_id(
        "key",
        "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        before="CREATE DOMAIN key AS uuid; ",
    ),
    "a domain that is called as a type of PostgreSQL": with_id(
        "public.uuid", "1", "2", before="CREATE DOMAIN public.uuid AS integer; "
    ),
    "generated": Kind(
        "CREATE TABLE businesses (number int, id text GENERATED ALWAYS AS ('nr ' || number) STORED UNIQUE NOT NULL, "
        "name text, embedding vector(3))",
        "INSERT INTO businesses (number, name) VALUES (1, 'one'), (2, 'two')",
    ),
    "identity": Kind(
        "CREATE TABLE businesses (id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, embedding vector(3))",
        "INSERT INTO businesses (name) VALUES ('one'), ('two')",
    ),
    "an index that includes other columns": Kind(
        "CREATE TABLE businesses (id int NOT NULL, name text, embedding vector(3)); "
        "CREATE UNIQUE INDEX ON businesses (id) INCLUDE (name)",
        "INSERT INTO businesses VALUES (1, 'one'), (2, 'two')",
    ),
    "an index without a primary key": Kind(
        "CREATE TABLE businesses (tenant int, number int, id varchar(9) UNIQUE NOT NULL, name text, embedding vector(3), "
        "PRIMARY KEY (tenant, number))",
        "INSERT INTO businesses VALUES (1, 1, 'one', 'one'), (1, 2, 'two', 'two')",
    ),
}


@pytest.mark.parametrize("name", IDS)
async def test_an_id_may_be(application: Application, keep: Keep, name: str) -> None:
    await is_kept(application, keep, IDS[name])


def with_vector(declared: str, *, before: str = "", given: str = "NULL") -> Kind:
    return Kind(
        f"{before}CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding {declared})",
        f"INSERT INTO businesses VALUES (1, 'one', {given}), (2, 'two', {given})",
    )


VECTORS = {
    "a domain over a vector": with_vector("model_a", before="CREATE DOMAIN model_a AS vector(3); "),
    "a domain over a domain over a halfvec": with_vector(
        "model_a", before="CREATE DOMAIN any_model AS halfvec(3); CREATE DOMAIN model_a AS any_model; "
    ),
    "a domain over an array with a check": with_vector(
        "three", before="CREATE DOMAIN three AS real[] CHECK (cardinality(VALUE) = 3); "
    ),
    "never null": with_vector("vector(3) NOT NULL", given="'[0,0,0]'"),
    "a vector with a check of its length": with_vector("vector(3) CHECK (vector_norm(embedding) > 1)"),
    "stored outside of the row": with_vector("vector(3) STORAGE EXTERNAL"),
    "an array of two dimensions by its type only": with_vector("double precision[][]"),
}


@pytest.mark.parametrize("name", VECTORS)
async def test_the_embedding_column_may_be(application: Application, keep: Keep, name: str) -> None:
    await is_kept(application, keep, VECTORS[name])


PLAIN = "(id bigint PRIMARY KEY, name text, embedding vector(3))"
ROWS = "INSERT INTO businesses VALUES (1, 'one'), (2, 'two')"
TABLES = {
    "unlogged": Kind(f"CREATE UNLOGGED TABLE businesses {PLAIN}", ROWS),
    "of a type": Kind(
        "CREATE TYPE business AS (id bigint, name text, embedding vector(3)); "
        "CREATE TABLE businesses OF business (PRIMARY KEY (id))",
        ROWS,
    ),
    "one with columns that were dropped": Kind(
        "CREATE TABLE businesses (gone text, id bigint PRIMARY KEY, old text, name text, embedding vector(3)); "
        "ALTER TABLE businesses DROP COLUMN gone; ALTER TABLE businesses DROP COLUMN old",
        ROWS,
    ),
    "one that inherits": Kind(
        "CREATE TABLE things (id bigint PRIMARY KEY, name text); "
        "CREATE TABLE businesses (PRIMARY KEY (id), embedding vector(3)) INHERITS (things); "
        "INSERT INTO things VALUES (1, 'the same id')",
        ROWS,
    ),
    "a single partition": Kind(
        "CREATE TABLE things (tenant int, id bigint, name text, embedding vector(3)) PARTITION BY LIST (tenant); "
        "CREATE TABLE businesses PARTITION OF things FOR VALUES IN (1); ALTER TABLE businesses ADD PRIMARY KEY (id); "
        "CREATE TABLE others PARTITION OF things FOR VALUES IN (2); INSERT INTO others VALUES (2, 1, 'the same id')",
        "INSERT INTO businesses VALUES (1, 1, 'one'), (1, 2, 'two')",
    ),
    "partitioned by a text": Kind(
        "CREATE TABLE businesses (id varchar(9) PRIMARY KEY, name text, embedding vector(3)) PARTITION BY HASH (id); "
        "CREATE TABLE part_0 PARTITION OF businesses FOR VALUES WITH (modulus 2, remainder 0); "
        "CREATE TABLE part_1 PARTITION OF businesses FOR VALUES WITH (modulus 2, remainder 1)",
        "INSERT INTO businesses SELECT 'id ' || n, 'name ' || n FROM generate_series(1, 9) n",
    ),
    "partitioned twice, with a default": Kind(
        "CREATE TABLE businesses (id int PRIMARY KEY, name text, embedding vector(3)) PARTITION BY RANGE (id); "
        "CREATE TABLE low PARTITION OF businesses FOR VALUES FROM (0) TO (10) PARTITION BY HASH (id); "
        "CREATE TABLE low_0 PARTITION OF low FOR VALUES WITH (modulus 1, remainder 0); "
        "CREATE TABLE others PARTITION OF businesses DEFAULT",
        "INSERT INTO businesses VALUES (1, 'one'), (99, 'other')",
    ),
    "one with a rule for inserts": Kind(
        f"CREATE TABLE businesses {PLAIN}; CREATE TABLE log (id bigint); "
        "CREATE RULE logged AS ON INSERT TO businesses DO ALSO INSERT INTO log VALUES (NEW.id)",
        ROWS,
    ),
    "one with a rule that is disabled": Kind(
        f"CREATE TABLE businesses {PLAIN}; CREATE RULE kept AS ON UPDATE TO businesses DO INSTEAD NOTHING; "
        "ALTER TABLE businesses DISABLE RULE kept",
        ROWS,
    ),
    "one with a generated column of the vector": Kind(
        "CREATE TABLE businesses (id bigint PRIMARY KEY, name text, embedding vector(3), "
        "length double precision GENERATED ALWAYS AS (vector_norm(embedding)) STORED)",
        ROWS,
    ),
    "one that sets a time at each update": Kind(
        f"CREATE TABLE businesses {PLAIN}; ALTER TABLE businesses ADD COLUMN changed timestamptz; "
        "CREATE FUNCTION set_changed() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.changed := clock_timestamp(); RETURN NEW; END'; "
        "CREATE TRIGGER changed BEFORE UPDATE ON businesses FOR EACH ROW EXECUTE FUNCTION set_changed()",
        ROWS,
    ),
}


@pytest.mark.parametrize("name", TABLES)
async def test_the_table_may_be(application: Application, keep: Keep, name: str) -> None:
    await is_kept(application, keep, TABLES[name])


async def test_a_table_without_children_never_touches_the_row_of_its_parent(
    application: Application, keep: Keep
) -> None:
    await is_kept(application, keep, TABLES["one that inherits"])
    application.run("ALTER TABLE things ADD COLUMN embedding vector(3)")
    assert application.run("SELECT embedding FROM ONLY things") == [(None,)]


async def test_a_child_that_is_made_later_is_left_alone(businesses: Application, keep: Keep) -> None:
    businesses.run("INSERT INTO businesses (id, name) VALUES (1, 'one')")
    keeper, _ = await keep()
    businesses.run("CREATE TABLE shops () INHERITS (businesses)")
    businesses.run("INSERT INTO shops (id, name) VALUES (1, 'one')")
    await keeper.audit()
    assert await keeper.keep() == 1
    assert businesses.run("SELECT embedding FROM shops") == [(None,)]
    assert (await keeper.store.counts()).total == 1


@dataclass(frozen=True)
class Column:
    """A column that the text reads: its type, two values, and other values for both rows."""

    declared: str
    values: tuple[str, str]
    edited: str
    text: str = "subject::text"
    before: str = ""
    extension: str = ""


COLUMNS = {
    "an enum": Column("kind", ("'bar'", "'shop'"), "'Late bar'", before="CREATE TYPE kind AS ENUM ('bar', 'shop', 'Late bar')"),
    "a range": Column("int4range", ("'[1,5)'", "'empty'"), "'[1,9)'"),
    "a multirange": Column("datemultirange", ("'{[2020-01-01,2021-01-01)}'", "'{}'"), "'{[2022-01-01,)}'"),
    "an array of texts": Column("text[]", ("'{a,b}'", "'{}'"), "'{a,NULL,c}'", "'x' || array_to_string(subject, ' ', '-')"),
    "an array of numbers": Column("numeric[]", ("'{1,2}'", "'{{1},{2}}'"), "'{1.0,2}'"),
    "jsonb": Column("""jsonb""", ("""'{"a":"one"}'""", """'{"a":"two"}'"""), """'{"a":"three"}'""", "subject->>'a'"),
    "json": Column("json", ("""'{"a":"one"}'""", """'{"a": "one"}'"""), """'{"a" : "one"}'"""),
    "a domain": Column("word", ("'one'", "'two'"), "'three'", "upper(subject)", "CREATE DOMAIN word AS varchar(9) NOT NULL"),
    "a composite type": Column("place", ("'(a)'", "'(b)'"), "'(c)'", "(subject).city", "CREATE TYPE place AS (city name)"),
    "a numeric": Column("numeric", ("1", "'NaN'"), "1.00"),
    "a float": Column("double precision", ("0.1", "1e300"), "0.1::float8 + 0.2"),
    "a money amount": Column("money", ("1", "2"), "3", "subject::numeric::text"),
    "a timestamp with time zone": Column("timestamptz", ("'2020-01-01 00:00+02'", "'infinity'"), "'2020-01-01 00:00+01'"),
    "a date": Column("date", ("'2020-02-03'", "'0044-03-15 BC'"), "'2020-03-02'"),
    "an interval": Column("interval", ("'1 day'", "'24 hours'"), "'1 mon'"),
    "bytea": Column("bytea", ("'\\x00ff'", "'\\x'"), "'\\xff00'", "'x' || encode(subject, 'base64')"),
    "a bit string": Column("bit varying", ("'101'", "'0'"), "'11'"),
    "a boolean": Column("boolean", ("true", "true"), "false", "CASE WHEN subject THEN 'open' ELSE 'closed' END"),
    "an inet address": Column("inet", ("'10.0.0.1'", "'::1/64'"), "'10.0.0.2'"),
    "a point": Column("point", ("'1,2'", "'3,4'"), "'5,6'"),
    "a text search vector": Column("tsvector", ("'a b'", "'c'"), "'d'"),
    "a uuid": Column("uuid", ("gen_random_uuid()", "gen_random_uuid()"), "gen_random_uuid()"),
    "a name": Column("name", ("'one'", "'two'"), "'three'"),
    "a single byte": Column('"char"', ("'a'", "'b'"), "'c'"),
    "a char": Column("char(5)", ("'a'", "'b '"), "'c'", "subject || '|'"),
    "a text with a collation": Column('text COLLATE "C"', ("'é'", "'e'"), "'z'", "CASE WHEN subject > 'Z' THEN subject END"),
    "xml": Column("xml", ("'<a/>'", "'<b/>'"), "'<c/>'"),
    "citext": Column("citext", ("'One'", "'two'"), "'THREE'", extension="citext"),
    "hstore": Column("hstore", ("'a=>1'", "'a=>2'"), "'a=>3'", "subject->'a'", extension="hstore"),
    "ltree": Column("ltree", ("'a.b'", "'a'"), "'a.c'", extension="ltree"),
}  # fmt: skip


def skip_unless_possible(application: Application, column: Column) -> None:
    if column.extension:
        if application.run("SELECT FROM pg_available_extensions WHERE name = %s", column.extension) == []:
            pytest.skip(f"this server has no extension {column.extension}")
        application.run(f"CREATE EXTENSION {column.extension}")
    if column.declared == "xml":
        options = application.run("SELECT setting FROM pg_config WHERE name = 'CONFIGURE'")
        if "libxml" not in str(options):
            pytest.skip("this server is built without libxml")


@pytest.mark.parametrize("name", COLUMNS)
async def test_the_text_may_read(application: Application, keep: Keep, name: str) -> None:
    column = COLUMNS[name]
    skip_unless_possible(application, column)
    first, second = column.values
    await is_kept(
        application,
        keep,
        Kind(
            f"{column.before}; CREATE TABLE businesses (id int PRIMARY KEY, subject {column.declared}, embedding real[])",
            f"INSERT INTO businesses VALUES (1, {first}), (2, {second})",
            f"UPDATE businesses SET subject = {column.edited}",
            {"text": column.text},
        ),
    )


NAMES = [
    *("order", "select", "user", "table", "current_date", "Name with space", 'a"b', "it's", "$1", "a.b", "x", "eo_text", "new"),
    *("old", "é" * 31, "鮨" * 21, "🍣" * 15, "n" * 63, "%s", "--", "/*", "\\", "tg_op", "row_id", "changed", "marks"),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
async def test_columns_may_have_any_name(application: Application, keep: Keep, name: str) -> None:
    id_column, read, embedding = name, first_bytes(f"2{name}"), first_bytes(f"3{name}")
    await is_kept(
        application,
        keep,
        Kind(
            f"CREATE TABLE businesses ({quoted(id_column)} text PRIMARY KEY, {quoted(read)} text, {quoted(embedding)} real[])",
            "INSERT INTO businesses VALUES ('1', 'one'), ('2', 'two')",
            f"UPDATE businesses SET {quoted(read)} = {quoted(read)} || ' new'",
            {"id_column": id_column, "text": quoted(read), "embedding_column": embedding},
        ),
    )


@pytest.mark.parametrize("name", NAMES)
async def test_the_text_may_read_a_column_of_any_name(application: Application, keep: Keep, name: str) -> None:
    application.run(f"CREATE TABLE businesses (id int PRIMARY KEY, {quoted(name)} text, embedding real[])")
    application.run("INSERT INTO businesses VALUES (1, 'one')")
    keeper, oracle = await keep(text=quoted(name))
    await keeper.audit()
    assert (await keeper.keep(), oracle.wrong()) == (1, [])


def first_bytes(name: str) -> str:
    """As much of a name as PostgreSQL keeps."""
    return name.encode()[:63].decode(errors="ignore")
