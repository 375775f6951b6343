"""The services of `docker-compose.yml` as processes: the same commands and settings, a real Kafka, a real Prometheus.

It holds where there is no Docker engine. Paths, hosts and ports are mapped to this machine; nothing else is changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.compose import DEPLOY, GANWATCH_BIN, LocalStack, load_compose
from tests.deploy.expressions import Expression, dashboard_expressions, rule_expressions
from tests.deploy.prometheus_server import Prometheus, wait_until
from tests.deploy.test_images import MONITOR, health_check
from tests.kafka_broker import KafkaBroker, free_port, missing_tool

pytestmark = [pytest.mark.deploy, pytest.mark.broker, pytest.mark.training]

HISTORY_TIMEOUT_S = 120
TRAINING_TIMEOUT_S = 420
START_TIMEOUT_S = 60
# Five scrapes, so that every rate over a minute has something to stand on.
SCRAPES = 5
SCRAPE_TIMEOUT_S = 150
# Empty in a healthy stack: nothing has read settings again.
MAY_BE_EMPTY = {"panel 'Settings read again', {{outcome}}"}
# Where a broker listens and where it keeps its data is the machine's business, not the compose file's.
OF_THE_MACHINE = {
    "KAFKA_CONTROLLER_QUORUM_VOTERS",
    "KAFKA_LISTENERS",
    "KAFKA_ADVERTISED_LISTENERS",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    "KAFKA_LOG_DIRS",
    "KAFKA_HEAP_OPTS",
}


def kafka_properties() -> dict[str, str]:
    """The broker's settings in the compose file, under Kafka's own names."""
    environment = load_compose()["services"]["kafka"]["environment"]
    ours = {key: value for key, value in environment.items() if key not in OF_THE_MACHINE}
    return {key.removeprefix("KAFKA_").lower().replace("_", "."): value for key, value in ours.items()}


# The payments of the past were all honest, those of the present are not.
TRUE_ALERT = "GanwatchDrift"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Kafka runs; the other services can be started."""
    if shutil.which("prometheus") is None:
        missing_tool("prometheus is not installed (Debian package prometheus)")
    if not GANWATCH_BIN.exists():
        missing_tool("ganwatch is not installed in this environment")
    folder = tmp_path_factory.mktemp("stack")
    monitor, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(2))
    with KafkaBroker(folder / "kafka", kafka_properties()) as kafka:
        rewrite = {
            "kafka:9092": kafka.bootstrap,
            "0.0.0.0:9090": prometheus,
            "monitor:9464": monitor,
            "9464": monitor.split(":")[1],
            "0.0.0.0": "127.0.0.1",  # noqa: S104
        }
        local = LocalStack(folder, rewrite)
        local.bind["./prometheus"] = prometheus_folder(folder, monitor)
        try:
            yield local
        finally:
            local.stop()


