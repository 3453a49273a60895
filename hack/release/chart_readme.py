"""The table of values in the chart's README, from the comments in its values.yaml.

`make format` writes it, and a test compares it. A comment right above a key describes it. A mapping whose keys are in the
chart's schema has a line for each key; what Kubernetes defines, such as resources, is shown as one value. helm-docs can't
make this table: it reads comments with its own marker only, and leaves out the keys without a comment below a mapping with one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from hack.repository import CHART

VALUES = CHART / "values.yaml"
SCHEMA = CHART / "values.schema.json"
README = CHART / "README.md"
BEGIN = "<!-- Made from values.yaml by `make format`: change the comments there. -->\n"
END = "<!-- Here ends what is made. -->\n"


@dataclass(frozen=True)
class Value:
    """One line of the table. `default` is JSON; None for a mapping whose keys follow."""

    key: str
    description: str
    default: str | None

    def line(self) -> str:
        default = "" if self.default is None else f"`{self.default}`"
        return f"| `{self.key}` | {default} | {self.description} |".replace("|  |", "| |")


def values_of(text: str, schema: Mapping[str, Any]) -> list[Value]:
    """Every value of this values.yaml, in its order."""
    written = yaml.compose(text, Loader=yaml.SafeLoader)  # with the position of each key
    return list(_values(written, yaml.safe_load(text), text.splitlines(), schema, prefix=""))


def _values(
    written: Any, values: Mapping[str, Any], lines: list[str], schema: Mapping[str, Any], *, prefix: str
) -> Iterator[Value]:
    for key, node in written.value:
        path = f"{prefix}{key.value}"
        description = comment_above(lines, key.start_mark.line)
        below = schema["properties"].get(key.value, {})
        if "properties" in below:
            if description:
                yield Value(path, description, None)
            yield from _values(node, values[key.value], lines, below, prefix=f"{path}.")
        else:
            yield Value(path, description, json.dumps(values[key.value], ensure_ascii=False))


def comment_above(lines: list[str], number: int) -> str:
    """The comment that ends right above this line (the first is 0), as one line; empty where there is none."""
    words: list[str] = []
    while number > 0 and lines[number - 1].strip().startswith("#"):
        number -= 1
        words.insert(0, lines[number].strip().removeprefix("#").strip())
    return " ".join(words)


def table(values: list[Value]) -> str:
    return (
        "\n".join(["| value | default | what it is |", "| --- | --- | --- |", *(value.line() for value in values)])
        + "\n"
    )


def with_table(readme: str, made: str) -> str:
    """The README with this table between BEGIN and END."""
    before, _, table_and_after = readme.partition(BEGIN)
    _, _, after = table_and_after.partition(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def up_to_date_readme() -> str:
    values = values_of(VALUES.read_text(), json.loads(SCHEMA.read_text()))
    return with_table(README.read_text(), table(values))


if __name__ == "__main__":
    README.write_text(up_to_date_readme())
