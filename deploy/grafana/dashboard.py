"""Writes the dashboard `dashboards/ganwatch.json`: `python -m deploy.grafana.dashboard`.

What it shows is listed in `panels.py`; this turns the list into Grafana's format. A test regenerates the file and
compares, and runs every query against a live daemon.
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.panels import ROWS, Panel, Query

FILE = Path(__file__).parent / "dashboards" / "ganwatch.json"
UID = "ganwatch"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")


def build_target(panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
    """One query of a panel; stats and tables look at one moment, the others at the whole range."""
    target = prometheus.Dataquery().ref_id(ref_id).expr(query.expr).legend_format(query.legend).datasource(DATASOURCE)
    if panel.shape == "table":
        return target.instant().format(PromQueryFormat.TABLE)
    if panel.shape == "heatmap":
        return target.range().format(PromQueryFormat.HEATMAP)
    return target.range()


def build_panel(panel: Panel) -> Builder[models.Panel]:
    """The SDK's builder of a panel, with all that its shape needs."""
    builder = {"series": _series, "stat": _stat, "heatmap": _heatmap, "table": _table}[panel.shape]()
    builder.title(panel.title).description(panel.description).unit(panel.unit).datasource(DATASOURCE)
    builder.height(4 if panel.shape in {"stat", "table"} else 8).span(panel.width)
    for position, query in enumerate(panel.queries):
        builder.with_target(build_target(panel, query, chr(ord("A") + position)))
    return builder


def _series() -> timeseries.Panel:
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    return timeseries.Panel().min(0).line_width(1).fill_opacity(10).legend(legend).tooltip(tooltip)


def _stat() -> stat.Panel:
    newest = common_builders.ReduceDataOptions().calcs(["lastNotNull"])
    return stat.Panel().reduce_options(newest).graph_mode(common.BigValueGraphMode.AREA)


def _heatmap() -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Spectral").steps(64)
    # An exponent below 1: otherwise the few high scores, which matter, vanish beside the many low ones.
    colours.scale(heatmap_models.HeatmapColorScale.EXPONENTIAL).exponent(0.3)
    return heatmap.Panel().calculate(False).color(colours)


def _table() -> table.Panel:
    hidden = {"Time": True, "Value": True, "__name__": True, "job": True}
    return table.Panel().with_transformation(
        models.DataTransformerConfig(id_val="organize", options={"excludeByName": hidden})
    )


def build_dashboard() -> models.Dashboard:
    """The whole dashboard; its ids are numbered in order of appearance, so that the file is the same each time."""
    instances = dashboards.QueryVariable("instance").label("Replica").datasource(DATASOURCE)
    instances.query("label_values(ganwatch_ready, instance)").refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    instances.multi(True).include_all(True).all_value(".+")
    instances.current(models.VariableOption(selected=True, text="All", value="$__all"))
    board = dashboards.Dashboard("ganwatch").uid(UID).tags(["ganwatch"]).timezone("browser").readonly()
    board.description("The monitor for tabular anomalies. Generated from deploy/grafana/panels.py.")
    board.time("now-1h", "now").refresh("15s").tooltip(models.DashboardCursorSync.CROSSHAIR)
    board.with_variable(dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board.with_variable(instances)
    for title, panels in ROWS:
        board.with_row(dashboards.Row(title))
        for panel in panels:
            board.with_panel(build_panel(panel))
    dashboard = board.build()
    for number, panel in enumerate(dashboard.panels or [], start=1):
        panel.id_val = number
    return dashboard


def dashboard_json() -> str:
    """The file's content."""
    document: str = JSONEncoder(sort_keys=True, indent=2).encode(build_dashboard())
    return f"{document}\n"


if __name__ == "__main__":
    FILE.write_text(dashboard_json(), encoding="utf-8")