def prometheus_folder(folder: Path, monitor: str) -> Path:
    """A copy of `deploy/prometheus` that differs from it in the address of the monitor only."""
    copy = shutil.copytree(DEPLOY / "prometheus", folder / "prometheus")
    config = copy / "prometheus.yml"
    text = config.read_text(encoding="utf-8")
    assert text.count("monitor:9464") == 1
    config.write_text(text.replace("monitor:9464", monitor), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def history(stack: LocalStack) -> LocalStack:
    """The payments of the past are in the topic."""
    status = stack.start("history").wait(timeout=HISTORY_TIMEOUT_S)
    assert status == 0, stack.log("history")
    return stack


@pytest.fixture(scope="module")
def trained(history: LocalStack) -> LocalStack:
    """The registry holds a model, and a monitor that was started too early has ended."""
    status = history.start("monitor").wait(timeout=START_TIMEOUT_S)
    assert status == 4, history.log("monitor")
    status = history.start("trainer").wait(timeout=TRAINING_TIMEOUT_S)
    assert status == 0, history.log("trainer")
    return history


@pytest.fixture(scope="module")
def monitor(trained: LocalStack) -> LocalStack:
    """The monitor runs and its container would be called healthy."""
    process = trained.start("monitor")
    wait_until(
        lambda: process.poll() is None and is_healthy(trained),
        START_TIMEOUT_S,
        lambda: f"not healthy: {trained.log('monitor')}",
    )
    return trained


def is_healthy(stack: LocalStack) -> bool:
    """Runs the health check of the image, with this machine's Python and port."""
    _, *arguments = health_check(MONITOR)
    environment = {"GANWATCH_HTTP_PORT": stack.rewrite["9464"]}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture(scope="module")
def prometheus(monitor: LocalStack) -> Prometheus:
    """Prometheus has scraped the monitor for a while, as payments go by."""
    monitor.start("simulator")
    monitor.start("prometheus", shutil.which("prometheus"))
    server = Prometheus(monitor.rewrite["0.0.0.0:9090"])
    wait_until(
        lambda: (server.value("count_over_time(ganwatch_records_scored_total[5m])") or 0) >= SCRAPES,
        SCRAPE_TIMEOUT_S,
        lambda: f"no series: {monitor.log('prometheus')} {monitor.log('monitor')}",
    )
    return server


def test_the_health_check_fails_where_no_monitor_listens(stack: LocalStack) -> None:
    nobody = LocalStack(stack.folder, {"9464": str(free_port())})
    assert not is_healthy(nobody)


def test_the_monitor_scores_the_simulated_stream(prometheus: Prometheus) -> None:
    records = {
        name: prometheus.value(f"ganwatch_records_{name}_total") or 0.0 for name in ("consumed", "scored", "flagged")
    }
    published = 20_000
    assert records["consumed"] >= records["scored"] > published
    assert 0 < records["flagged"] < 0.1 * records["scored"]
    assert prometheus.value("sum(ganwatch_records_dead_lettered_total)") == 0
    assert prometheus.value("ganwatch_score_count") == records["scored"]


def test_the_monitor_keeps_up_with_the_simulated_stream(prometheus: Prometheus) -> None:
    assert 100 < (prometheus.value("sum(rate(ganwatch_records_scored_total[1m]))") or 0.0) < 400
    assert (prometheus.value("sum(ganwatch_lag_records)") or 0.0) < 2_000
    assert prometheus.value("up") == 1
    assert prometheus.value("ganwatch_ready") == 1


def test_the_monitor_says_which_model_is_in_service(prometheus: Prometheus) -> None:
    (series,) = prometheus.query("ganwatch_model_info")
    assert series["metric"]["name"] == "payments"
    assert {"version", "detector"} <= set(series["metric"])


@pytest.mark.parametrize("expression", dashboard_expressions(), ids=lambda expression: expression.where)
def test_each_query_of_the_dashboard_returns_data(prometheus: Prometheus, expression: Expression) -> None:
    series = prometheus.query(expression.promql)
    assert series or expression.where in MAY_BE_EMPTY


@pytest.mark.parametrize("expression", rule_expressions(), ids=lambda expression: expression.where)
def test_each_rule_can_be_evaluated_and_finds_nothing_wrong(prometheus: Prometheus, expression: Expression) -> None:
    assert prometheus.query(expression.promql) == [] or expression.where == f"rule {TRUE_ALERT}"


def test_prometheus_evaluates_the_rules_without_an_error(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {
        expression.where.removeprefix("rule ") for expression in rule_expressions()
    }
    assert {rule["health"] for rule in rules} == {"ok"}
    assert set(prometheus.alerts()) <= {TRUE_ALERT}


# The last one: it ends the monitor.
def test_a_monitor_that_ends_raises_an_alert(prometheus: Prometheus, monitor: LocalStack) -> None:
    process = monitor.processes["monitor"]
    process.terminate()
    assert process.wait(timeout=15) == 0, monitor.log("monitor")
    wait_until(
        lambda: prometheus.alerts().get("GanwatchDown") == "pending", 60, lambda: f"alerts: {prometheus.alerts()}"
    )
