"""Texts that would never be fresh, or cost without end, are refused by name; PostgreSQL says what is no expression at all."""

import pytest

from embedding_worker.errors import SourceRefused
from embedding_worker.source import ChangeDetection
from tests.integration.rows.conftest import Keep
from tests.support.kept_rows import Application

LISTED = """
CREATE TABLE businesses (id bigint PRIMARY KEY, name text, description text, opened timestamptz, embedding real[],
    shout text GENERATED ALWAYS AS (upper(name)) STORED,
    seen text GENERATED ALWAYS AS (name || cardinality(embedding)) STORED);
CREATE TABLE reviews (business bigint, body text);
CREATE VIEW loud AS SELECT id, upper(name) AS name FROM businesses;
CREATE SEQUENCE numbers;
CREATE FUNCTION public.greet(text) RETURNS text LANGUAGE sql STABLE AS $$SELECT 'Hello ' || $1$$;
CREATE FUNCTION public.roll(text) RETURNS text LANGUAGE sql VOLATILE AS $$SELECT $1 || random()$$;
CREATE FUNCTION public.now(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT $1$$;
CREATE FUNCTION public.volatile_cast(double precision) RETURNS bytea LANGUAGE sql VOLATILE AS $$SELECT '\\x00'::bytea$$;
CREATE SCHEMA "Dice"; CREATE DOMAIN "Dice"."Kind" AS text;
CREATE FUNCTION "Dice"."Roll"("Dice"."Kind", sides bigint) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
CREATE CAST (double precision AS bytea) WITH FUNCTION public.volatile_cast(double precision);
"""

NO_EXPRESSION = {
    "": "syntax error",
    "name ||": "syntax error at or near",
    "name)": "syntax error at or near",
    "(name": "syntax error at end of input",
    "name; SELECT 1": "syntax error at or near",
    "name /* no end": r"unterminated /\* comment",
    "'no end": "unterminated quoted string",
    "name || $1": r"there is no parameter \$1",
    "string_agg(name, ' ')": "aggregate functions are not allowed in WHERE",
    "count(*)": "aggregate functions are not allowed in WHERE",
    "row_number() OVER (ORDER BY name)": "window functions are not allowed in WHERE",
    "unnest(string_to_array(name, ' '))": "set-returning functions are not allowed in WHERE",
    "generate_series(1, 3)": "set-returning functions are not allowed in WHERE",
    "title": 'column "title" does not exist',
    "businesses.title": "column businesses.title does not exist",
    "nosuch(name)": r"function nosuch\(text\) does not exist \(42883\): create it, correct its name or arguments, or name its "
    r'schema too \(the search_path is "\$user", public\)$',
    "greet(id)": r"function greet\(bigint\) does not exist \(42883\): create it, correct its name or arguments",
    "name ~~~~ name": r"operator does not exist: text ~~~~ text \(42883\): create it, correct its name or arguments",
    "name::nosuch": 'type "nosuch" does not exist',
    "(SELECT body FROM nosuch)": 'relation "nosuch" does not exist',
    "eo_text": 'column "eo_text" does not exist',
    "NEW.name": 'missing FROM-clause entry for table "new"',
}

REFUSED = {
    "'the same for all'": r"reads no column of public\.businesses: every row would have the same vector",
    "NULL": r"reads no column of public\.businesses",
    "name IS NOT NULL": "is of type boolean, whose values are no words: give an expression of type text",
    "convert_to(name, 'UTF8')": "is of type bytea, whose values are no words",
    "name::bit(8)": "is of type bit, whose values are no words",
    "businesses": "refers to the whole row, so to the vector too: name the columns it needs",
    "businesses::text": "refers to the whole row",
    "row_to_json(businesses)": "refers to the whole row",
    "concat(businesses.*)": "refers to the whole row",
    "name || ctid": "reads a system column, which changes with every write",
    "name || xmin": "reads a system column",
    "name || tableoid": "reads a system column",
    "concat(name, embedding)": "reads embedding, the vector itself: every write would make the row due again",
    "cardinality(embedding)": "reads embedding, the vector itself",
    "seen": "reads embedding, the vector itself",
    "name || random()": r"calls random\(\), which gives another value for the same row at another time: leave it out",
    "name || clock_timestamp()": r"calls clock_timestamp\(\)",
    "name || nextval('numbers')": r"calls nextval\(\)",
    "name || gen_random_uuid()": r"calls gen_random_uuid\(\)",
    "name || now()": r"calls now\(\)",
    "name || pg_catalog.now()": r"calls now\(\)",
    "name || age(opened)": r"calls age\(\)",
    "name || statement_timestamp()": r"calls statement_timestamp\(\)",
    "name || current_setting('TimeZone')": r"calls current_setting\(\)",
    "name || current_database()": r"calls current_database\(\)",
    "name || pg_backend_pid()": r"calls pg_backend_pid\(\)",
    "roll(name)": r"calls public\.roll\(text\), which is marked VOLATILE, so that it may give another value for the same row at "
    r"another time: leave it out, or, if it never does, ALTER FUNCTION public\.roll\(text\) IMMUTABLE$",
    "coalesce(nullif(name, ''), CASE WHEN true THEN roll(name) END)": r"calls public\.roll\(text\)",
    "name || (length(name)::double precision)::bytea::text": r"calls public\.volatile_cast\(double precision\)",
    'name || "Dice"."Roll"(name, id)': r'.*, ALTER FUNCTION "Dice"\."Roll"\("Dice"\."Kind",bigint\) IMMUTABLE$',
    "name || current_date": "reads the current date, time or user: the same row would have another text every day",
    "name || current_timestamp": "reads the current date, time or user",
    "name || localtime": "reads the current date, time or user",
    "name || current_user": "reads the current date, time or user",
    "name || session_user": "reads the current date, time or user",
    "name || current_catalog": "reads the current date, time or user",
    "name || (SELECT string_agg(body, ' ') FROM reviews WHERE business = id)": (
        r"reads public\.reviews, whose edits no trigger on public\.businesses sees: set spec\.changeDetection to Audit"
    ),
    "name || (SELECT name FROM loud l WHERE l.id = businesses.id)": r"reads public\.loud, whose edits no trigger",
    "name || (SELECT count(*) FROM businesses b WHERE b.name < businesses.name)": (
        r"reads other rows of public\.businesses, whose edits no trigger on public\.businesses sees"
    ),
}


