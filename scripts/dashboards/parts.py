"""Panels, variables and links in the style that all dashboards share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "hotswap-proxy"
SOURCE = d.DataSourceRef("prometheus", "${datasource}")
# Where the pages of docs/ can be read; an operator sets it at the top of a dashboard.
DOCS = "https://docs.example.com/hotswap-proxy"
GREEN, ORANGE, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
Target = tuple[str, str]  # expression, legend
Steps = Sequence[tuple[float | None, str]]  # from this value on, this colour; None: from the lowest
GOOD_IS_ZERO: Steps = ((None, GREEN), (1e-9, RED))
UP_DOWN = (("0", "down", RED), ("1", "up", GREEN))
NO_YES = (("0", "no", GREEN), ("1", "yes", RED))


def _query(expr: str, legend: str, ref: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref).datasource(SOURCE)


def _refs(targets: Sequence[Target]) -> list[tuple[str, str, str]]:
    return [(expr, legend, chr(ord("A") + index)) for index, (expr, legend) in enumerate(targets)]


def _steps(steps: Steps) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(d.ThresholdsMode.ABSOLUTE)
        .steps([d.Threshold(value, color) for value, color in steps])
    )


def mapped(values: Sequence[tuple[str, str, str]]) -> d.ValueMap:
    """Numbers as words: (value, text, colour)."""
    return d.ValueMap(
        {
            value: d.ValueMappingResult(text=shown, color=color, index=index)
            for index, (value, shown, color) in enumerate(values)
        }
    )


def graph(
    title: str,
    targets: Sequence[Target],
    unit: str,
    *,
    width: int = 12,
    height: int = 8,
    about: str = "",
    stacked: bool = False,
    lowest: float | None = 0,
    highest: float | None = None,
) -> timeseries.Panel:
    """Lines over time, with a legend that tells the last and the largest value."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(height)
        .line_width(1)
        .fill_opacity(20 if stacked else 5)
        .show_points(c.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.TABLE)
            .placement(c.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if lowest is not None:
        panel.min(lowest)
    if highest is not None:
        panel.max(highest)
    for target in _refs(targets):
        panel.with_target(_query(*target))
    return panel


def colored(panel: timeseries.Panel, color: str, *names: str) -> timeseries.Panel:
    for name in names:
        panel.override_by_name(name, [d.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])
    return panel


def threshold_line(panel: timeseries.Panel, name: str) -> timeseries.Panel:
    """Shows one series as the line that must not be crossed."""
    return panel.override_by_name(
        name,
        [
            d.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": RED}),
            d.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
            d.DynamicConfigValue("custom.lineWidth", 2),
            d.DynamicConfigValue("custom.fillOpacity", 0),
        ],
    )


def number(
    title: str,
    expr: str,
    unit: str,
    *,
    width: int = 4,
    steps: Steps = ((None, BLUE),),
    about: str = "",
    legend: str = "",
    values: Sequence[tuple[str, str, str]] = (),
    none: str = "–",
    decimals: int | None = None,
) -> stat.Panel:
    """One value now. With a legend and no values: the legend itself, for series that are 1."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(4)
        .no_value(none)
        .thresholds(_steps(steps))
        .color_mode(c.BigValueColorMode.VALUE)
        .graph_mode(c.BigValueGraphMode.NONE)
        .text_mode(c.BigValueTextMode.NAME if legend else c.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expr, legend or "value", "A").instant())
    )
    if decimals is not None:
        panel.decimals(decimals)
    if values:
        panel.mappings([mapped(values)])
    return panel


def states(
    title: str,
    expr: str,
    legend: str,
    values: Sequence[tuple[str, str, str]],
    *,
    width: int = 12,
    height: int = 8,
    about: str = "",
) -> statetimeline.Panel:
    """What was in which state when, a bar for each series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .span(width)
        .height(height)
        .mappings([mapped(values)])
        .show_value(c.VisibilityMode.AUTO)
        .merge_values(True)
        .fill_opacity(80)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .with_target(_query(expr, legend, "A"))
    )


