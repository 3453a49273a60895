"""Reads the SQL of a section of a document, and replaces the documented role and database by those of a test.

Called by the tests of the SQL in README.md and docs/install.md, which run it. This module runs nothing.
"""

import re

ROLE, DATABASE, PASSWORD = "embedding_operator", "yellow_book", "choose-one"
"""The names that the documents use."""


def sql_blocks(page: str, heading: str) -> list[str]:
    """The SQL blocks of the section with this heading, in order."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return re.findall(r"```sql\n(.*?)```", section, re.DOTALL)


def statements(block: str, *, role: str, database: str, password: str = PASSWORD) -> list[str]:
    """The statements of a block, one by one, for this role, database and password."""
    without_comments = re.sub(r"--.*", "", block).replace(DATABASE, database).replace(PASSWORD, password)
    named = re.sub(rf"(TO|FROM|ROLE|AUTHORIZATION) {ROLE}\b", rf"\1 {role}", without_comments)
    return [statement.strip() for statement in named.split(";") if statement.strip()]
