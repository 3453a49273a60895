"""The SQL that grants what is missing: each object once, quoted, in few statements."""

import pytest

from embedding_worker.rows.rights import Right, grants

TABLE = '"public"."Vip"'
ROLE = '"the ""operator"""'


@pytest.mark.parametrize(
    ("rights", "sql"),
    [
        ([], ""),
        ([Right("table", 1, TABLE, "SELECT")], f"GRANT SELECT ON {TABLE} TO {ROLE}"),
        (
            [
                Right("table", 1, TABLE, "SELECT"),
                Right("column", 1, TABLE, "UPDATE", 'the "vector"'),
                Right("table", 1, TABLE, "TRIGGER"),
            ],
            f'GRANT SELECT, UPDATE ("the ""vector"""), TRIGGER ON {TABLE} TO {ROLE}',
        ),
        (
            [
                Right("schema", 1, '"a"', "USAGE"),
                Right("schema", 2, '"b"', "USAGE"),
                Right("schema", 1, '"a"', "USAGE"),
            ],
            f'GRANT USAGE ON SCHEMA "a", "b" TO {ROLE}',
        ),
        (
            [
                Right("schema", 1, '"a"', "USAGE"),
                Right("schema", 2, '"b"', "USAGE"),
                Right("schema", 2, '"b"', "CREATE"),
            ],
            f'GRANT USAGE ON SCHEMA "a" TO {ROLE}; GRANT USAGE, CREATE ON SCHEMA "b" TO {ROLE}',
        ),
        (
            [Right("database", 1, '"book"', "CREATE"), Right("function", 2, "public.f(text)", "EXECUTE")],
            f'GRANT CREATE ON DATABASE "book" TO {ROLE}; GRANT EXECUTE ON FUNCTION public.f(text) TO {ROLE}',
        ),
        ([Right("owner", 1, "public.f()", "OWNER")], f"ALTER FUNCTION public.f() OWNER TO {ROLE}"),
    ],
)
def test_rights_are_granted_in_few_statements(rights: list[Right], sql: str) -> None:
    assert grants(rights, ROLE) == sql


@pytest.mark.parametrize(
    ("partitions", "rest"), [(20, ""), (21, " (and the same on 1 more)"), (500, " (and the same on 480 more)")]
)
def test_of_many_objects_twenty_are_named(partitions: int, rest: str) -> None:
    rights = [Right("table", n, f"public.p{n}", "TRIGGER") for n in range(partitions)]
    sql = grants(rights, ROLE)
    assert sql.count("public.p") == 20
    assert sql.endswith(f" TO {ROLE}{rest}")
