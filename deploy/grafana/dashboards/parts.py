"""The pieces that all dashboards are made of.

The one rule: they look alike. Same variables, same legend, and each panel says in words what it shows.
"""

import string
from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Series = tuple[str, str]
"""An expression, and the legend of its series: `{{label}}` stands for a label's value."""

Lines = timeseries.Panel
Number = stat.Panel
Listing = table.Panel
Funnel = bargauge.Panel
Panel = Lines | Number | Listing | Funnel

_SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


def board(name: str, title: str, what: str) -> dashboard.Dashboard:
    """A dashboard without panels: `name` is in its address and its file, `what` says what it answers."""
    links = dashboard.DashboardLink("Towpath").type(model.DashboardLinkType.DASHBOARDS).tags(["towpath"])
    return (
        dashboard.Dashboard(f"Towpath: {title}")
        .uid(f"towpath-{name}")
        .description(what)
        .tags(["towpath"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .link(links.as_dropdown(False).keep_time(True).include_vars(True))
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def chosen(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """A variable over the values that a label of a metric has; all of them unless the user chooses."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
    )


def filled(made: dashboard.Dashboard, sections: Mapping[str, Sequence[Panel]]) -> dashboard.Dashboard:
    """The dashboard with its panels, section by section. One without a title has no heading."""
    for title, panels in sections.items():
        if title:
            made.with_row(dashboard.Row(title))
        for panel in panels:
            made.with_panel(panel)
    return made


def lines(title: str, what: str, unit: str, *series: Series, width: int = 12, stacked: bool = False) -> Lines:
    """Series over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(what)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(look.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).placement(look.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL))
    for letter, (expression, legend) in zip(string.ascii_uppercase, series, strict=False):
        panel.with_target(_query(expression, legend, letter))
    return panel


def number(title: str, what: str, unit: str, expression: str, *, steps: Sequence[tuple[float, str]] = ()) -> Number:
    """One figure of now, with its past behind it. From each of `steps` on it has that colour; below the first it is green."""
    colours = [model.Threshold(None, "green"), *(model.Threshold(value, colour) for value, colour in steps)]
    return (
        stat.Panel()
        .title(title)
        .description(what)
        .datasource(_SOURCE)
        .unit(unit)
        .span(4)
        .height(4)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(look.BigValueColorMode.VALUE)
        .thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(colours))
        .with_target(_query(expression, "", "A"))
    )


def funnel(title: str, what: str, *series: Series, width: int = 12) -> Funnel:
    """Bars of now, one below the other: the legend of each series, then how much it is."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(what)
        .datasource(_SOURCE)
        .unit("short")
        .decimals(0)
        .min(0)
        .span(width)
        .height(8)
        .orientation(look.VizOrientation.HORIZONTAL)
        .display_mode(look.BarGaugeDisplayMode.BASIC)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    )
    for letter, (expression, legend) in zip(string.ascii_uppercase, series, strict=False):
        panel.with_target(_query(expression, legend, letter).instant())
    return panel


def listing(title: str, what: str, unit: str, expression: str, *, width: int = 12) -> Listing:
    """A table of now: a row for each series, its labels as columns."""
    hidden = {"Time": True, "__name__": True, "instance": True, "job": True}
    query = _query(expression, "", "A").instant().format(PromQueryFormat.TABLE)
    return (
        table.Panel()
        .title(title)
        .description(what)
        .datasource(_SOURCE)
        .unit(unit)
        .span(width)
        .height(8)
        .show_header(True)
        .with_transformation(model.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden}))
        .with_target(query)
    )


def _query(expression: str, legend: str, letter: str) -> prometheus.Dataquery:
    """Quantiles come with exemplars: dots that lead to the trace of one record."""
    query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(letter)
    return query.exemplar(True) if expression.startswith("histogram_quantile") else query