@pytest.fixture
def listed(application: Application) -> Application:
    application.run(LISTED)
    return application


@pytest.mark.parametrize("text", NO_EXPRESSION)
async def test_what_is_no_expression_is_refused_in_the_words_of_postgresql(
    listed: Application, keep: Keep, text: str
) -> None:
    sentence = (
        rf"^spec\.text is no expression over a row of public\.businesses: PostgreSQL says: .*{NO_EXPRESSION[text]}"
    )
    with pytest.raises(SourceRefused, match=sentence) as refused:
        await keep(text=text)
    assert refused.value.reason == "TextRefused"


@pytest.mark.parametrize("text", REFUSED)
async def test_a_text_that_would_not_stay_fresh_is_refused(listed: Application, keep: Keep, text: str) -> None:
    with pytest.raises(SourceRefused, match=f"^spec\\.text {REFUSED[text]}") as refused:
        await keep(text=text)
    assert refused.value.reason == "TextRefused"
    assert listed.run("SELECT to_regnamespace('embedding_operator')") == [(None,)]


@pytest.mark.parametrize(
    "text",
    [
        "name",
        "id",
        "shout",
        "greet(name)",
        "now(name)",  # the application's own, which is not the one of PostgreSQL
        "to_char(opened, 'YYYY')",
        "concat_ws(' ', name, description)",
        "CASE WHEN name <> '' THEN name ELSE description END",
        "(SELECT string_agg(word, ' ') FROM unnest(string_to_array(name, ' ')) AS word)",
        "(WITH words AS (SELECT name AS word) SELECT word FROM words)",
        "'current_date ' || name",
    ],
)
async def test_what_tells_a_row_by_itself_is_accepted(listed: Application, keep: Keep, text: str) -> None:
    listed.run("INSERT INTO businesses (id, name) VALUES (1, 'one')")
    keeper, oracle = await keep(text=text)
    await keeper.audit()
    assert await keeper.keep() == 1
    assert oracle.wrong() == []


@pytest.mark.parametrize(
    ("text", "change"),
    [
        (
            "name || coalesce((SELECT string_agg(body, ' ') FROM reviews WHERE business = id), '')",
            "INSERT INTO reviews VALUES (1, 'very good')",
        ),
        (
            "name || (SELECT count(*) FROM businesses b WHERE b.name < businesses.name)",
            "INSERT INTO businesses (id, name) VALUES (0, 'before it')",
        ),
    ],
)
async def test_other_tables_and_rows_are_accepted_where_the_audit_alone_tells(
    listed: Application, keep: Keep, text: str, change: str
) -> None:
    listed.run("INSERT INTO businesses (id, name) VALUES (1, 'one')")
    keeper, oracle = await keep(text=text, detection=ChangeDetection.AUDIT)
    await keeper.audit()
    await keeper.keep()
    assert oracle.wrong() == []
    listed.run(change)
    assert await keeper.audit() >= 1
    await keeper.keep()
    assert oracle.wrong() == []


@pytest.fixture
def virtual(listed: Application) -> Application:
    if listed.run("SELECT current_setting('server_version_num')::int")[0][0] < 18_00_00:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    listed.run("ALTER TABLE businesses ADD COLUMN low text GENERATED ALWAYS AS (lower(name)) VIRTUAL")
    listed.run("ALTER TABLE businesses ADD COLUMN bare boolean GENERATED ALWAYS AS (embedding IS NULL) VIRTUAL")
    return listed


async def test_a_virtual_generated_column_stands_for_what_it_reads(virtual: Application, keep: Keep) -> None:
    keeper, oracle = await keep(text="low")
    virtual.run("INSERT INTO businesses (id, name) VALUES (1, 'ONE')")
    await keeper.keep()
    virtual.run("UPDATE businesses SET name = 'TWO'")
    assert await keeper.keep() == 1
    assert oracle.wrong() == []
    with pytest.raises(SourceRefused, match="reads embedding, the vector itself"):
        await keep(text="name || bare")


async def test_a_text_is_one_statement_and_no_more(listed: Application, keep: Keep) -> None:
    with pytest.raises(SourceRefused, match="cannot insert multiple commands"):
        await keep(text="name)::text), '') <> ''; COMMIT; CREATE TABLE public.left_behind (); SELECT ((('x'")
    assert listed.run("SELECT to_regclass('left_behind')") == [(None,)]


@pytest.mark.parametrize("text", ["name)::text) IS NOT NULL OR (('x'", "name), (description"])
async def test_a_text_that_closes_our_own_parentheses_is_refused_at_once_and_not_at_the_first_sweep(
    listed: Application, keep: Keep, text: str
) -> None:
    with pytest.raises(SourceRefused, match="is no expression over a row"):
        await keep(text=text)
