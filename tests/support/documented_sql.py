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


def pasted(block: str, *, role: str, database: str, password: str = PASSWORD) -> str:
    """The block as it is in the document, with its comments, for this role, database and password."""
    renamed = block.replace(DATABASE, database).replace(PASSWORD, password)
    return re.sub(rf"(TO|FROM|ROLE|AUTHORIZATION) {ROLE}\b", rf"\1 {role}", renamed)


def statements(block: str, *, role: str, database: str, password: str = PASSWORD) -> list[str]:
    """The statements of a block, one by one, for this role, database and password."""
    named = pasted(re.sub(r"--.*", "", block), role=role, database=database, password=password)
    return [statement.strip() for statement in named.split(";") if statement.strip()]
