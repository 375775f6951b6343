"""Writes Grafana's copy of the Prometheus alert rules: `python -m deploy.grafana.alerts`.

The rules are written once, in `deploy/prometheus/rules/`. Prometheus calls each series that a rule's expression returns
an alert, whatever its value; Grafana wants a number above zero. So each rule becomes three steps: the same expression,
`1` for each series it returned, and `above 0`. A test regenerates the file and compares.
"""

from __future__ import annotations

from pathlib import Path

import yaml

RULES = Path(__file__).parent.parent / "prometheus" / "rules"
FILE = Path(__file__).parent / "provisioning" / "alerting" / "ganwatch.yml"
HEADER = "# Generated from deploy/prometheus/rules/ by `python -m deploy.grafana.alerts`.\n"
# The uid in provisioning/datasources/prometheus.yml, and Grafana's name for its own expressions.
DATASOURCE_UID = "prometheus"
EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
INTERVAL = "15s"

Document = dict[str, object]


def grafana_rule(rule: Document) -> Document:
    """One alert rule of Prometheus in Grafana's format."""
    annotations = {key: _as_grafana_template(text) for key, text in dict(rule["annotations"]).items()}  # type: ignore[call-overload]
    return {
        "uid": str(rule["alert"]),
        "title": rule["alert"],
        "condition": "C",
        "data": [_query(str(rule["expr"])), _is_returned(), _above_zero()],
        "noDataState": "OK",
        "execErrState": "Error",
        "for": rule["for"],
        "annotations": annotations,
        "labels": rule["labels"],
    }


def _as_grafana_template(text: str) -> str:
    """In Grafana `$value` is a text about all steps; the number of the expression is `$values.A.Value`."""
    return text.replace("$value ", "$values.A.Value ")


def _query(expr: str) -> Document:
    model = {"refId": "A", "expr": expr.strip(), "instant": True, "range": False, "intervalMs": 15000}
    return _step("A", DATASOURCE_UID, model | {"datasource": {"type": "prometheus", "uid": DATASOURCE_UID}})


def _is_returned() -> Document:
    expression = "is_number($A) || is_nan($A) || is_inf($A)"
    return _step("B", "__expr__", {"refId": "B", "type": "math", "expression": expression, "datasource": EXPRESSION})


def _above_zero() -> Document:
    conditions = [{"evaluator": {"type": "gt", "params": [0]}}]
    model = {"refId": "C", "type": "threshold", "expression": "B", "conditions": conditions}
    return _step("C", "__expr__", model | {"datasource": EXPRESSION})


def _step(ref_id: str, datasource_uid: str, model: Document) -> Document:
    time_range = {"from": 600, "to": 0}
    return {"refId": ref_id, "datasourceUid": datasource_uid, "relativeTimeRange": time_range, "model": model}


def alerting_document() -> Document:
    """All rule files as one document of Grafana's file provisioning."""
    groups = []
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            rules = [grafana_rule(rule) for rule in group["rules"]]
            groups.append(
                {"orgId": 1, "name": group["name"], "folder": "ganwatch", "interval": INTERVAL, "rules": rules}
            )
    return {"apiVersion": 1, "groups": groups}


class _NoAliases(yaml.SafeDumper):
    """Writes a value that occurs twice twice."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def alerting_yaml() -> str:
    """The file's content."""
    return HEADER + yaml.dump(alerting_document(), Dumper=_NoAliases, sort_keys=False, width=10_000, allow_unicode=True)


if __name__ == "__main__":
    FILE.write_text(alerting_yaml(), encoding="utf-8")
