"""Which texts can be the id of a row, by the type of the id column."""

import pytest

from embedding_worker.rows.table import can_be_id

UUID = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"


@pytest.mark.parametrize(
    ("id_type", "text"),
    [
        *(("bigint", text) for text in ("0", "7", "-7", "9223372036854775807", "-9223372036854775808")),
        *(("integer", text) for text in ("0", "2147483647", "-2147483648")),
        *(("smallint", text) for text in ("0", "32767", "-32768")),
        ("uuid", UUID),
        *(("bpchar", text) for text in ("", "a", " a", "x" * 1024)),
        *(("text", text) for text in ("a", "a ", "鮨", " ", "it's", "x" * 1024)),
    ],
)
def test_an_id_as_postgresql_writes_it_can_be_an_id(id_type: str, text: str) -> None:
    assert can_be_id(id_type, text)


@pytest.mark.parametrize(
    ("id_type", "text"),
    [
        *(("bigint", text) for text in ("", "no-number", "007", "+7", "-0", "1.0", "1e3", " 7", "7\n", "٧", "0x7")),
        *(("bigint", text) for text in ("9223372036854775808", "-9223372036854775809", "9" * 40)),
        *(("integer", text) for text in ("2147483648", "-2147483649", "no-number")),
        *(("smallint", text) for text in ("32768", "-32769", "007", "no-number")),
        *(("bpchar", text) for text in (" ", "a ", "a\0b")),
        *(("uuid", text) for text in ("", UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", UUID[:-1], "no-uuid")),
        *(("text", text) for text in ("a\0b", "\ud800")),
    ],
)
def test_what_postgresql_never_writes_for_this_type_can_be_no_id(id_type: str, text: str) -> None:
    assert not can_be_id(id_type, text)
