"""The demo: its parts against real ones, and the whole of it, with training, broker and daemon, once."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import polars as pl
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from monitor.errors import ConfigError
from monitor.model.schema import Schema
from monitor.settings import Settings
from monitor.stream.topic_reader import read_topic
from monitor.telemetry.metrics import Metrics
from training.demo import DemoOptions, run_demo, terminate_as_interrupt
from training.demo_alerts import AlertReader
from training.demo_daemon import Daemon, DaemonFailed
from training.demo_material import Material, labelled_file, public_dataset, simulated_payments, write_material
from training.demo_scrape import parse_scrape, quantile
from training.demo_summary import DemoSummary, Outcome, compare, describe_summary
from training.demo_view import Moment, describe_reasons, view_for
from training.embedded_broker import API_VERSION, EmbeddedBroker
from training.fraud import FRAUDS
from training.payment_stream import NORMAL, SimulationConfig
from training.publish import Publisher
from training.simulate import SimulateOptions, run_simulate

ALERT = {
    "format": "ganwatch.alert/1",
    "record": {"topic": "features", "partition": 2, "offset": 17, "id": "p7"},
    "score": 88.25,
    "severity": "high",
    "attribution": [
        {"feature": "channel", "value": "online", "expected": "online", "share": 0.5},
        {"feature": "amount", "value": 412.5, "expected": 38.123, "share": 0.3},
        {"feature": "hour", "value": None, "expected": 12, "share": 0.1},
    ],
}


@pytest.fixture(scope="module")
def broker():
    with EmbeddedBroker(("features", "alerts", "dead-letters")) as running:
        yield running


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    return Settings.model_validate({"bootstrap_servers": broker.bootstrap_servers, "kafka_api_version": API_VERSION})


def metrics_after(scores: list[float], latencies: list[float], dead: int) -> str:
    """What a daemon with these records would say on /metrics."""
    metrics = Metrics(CollectorRegistry())
    metrics.scored.inc(len(scores))
    metrics.flagged.inc(sum(score >= 50 for score in scores))
    metrics.dead_lettered.labels("not_json").inc(dead)
    metrics.score.observe_many(np.array(scores))
    metrics.latency.observe_many(np.array(latencies))
    metrics.lag_records.labels("0").set(3)
    metrics.lag_records.labels("1").set(4)
    metrics.threshold.set(50.0)
    return generate_latest(metrics.registry).decode()


def test_a_scrape_reads_the_numbers_the_daemon_shows() -> None:
    scrape = parse_scrape(metrics_after([1.0, 12.0, 60.0], [0.02] * 3, dead=2))
    assert (scrape.scored, scrape.flagged, scrape.dead_lettered, scrape.done) == (3, 1, 2, 5)
    assert (scrape.lag, scrape.threshold, scrape.skipped) == (7, 50.0, 0)
    assert dict(scrape.score)[20.0] == 2
    assert scrape.score[-1] == (float("inf"), 3)


def test_a_quantile_is_interpolated_within_its_bucket() -> None:
    buckets = ((1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (float("inf"), 100.0))
    assert quantile(buckets, 0.25) == pytest.approx(1.5)
    assert quantile(buckets, 0.75) == pytest.approx(3.0)


def test_a_quantile_beyond_the_last_bound_is_that_bound_and_of_nothing_is_unknown() -> None:
    assert quantile(((1.0, 1.0), (float("inf"), 100.0)), 0.99) == 1.0
    assert quantile(((1.0, 0.0), (float("inf"), 0.0)), 0.5) is None
    assert quantile((), 0.5) is None


def material_of(kinds: list[str]) -> Material:
    table = pl.DataFrame({"x": [float(row) for row in range(len(kinds))]})
    return Material("six rows", "", table, table, np.array(kinds))


def test_alerts_are_compared_with_the_truth_row_by_row() -> None:
    material = material_of([NORMAL, "theft", NORMAL, "theft", "fire", NORMAL])
    positions = {(0, 0): 0, (0, 1): 1, (1, 0): 2, (1, 1): 3, (0, 2): 4, (1, 2): 5}
    found = compare(material, positions, [(0, 1), (0, 2), (1, 0), (0, 2)])
    assert (found.alerts, found.duplicates, found.anomalies) == (3, 1, 3)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(2 / 3)
    assert found.kinds == {"theft": Outcome(2, 1), "fire": Outcome(1, 1)}


def test_records_that_were_never_published_count_neither_as_found_nor_as_missed() -> None:
    found = compare(material_of([NORMAL, "theft", "theft"]), {(0, 0): 0, (0, 1): 1}, [(0, 1)])
    assert (found.anomalies, found.recall) == (1, 1.0)


def test_shares_of_nothing_are_unknown() -> None:
    found = compare(material_of([NORMAL, NORMAL]), {(0, 0): 0, (0, 1): 1}, [])
    assert found.precision is None
    assert found.recall is None


def summary_of(**changes: object) -> DemoSummary:
    figures = {
        "source": "simulated card payments", "records": 1000, "scored": 1000, "dead_letters": 0, "lost": 0, "alerts": 20,
        "duplicates": 0, "anomalies": 20, "precision": 0.9, "recall": 0.9, "kinds": {"card_testing": Outcome(20, 18)},
        "records_per_s": 500.0, "p50_latency_s": 0.02, "p99_latency_s": None, "train_s": 20.0, "start_s": 3.0, "total_s": 50.0,
        "workdir": "somewhere", "held_to_goals": True, "interrupted": False,
    }  # fmt: skip
    return DemoSummary(**(figures | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "exit_code"),
    [
        ({}, 0),
        ({"precision": 0.79}, 1),
        ({"recall": 0.79}, 1),
        ({"recall": None}, 1),
        ({"lost": 1}, 1),
        ({"recall": 0.2, "held_to_goals": False}, 0),
        ({"lost": 1, "held_to_goals": False}, 1),
        ({"recall": 0.2, "interrupted": True}, 130),
    ],
)
def test_the_exit_code_tells_missed_goals_and_lost_records(changes: dict[str, object], exit_code: int) -> None:
    assert summary_of(**changes).exit_code == exit_code


def test_the_summary_names_its_figures_files_and_problems() -> None:
    text = "\n".join(describe_summary(summary_of(lost=3)))
    for part in ("1,000 published", "precision 0.900", "18 of 20 found", "p50 20 ms, p99 -", "3 records were lost"):
        assert part in text
    assert "in somewhere: alerts.jsonl" in text


def test_the_reasons_of_an_alert_leave_out_values_that_were_expected() -> None:
    assert describe_reasons(ALERT) == "amount 412 → 38.1, hour missing → 12"


def test_when_every_value_was_expected_the_reasons_are_shown_all_the_same() -> None:
    assert describe_reasons(ALERT | {"attribution": ALERT["attribution"][:1]}) == "channel online → online"


def moment() -> Moment:
    scrape = parse_scrape(metrics_after([1.0, 12.0, 60.0], [0.02] * 3, dead=0))
    return Moment(elapsed_s=2.0, published=3, records=10, rate=1.5, scrape=scrape, alerts=[ALERT])


def test_a_terminal_shows_numbers_histogram_and_alerts() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with view_for(console) as view:
        view.show(moment())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("3 of 10", "60-70", "█", "88.2", "p7", "amount 412 → 38.1"):
        assert part in shown


def test_elsewhere_a_plain_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.demo_view.PLAIN_LINE_EVERY_S", 0.05)
    console = Console(file=io.StringIO(), width=140)
    with view_for(console) as view:
        view.show(moment())
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]
        time.sleep(0.06)
        view.show(moment())
    assert "3 of 10 records" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_contradicting_options_are_all_named(tmp_path: Path) -> None:
    options = DemoOptions(workdir=tmp_path, data=Path("x.csv"), dataset="kddcup99", records=0, rate=0.0)
    with pytest.raises(ConfigError) as caught:
        run_demo(options, Console(file=io.StringIO()))
    assert len(caught.value.problems) == 4


def test_the_simulated_stream_follows_the_honest_days_it_learns_from() -> None:
    material = simulated_payments(2000, anomaly_share=0.1, seed=5)
    assert set(material.kind.tolist()) == {NORMAL, *FRAUDS}
    assert material.train.get_column("paid_at").max() < material.stream.get_column("paid_at").min()  # type: ignore[operator]
    assert not set(material.train.get_column("payment_id")) & set(material.stream.get_column("payment_id"))


@pytest.fixture
def machine_log(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "event_id": [f"e{row:05d}" for row in range(600)],
            "machine.load": rng.normal(50.0, 5.0, 600).round(3),
            "machine.mode": rng.choice(["idle", "busy"], 600),
            "state": np.where(np.arange(600) % 10 == 0, "broken belt", "normal"),
        }
    )
    rows.write_csv(tmp_path / "machine log.csv")
    return tmp_path / "machine log.csv"


def test_a_file_is_halved_and_only_its_normal_rows_are_learned(machine_log: Path) -> None:
    material = labelled_file(machine_log, "state", records=1000, seed=0)
    anomalous = {f"e{row:05d}" for row in range(0, 600, 10)}
    train, stream = set(material.train.get_column("event_id")), material.stream.get_column("event_id").to_list()
    assert len(stream) == 300
    assert not train & set(stream)
    assert not train & anomalous
    assert material.kind.tolist() == ["broken belt" if event in anomalous else NORMAL for event in stream]
    assert "state" not in material.stream.columns


def test_a_file_s_schema_and_rows_are_written_as_the_daemon_reads_them(machine_log: Path, tmp_path: Path) -> None:
    material = labelled_file(machine_log, "state", records=50, seed=0)
    schema = write_material(material, tmp_path / "work")
    assert schema == Schema.load(tmp_path / "work" / "features.toml")
    assert (schema.id, schema.feature_names) == ("event_id", ("machine.load", "machine.mode"))
    first = json.loads((tmp_path / "work" / "stream.jsonl").read_text().splitlines()[0])
    assert first["machine"].keys() == {"load", "mode"}
    assert first["is_anomaly"] == bool(material.label[0])


def test_an_unknown_label_column_is_named_with_those_there_are(machine_log: Path) -> None:
    with pytest.raises(ConfigError, match=r"no column 'lable'.*event_id"):
        labelled_file(machine_log, "lable", records=10, seed=0)


def test_too_few_normal_rows_are_refused(machine_log: Path, tmp_path: Path) -> None:
    pl.read_csv(machine_log).head(50).write_csv(tmp_path / "few.csv")
    with pytest.raises(ConfigError, match="too few"):
        labelled_file(tmp_path / "few.csv", "state", records=10, seed=0)


def test_a_data_set_that_cannot_be_fetched_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("sklearn.datasets.fetch_kddcup99", unreachable)
    with pytest.raises(ConfigError, match="needs a network"):
        public_dataset("kddcup99", 10, seed=0)
    with pytest.raises(ConfigError, match="there is kddcup99"):
        public_dataset("iris", 10, seed=0)


def test_a_fetched_data_set_is_read_as_connections_with_named_attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    connections = np.array(
        [[int(n), rng.choice([b"tcp", b"udp"]), float(n) / 7] for n in rng.integers(0, 99, 400)], dtype=object
    )
    target = np.array([b"smurf." if row % 40 == 0 else b"normal." for row in range(400)], dtype=object)
    fetched = SimpleNamespace(data=connections, target=target, feature_names=["count", "protocol_type", "rate"])
    monkeypatch.setattr("sklearn.datasets.fetch_kddcup99", lambda **_: fetched)
    material = public_dataset("kddcup99", 1000, seed=0)
    assert set(material.kind.tolist()) == {NORMAL, "smurf"}
    assert set(material.stream.get_column("protocol_type")) == {"tcp", "udp"}
    assert material.stream.columns == ["count", "protocol_type", "rate"]


def test_every_published_record_arrives_once_at_the_place_that_was_reported(settings: Settings) -> None:
    topic = settings.model_copy(update={"features_topic": "arrivals", "create_topics": False})
    places: dict[tuple[int, int], int] = {}
    with EmbeddedBroker(("arrivals",)) as own:
        here = topic.model_copy(update={"bootstrap_servers": own.bootstrap_servers})
        publisher = Publisher(here)
        records = [(f"k{row}".encode(), f'{{"row": {row}}}'.encode()) for row in range(500)]
        sent = publisher.publish(
            records,
            rate=None,
            stop=threading.Event(),
            on_acknowledged=lambda number, partition, offset: places.__setitem__((partition, offset), number),
        )
        publisher.close()
        arrived = read_topic("arrivals", here, last=1000)
    assert sent == len(arrived) == len(places) == 500
    for record in arrived:
        assert (record.key, record.value) == records[places[record.partition, record.offset]]


def test_records_are_published_at_the_wanted_rate(settings: Settings) -> None:
    publisher = Publisher(settings)
    started = time.monotonic()
    assert publisher.publish([(None, b"{}")] * 300, rate=600.0, stop=threading.Event()) == 300
    assert 0.45 < time.monotonic() - started < 3.0
    publisher.close()


def test_publishing_stops_when_asked(settings: Settings) -> None:
    publisher = Publisher(settings)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert 0 < publisher.publish([(None, b"{}")] * 10_000, rate=100.0, stop=stop) < 1000
    publisher.close()


def test_simulate_without_a_broker_ends_with_one_clear_line() -> None:
    command = ["simulate", "--bootstrap-servers", "127.0.0.1:9", "--records", "10"]
    environment = os.environ | {"GANWATCH_BROKER_TIMEOUT_S": "0.5"}
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", *command], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 5
    assert re.fullmatch(r"ganwatch: Kafka at 127\.0\.0\.1:9: .*check bootstrap_servers.*\n", done.stderr)


def test_simulate_publishes_the_stream_keyed_by_card(settings: Settings) -> None:
    with EmbeddedBroker(("payments",)) as own:
        here = settings.model_copy(update={"bootstrap_servers": own.bootstrap_servers, "features_topic": "payments"})
        simulation = SimulationConfig(payments_per_day=400)
        summary = run_simulate(
            SimulateOptions(settings=here, simulation=simulation, records=1000), Console(file=io.StringIO())
        )
        arrived = read_topic("payments", here, last=2000)
    assert summary.records == len(arrived) == 1000
    contents = [json.loads(record.value) for record in arrived]
    assert sorted(content["payment_id"] for content in contents) == [f"p{number:010d}" for number in range(1000)]
    assert all(record.key.decode() == content["card_id"] for record, content in zip(arrived, contents, strict=True))


def test_alerts_are_read_and_kept_in_a_file(settings: Settings, tmp_path: Path) -> None:
    publisher = Publisher(settings.model_copy(update={"features_topic": "alerts", "alerts_topic": "other"}))
    publisher.publish([(None, json.dumps(ALERT).encode())] * 3, rate=None, stop=threading.Event())
    publisher.close()
    with AlertReader(settings, tmp_path / "alerts.jsonl") as reader:
        deadline = time.monotonic() + 10
        while len(reader.alerts) < 3 and time.monotonic() < deadline:
            reader.poll(0.2)
    assert reader.alerts == [ALERT] * 3
    assert [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()] == [ALERT] * 3


def test_a_daemon_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "ganwatch.toml").write_text("no_such_setting = 1\n")
    with Daemon(tmp_path) as daemon, pytest.raises(DaemonFailed, match=r"exit code 2[^\0]*no_such_setting"):
        daemon.wait_until_ready(30.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoSummary, Path, str]:
    """A whole demo, smaller than the default one."""
    folder = tmp_path_factory.mktemp("demo")
    console = Console(file=io.StringIO(), width=160)
    summary = run_demo(DemoOptions(workdir=folder, records=4000, rate=2000.0, steps=2500, anomaly_share=0.05), console)
    return summary, folder, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.training
def test_a_demo_finds_the_frauds_and_loses_nothing(finished: tuple[DemoSummary, Path, str]) -> None:
    summary, _, text = finished
    assert (summary.records, summary.scored, summary.lost, summary.dead_letters) == (4000, 4000, 0, 0)
    assert summary.problems == ()
    assert summary.recall is not None
    assert summary.recall >= 0.8
    assert summary.precision is not None
    assert summary.precision >= 0.8
    assert set(summary.kinds) == set(FRAUDS)
    assert f"recall {summary.recall:.3f}" in text


@pytest.mark.training
def test_a_demo_leaves_alerts_metrics_and_model_behind(finished: tuple[DemoSummary, Path, str]) -> None:
    summary, folder, _ = finished
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]
    assert len({alert["id"] for alert in alerts}) == summary.alerts == len(alerts) - summary.duplicates
    assert parse_scrape((folder / "metrics.prom").read_text()).flagged == summary.alerts
    assert json.loads((folder / "summary.json").read_text())["recall"] == summary.recall
    assert any((folder / "registry").rglob("scorer.tflite"))
    assert any((folder / "registry").rglob("report.html"))


@pytest.mark.training
def test_the_command_that_the_summary_recommends_gives_the_same_figures(
    finished: tuple[DemoSummary, Path, str],
) -> None:
    summary, folder, _ = finished
    command = ["evaluate", "stream.jsonl", "--label", "is_anomaly", "--config", "ganwatch.toml", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "monitor.cli", *command], cwd=folder, capture_output=True, text=True, check=True
    )
    offline = json.loads(done.stdout)
    assert (offline["rows"], offline["anomalies"]) == (summary.records, summary.anomalies)
    assert offline["recall"] == pytest.approx(summary.recall, abs=0.01)  # ties are broken by the place in Kafka
    assert offline["precision"] == pytest.approx(summary.precision, abs=0.01)


_DEMO = """
import sys
from pathlib import Path
from rich.console import Console
from training.demo import DemoOptions, run_demo
sys.exit(run_demo(DemoOptions(workdir=Path(sys.argv[1]), records=60_000, rate=500.0, steps=50), Console()).exit_code)
"""


@pytest.mark.training
def test_ctrl_c_ends_the_demo_with_a_summary_and_takes_the_daemon_along(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-c", _DEMO, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert demo.stdout is not None
    try:
        seen = next((line for line in demo.stdout if "streaming" in line), "it ended before it streamed")
        assert "streaming 60,000 records" in seen
        daemons = children_of(demo.pid)
        assert len(daemons) == 1
        time.sleep(1.0)
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=30)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130
    assert "interrupted: simulated card payments" in rest
    assert not any(Path(f"/proc/{pid}").exists() for pid in daemons)


def test_sigterm_unwinds_like_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def children_of(pid: int) -> list[str]:
    """Process ids of the direct children, on Linux."""
    return " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