def rows(
    title: str,
    columns: Sequence[tuple[str, str, str]],
    key: str,
    *,
    hidden: Sequence[str] = (),
    mappings: dict[str, Sequence[tuple[str, str, str]]] | None = None,
    links: dict[str, tuple[str, str]] | None = None,
    first: str = "",
    width: int = 24,
    height: int = 9,
    about: str = "",
) -> table.Panel:
    """A table joined by the label ``key``; columns are (heading, expression, unit)."""
    panel = (
        table.Panel()
        .title(title)
        .show_header(True)
        .description(about)
        .datasource(SOURCE)
        .span(width)
        .height(height)
    )
    renamed: dict[str, object] = {}
    for index, (heading, expr, unit) in enumerate(columns):
        ref = chr(ord("A") + index)
        panel.with_target(_query(expr, "", ref).instant().format(PromQueryFormat.TABLE))
        renamed[f"Value #{ref}"] = heading
        properties = [d.DynamicConfigValue("unit", unit)]
        if mappings and heading in mappings:
            properties.append(d.DynamicConfigValue("mappings", [mapped(mappings[heading]).to_json()]))
            properties.append(d.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(heading, properties)
    for field, (label, url) in (links or {}).items():
        panel.override_by_name(field, [d.DynamicConfigValue("links", [{"title": label, "url": url}])])
    exclude: dict[str, object] = dict.fromkeys(("Time", *hidden), True)
    panel.with_transformation(
        d.DataTransformerConfig("joinByField", options={"byField": key, "mode": "outer"})
    )
    exclude |= {f"Time {index + 1}": True for index in range(len(columns))}
    panel.with_transformation(
        d.DataTransformerConfig(
            "organize", options={"excludeByName": exclude, "renameByName": renamed, "indexByName": {key: 0}}
        )
    )
    if first:
        panel.sort_by([common.TableSortByFieldState().display_name(first).desc(True)])
    return panel


def note(title: str, markdown: str, *, width: int = 24, height: int = 4) -> text.Panel:
    return text.Panel().title(title).content(markdown).span(width).height(height)


def datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def traces() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("traces").label("Jaeger").type("jaeger")


def documentation() -> dashboard.TextBoxVariable:
    return (
        dashboard.TextBoxVariable("docs")
        .label("Documentation")
        .default_value(DOCS)
        .current(d.VariableOption(selected=True, text=DOCS, value=DOCS))
    )


def chosen(name: str, label: str, query: str, *, all_of_them: bool = True) -> dashboard.QueryVariable:
    """A variable with the values of a label; asked for when the time range changes, newest ids included."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC if all_of_them else d.VariableSort.ALPHABETICAL_DESC)
    )
    if all_of_them:
        everything = d.VariableOption(selected=True, text=["All"], value=["$__all"])
        variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable


def nodes() -> dashboard.QueryVariable:
    return chosen("node", "Node", "label_values(gateway_node_info, node)")


def traces_url(tags: dict[str, str] | None = None) -> str:
    """Grafana's Explore with the gateway's traces. Values of ``tags`` may be variables of the dashboard."""
    query: dict[str, str] = {"refId": "A", "queryType": "search", "service": "hotswap-proxy"}
    if tags:
        query["tags"] = " ".join(f"{name}={value}" for name, value in tags.items())
    pane = {
        "datasource": "${traces}",
        "queries": [query | {"datasource": {"type": "jaeger", "uid": "${traces}"}}],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = quote(json.dumps({"traces": pane}, separators=(",", ":")), safe="${}")
    return f"/explore?schemaVersion=1&panes={panes}&orgId=1"


def link(title: str, url: str, icon: str = "external link") -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(title).type(d.DashboardLinkType.LINK).url(url).icon(icon).target_blank(True)
    )


def runbook(title: str, anchor: str) -> dashboard.DashboardLink:
    return link(title, f"${{docs}}/runbooks.md#{anchor}", "doc")


def page(uid: str, title: str, about: str) -> dashboard.Dashboard:
    """An empty dashboard with what all have: links to each other, changes of the configuration as marks."""
    others = (
        dashboard.DashboardLink("Dashboards")
        .type(d.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    changes = (
        dashboard.AnnotationQuery()
        .name("Configuration changes")
        .datasource(SOURCE)
        .enable(True)
        .icon_color(BLUE)
        .expr("max(changes(gateway_config_revision[1m])) > 0")
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone("browser")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("15s")
        .readonly()
        .link(others)
        .annotation(changes)
        .with_variable(datasource())
    )
