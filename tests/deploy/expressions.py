"""The PromQL of the dashboard and of the alert rules, as committed, and the metrics that the daemon really has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from monitor.telemetry.metrics import Metrics
from tests.deploy.compose import DEPLOY

DASHBOARD_FILE = DEPLOY / "grafana" / "dashboards" / "ganwatch.json"
RULE_FILES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
# What Grafana puts in place of its variables: all replicas, and four scrapes.
GRAFANA_VARIABLES = {"$instance": ".+", "$__rate_interval": "1m"}
SAMPLE_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


@dataclass(frozen=True)
class Expression:
    """PromQL and where it stands."""

    where: str
    promql: str


def dashboard_expressions() -> list[Expression]:
    """All queries of all panels, Grafana's variables filled in."""
    document = json.loads(DASHBOARD_FILE.read_text(encoding="utf-8"))
    found = []
    for panel in document["panels"]:
        for target in panel.get("targets", []):
            promql = target["expr"]
            for variable, value in GRAFANA_VARIABLES.items():
                promql = promql.replace(variable, value)
            found.append(
                Expression(f"panel {panel['title']!r}, {target.get('legendFormat') or target['refId']}", promql)
            )
    return found


def alert_rules() -> list[dict[str, Any]]:
    """All alert rules of all files."""
    documents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in RULE_FILES]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def rule_expressions() -> list[Expression]:
    """The expression of each alert rule."""
    return [Expression(f"rule {rule['alert']}", rule["expr"]) for rule in alert_rules()]


def metric_names(promql: str) -> set[str]:
    """The metrics in an expression: what is left when strings, labels, functions and words are taken out."""
    bare = re.sub(r'"[^"]*"', "", promql)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    words = re.findall(r"(?<![\w:.])[A-Za-z_:][\w:]*(?!\s*\(|[\w:])", bare)
    return set(words) - {"and", "or", "unless", "bool", "offset", "by", "without", "sum", "max", "min", "count"}


def exposed_series() -> dict[str, set[str]]:
    """Name of each metric of the daemon -> names of its series, as its own registry describes them."""
    registry = CollectorRegistry()
    Metrics(registry)
    ProcessCollector(registry=registry)
    return {family.name: _series_names(family.name, family.type) for family in registry.collect()}


def _series_names(name: str, kind: str) -> set[str]:
    return {f"{name}{suffix}" for suffix in SAMPLE_SUFFIXES[kind]}


def all_expressions() -> Iterator[Expression]:
    """Those of the dashboard, then those of the rules."""
    yield from dashboard_expressions()
    yield from rule_expressions()
