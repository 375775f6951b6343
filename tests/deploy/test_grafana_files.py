"""The committed dashboard and alerts are what their generators write, and use only metrics that exist."""

from __future__ import annotations

import json

import pytest
import yaml

from deploy.grafana import alerts, dashboard
from tests.deploy.compose import DEPLOY
from tests.deploy.expressions import (
    Expression,
    alert_rules,
    all_expressions,
    dashboard_expressions,
    exposed_series,
    metric_names,
)

PROVISIONING = DEPLOY / "grafana" / "provisioning"


def test_the_dashboard_is_what_its_generator_writes() -> None:
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.dashboard_json(), (
        "run python -m deploy.grafana.dashboard"
    )


def test_the_alerts_in_grafana_are_generated_from_the_rules_of_prometheus() -> None:
    assert alerts.FILE.read_text(encoding="utf-8") == alerts.alerting_yaml(), "run python -m deploy.grafana.alerts"


def test_grafana_evaluates_each_rule_of_prometheus_with_the_same_expression_and_patience() -> None:
    document = yaml.safe_load(alerts.FILE.read_text(encoding="utf-8"))
    rules = {rule["title"]: rule for group in document["groups"] for rule in group["rules"]}
    assert len({rule["uid"] for rule in rules.values()}) == len(rules)
    expected = {rule["alert"]: (rule["expr"].strip(), rule["for"], rule["labels"]) for rule in alert_rules()}
    assert {
        name: (rule["data"][0]["model"]["expr"], rule["for"], rule["labels"]) for name, rule in rules.items()
    } == expected


def test_no_annotation_prints_grafanas_list_of_all_values() -> None:
    assert "$value " not in alerts.FILE.read_text(encoding="utf-8")


def test_queries_go_to_the_data_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert [source["uid"] for source in sources] == [alerts.DATASOURCE_UID]
    document = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
    assert {target["datasource"]["uid"] for panel in panels for target in panel["targets"]} == {"${datasource}"}


def test_the_panels_fill_their_rows_and_do_not_overlap() -> None:
    document = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in document["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])


def test_each_panel_says_what_to_look_for() -> None:
    document = json.loads(dashboard.FILE.read_text(encoding="utf-8"))
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in panels if not panel.get("description")] == []


@pytest.mark.parametrize("expression", list(all_expressions()), ids=lambda expression: expression.where)
def test_expressions_use_only_metrics_that_the_daemon_has(expression: Expression) -> None:
    known = set().union(*exposed_series().values()) | {"up"}
    assert metric_names(expression.promql), expression.promql
    assert metric_names(expression.promql) - known == set()


def test_each_metric_of_the_daemon_is_shown_or_watched() -> None:
    used = {name for expression in all_expressions() for name in metric_names(expression.promql)}
    own = {name: series for name, series in exposed_series().items() if name.startswith("ganwatch_")}
    assert [name for name, series in own.items() if not series & used] == []


def test_metric_names_are_found_between_functions_labels_and_words() -> None:
    promql = (
        'sum by (le) (rate(a_total{b="c_total"}[5m])) / on (job) d:e unless max_f > 1e3 and time() - h < 0.2 * count(i)'
    )
    assert metric_names(promql) == {"a_total", "d:e", "max_f", "h", "i"}


def test_the_dashboard_has_a_query_for_each_thing_an_operator_asks_for() -> None:
    wanted = {
        "ganwatch_records_consumed_total",
        "ganwatch_records_scored_total",
        "ganwatch_records_flagged_total",
        "ganwatch_records_dead_lettered_total",
        "ganwatch_target_alert_rate_ratio",
        "ganwatch_lag_records",
        "ganwatch_lag_seconds",
        "ganwatch_score_bucket",
        "ganwatch_end_to_end_latency_seconds_bucket",
        "ganwatch_stage_seconds_total",
        "ganwatch_batch_rows_bucket",
        "ganwatch_waiting",
        "ganwatch_model_info",
        "ganwatch_model_created_timestamp_seconds",
        "ganwatch_imputed_values_total",
        "ganwatch_rebalances_total",
        "ganwatch_last_commit_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    }
    assert wanted - {name for entry in dashboard_expressions() for name in metric_names(entry.promql)} == set()
