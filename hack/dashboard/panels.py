"""What a row of the dashboard is made of, without any detail of Grafana. Pure; filled by rows.py, read by grafana.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
Words = Mapping[str, tuple[str, str]]
"""A value → the word that is shown for it, and its color."""


class Kind(StrEnum):
    """How the answers of a panel's queries are drawn, in Grafana's words."""

    STAT = "stat"
    LINES = "timeseries"
    STATES = "state-timeline"
    BARS = "bargauge"
    TABLE = "table"


@dataclass(frozen=True)
class Query:
    """In PromQL. `legend` is a template over the labels of an answer."""

    expr: str
    legend: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """`unit` is one of Grafana's. A color of `steps` holds from its value on, and green below the first one."""

    title: str
    description: str
    kind: Kind
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    height: int = 7
    decimals: int | None = None
    maximum: float | None = None
    steps: tuple[tuple[float, str], ...] = ()
    words: Words = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
