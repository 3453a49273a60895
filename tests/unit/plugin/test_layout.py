"""What the verbs print fits into a terminal, and is one line for each object where there is none."""

import json
from datetime import timedelta

import pytest
import yaml

from kubectl_embeddings.layout import Format, duration, objects, paragraph, parsed_duration, table
from tests.support.fake_requests import source_body

ROWS = [["businesses", "a sentence of several words"], ["b", "c"]]


def test_the_columns_of_a_table_begin_below_each_other() -> None:
    assert table(("SOURCE", "WHY"), ROWS) == ("SOURCE      WHY\nbusinesses  a sentence of several words\nb           c")


def test_the_widest_column_is_shortened_where_the_terminal_is_narrow() -> None:
    lines = table(("SOURCE", "WHY"), ROWS, width=24).splitlines()
    assert lines[1] == "businesses  a sentence …"
    assert max(map(len, lines)) == 24


def test_a_table_stays_readable_in_a_terminal_that_is_much_too_narrow() -> None:
    assert table(("SOURCE", "WHY"), ROWS, width=5).splitlines()[1] == "busines…  a sente…"


def test_a_line_break_in_a_cell_breaks_no_row() -> None:
    assert table(("A",), [["one\n two"]]) == "A\none two"


def test_a_paragraph_is_wrapped_in_a_terminal_and_one_line_elsewhere() -> None:
    assert paragraph("one two\nthree four five six", width=20) == "  one two three four\n    five six"
    assert paragraph("one two\nthree four five six") == "  one two three four five six"


def test_a_command_in_a_paragraph_is_not_broken_within_a_word() -> None:
    assert "--source=businesses" in paragraph("try kubectl embeddings replay --source=businesses", width=20)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (200_000, "2d")],
)
def test_a_duration_is_in_one_unit(seconds: int, expected: str) -> None:
    assert duration(timedelta(seconds=seconds)) == expected


def test_no_duration_is_an_empty_cell() -> None:
    assert duration(None) == ""


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("2h", 7_200), ("1d", 86_400), ("1h30m", 5_400)]
)
def test_a_duration_is_read_in_several_units(text: str, seconds: int) -> None:
    assert parsed_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-1h", "1.5h"])
def test_a_duration_of_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write 30s, 15m, 2h, 1d or 1h30m"):
        parsed_duration(text)


@pytest.mark.parametrize(("output", "parse"), [(Format.JSON, json.loads), (Format.YAML, yaml.safe_load)])
def test_objects_are_printed_as_a_list_without_managed_fields(output: Format, parse: object) -> None:
    assert callable(parse)
    found = parse(objects("EmbeddingSource", [source_body("a")], output))
    assert (found["apiVersion"], found["kind"]) == ("v1", "List")
    (item,) = found["items"]
    assert (item["apiVersion"], item["kind"]) == ("embeddings.yellowbook.dev/v1alpha1", "EmbeddingSource")
    assert "managedFields" not in item["metadata"]
