"""The dashboard as Grafana reads it, made with Grafana's own library. Called by __main__.py; a test compares the chart's file.

The JSON is that of Grafana 11, which later versions read too.
"""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode, LegendDisplayMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from hack.dashboard.panels import GREEN, Kind, Panel, Query, Row
from hack.dashboard.queries import HERE
from hack.dashboard.rows import ROWS
from hack.repository import CHART

FILE = CHART / "files" / "dashboard.json"
UID = "embedding-operator"
SOURCE_OF_DATA = DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = VariableOption(selected=True, text=["All"], value=["$__all"])
RUNBOOK = "https://github.com/yellowbook-dev/embedding-operator/blob/main/docs/runbook.md"
Builder = stat.Panel | timeseries.Panel | statetimeline.Panel | bargauge.Panel | table.Panel


def dashboard_json() -> str:
    """The content of the chart's file."""
    return json.dumps(dashboard_of(ROWS).build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def dashboard_of(rows: tuple[Row, ...]) -> dashboard.Dashboard:
    made = (
        dashboard.Dashboard("Embedding operator")
        .uid(UID)
        .description("Sources, jobs, provider, dead letters, backfills and processes of one release.")
        .tags(["embedding-operator", "postgresql"])
        .readonly()
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-6h", "now")
        .refresh("1m")
        .variables(variables())
        .annotation(alerts())
        .link(dashboard.DashboardLink("Runbook").type(DashboardLinkType.LINK).url(RUNBOOK).target_blank(True))
    )
    numbers = count(1)
    for row in rows:
        made.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            made.with_panel(panel_of(panel).id(next(numbers)))
    return made


def variables() -> list[Any]:
    """What the person who looks at it chooses: a Prometheus, a namespace, and some or all of its sources."""
    namespace = "label_values(embedding_operator_build_info, namespace)"
    source = f"label_values(embedding_operator_source_condition{{{HERE}}}, source)"
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        chosen("namespace", "Namespace", namespace),
        chosen("source", "Source", source).multi(True).include_all(True).all_value(".*").current(ALL),
    ]


def chosen(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query({"query": query, "refId": name})
        .datasource(SOURCE_OF_DATA)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def alerts() -> dashboard.AnnotationQuery:
    """A mark in each panel where an alert fires."""
    firing = f'ALERTS{{{HERE}, alertname=~"EmbeddingOperator.+", alertstate="firing"}}'
    return (
        dashboard.AnnotationQuery()
        .name("Alerts")
        .datasource(SOURCE_OF_DATA)
        .enable(True)
        .icon_color("red")
        .expr(firing)
    )


def panel_of(panel: Panel) -> Builder:
    made = MAKERS[panel.kind](panel)
    made.title(panel.title).description(panel.description).unit(panel.unit).height(panel.height).span(panel.width)
    made.datasource(SOURCE_OF_DATA).thresholds(thresholds(panel))
    for number, query in enumerate(panel.queries):
        made.with_target(target(query, chr(ord("A") + number), panel.kind))
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    if panel.maximum is not None:
        made.min(0).max(panel.maximum)
    if panel.words:
        made.mappings([mapping(panel)])
    return made


def target(query: Query, letter: str, kind: Kind) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter)
    if kind is Kind.TABLE:
        return made.instant().format(PromQueryFormat.TABLE)
    return made.instant() if kind is Kind.BARS else made.range()


def thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(color=GREEN), *(Threshold(value, color) for value, color in panel.steps)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def mapping(panel: Panel) -> ValueMap:
    return ValueMap({value: ValueMappingResult(text=word, color=color) for value, (word, color) in panel.words.items()})


def a_stat(panel: Panel) -> stat.Panel:
    return (
        stat.Panel().graph_mode(BigValueGraphMode.AREA).color_mode(BigValueColorMode.VALUE).reduce_options(last_value())
    )


def last_value() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def lines(panel: Panel) -> timeseries.Panel:
    """A query that is dashed gets an override, because all lines of a panel have one style."""
    made = timeseries.Panel().show_points(VisibilityMode.NEVER).fill_opacity(8).axis_soft_min(0)
    made.legend(common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST))
    for number, query in enumerate(panel.queries):
        if query.dashed:
            dashes = DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]})
            made.override_by_query(chr(ord("A") + number), [dashes, DynamicConfigValue("custom.fillOpacity", 0)])
    return made


def states(panel: Panel) -> statetimeline.Panel:
    return statetimeline.Panel().merge_values(True).show_value(VisibilityMode.AUTO)


def bars(panel: Panel) -> bargauge.Panel:
    return bargauge.Panel().reduce_options(last_value())


def a_table(panel: Panel) -> table.Panel:
    """Without the time of the answer, which is the same in each line."""
    without_time = DataTransformerConfig("organize", options={"excludeByName": {"Time": True}})
    return table.Panel().with_transformation(without_time)


MAKERS: dict[Kind, Callable[[Panel], Builder]] = {
    Kind.STAT: a_stat,
    Kind.LINES: lines,
    Kind.STATES: states,
    Kind.BARS: bars,
    Kind.TABLE: a_table,
}
