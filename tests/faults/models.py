"""Rows 15 and 17: models change under load, some of them cannot be used, and one is bad."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.model.registry import Registry
from tests import machines
from tests.benchmarks import e2e_swaps
from tests.broker.conftest import Stream
from tests.challengers import calibrated, touchy
from tests.daemon import Daemon
from tests.faults.load import Load, under_load
from tests.faults.oracle import compare
from tests.faults.outcome import Delivered, Outcome
from tests.faults.stage import Stage, seconds_until, wait_until_committed
from tests.machines import readings
from tests.topics import read_alerts, read_all
from training.history import History

MODEL = "machines"
LONGEST_PAUSE_S = 0.1
LEAST_LOAD = 0.5
OTHER = machines.SCHEMA.model_copy(update={"features": machines.SCHEMA.features[:-1]})


def swaps(stage: Stage, seed: int, *, count: int = 1000) -> Outcome:
    """Row 15. Two models in turns under load; then versions that cannot be used. T: p99 of the pause around a swap."""
    found = e2e_swaps.run(stage.folder, stage.kafka, count)
    delivered, refused = _unusable(stage, seed)
    return Outcome(
        demands={
            f"{count} swaps": found["swaps"] >= count,
            "no alert of both models is lost": found["swap_lost"] == 0,
            "every alert says what the model would that it names": found["swap_wrong"] == 0,
            "p99 of the pause below 0.1 s": found["swap_pause_p99_s"] < LONGEST_PAUSE_S,
            "at least half as fast as a loop that only polls": found["swap_load_ratio"] >= LEAST_LOAD,
        }
        | delivered.exactly_once
        | refused,
        delivered=delivered,
        recover_s=found["swap_pause_p99_s"],
        figures={
            name: found[name] for name in ("swaps", "swap_lost", "swap_wrong", "swap_pause_p99_s", "swap_load_ratio")
        },
        notes=f"{found['swaps']:.0f} swaps over {found['swap_records']:,.0f} records, {found['swap_load_ratio']:.2f} of the rate of "
        "a loop that only polls; T is the p99 of the pause; "
        "a corrupt, a half-written and a foreign bundle are refused",
    )


def _unusable(stage: Stage, seed: int) -> tuple[Delivered, dict[str, bool]]:
    """Each is promoted by hand; the old model goes on as if nothing had been."""
    registry = own_registry(stage)
    first = registry.champion(MODEL)
    spoil: dict[str, Callable[[Path], None]] = {
        "corrupt": _flip,
        "half-written": _truncate,
        "with another schema": _leave,
    }
    demands = {}
    stream = stage.stream()
    with stream.daemon(registry_poll_s=0.1) as daemon, flow(stream, seed) as load:
        daemon.wait_until_ready()
        for number, (kind, change) in enumerate(spoil.items(), 1):
            schema = OTHER if change is _leave else machines.SCHEMA
            history = History(readings(3000, seed=number), "tests", None)
            version = registry.publish(calibrated(history, stage.folder / f"bad-{number}", schema=schema))
            change(stage.folder / "registry" / "models" / MODEL / version / "scorer.tflite")
            registry.promote(MODEL, version, author="human", reason=kind)
            daemon.wait_until(lambda n=number: outcomes(daemon, "refused") >= n, f"refusing a bundle that is {kind}")
            demands[f"a bundle {kind} is refused, the old one kept"] = f'version="{first}"' in daemon.get("/metrics")[1]
        load.ending.set()
        time.sleep(1.0)
        wait_until_committed(daemon, stream, load.sent)
        demands["no batch failed"] = daemon.stop()[0] == 0
    return compare(stream, stage.bundle), demands


def bad_challenger(stage: Stage, seed: int) -> Outcome:
    """Row 17. A model that takes most records for anomalies is promoted by hand. T: until the registry is back."""
    registry = own_registry(stage)
    first = registry.champion(MODEL)
    bad = registry.publish(touchy(History(readings(3000, seed=2 + seed), "tests", None), stage.folder / "bad"))
    stream = stage.stream()
    events = stage.kafka.new_topic("model-events")
    with stream.daemon(registry_poll_s=0.1, model_events_topic=events) as daemon, flow(stream, seed) as load:
        daemon.wait_until_done(500)
        registry.promote(MODEL, bad, author="human", reason="looks good")
        back_s = seconds_until(daemon, lambda: registry.champion(MODEL) == first, "rid of the bad model")
        daemon.wait_until(lambda: outcomes(daemon, "rolled_back") == 1, "rid of it", 10)
        load.ending.set()
        time.sleep(1.0)
        wait_until_committed(daemon, stream, load.sent)
        in_service = f'version="{first}"' in daemon.get("/metrics")[1]
        assert daemon.stop()[0] == 0
    last = registry.last_promotion(MODEL)
    said = {json.loads(record.value)["kind"] for record in read_all(stream.kafka.bootstrap, events)}
    alerts = read_alerts(stream.kafka.bootstrap, stream.alerts)
    flagged = [alert["record"]["offset"] for alert in alerts if alert["model"]["version"] == bad]
    judged = max(flagged) - min(flagged) + 1
    lost, wrong = e2e_swaps.compare(registry, stream.features, load.records[: load.sent], load.sent, alerts)
    return Outcome(
        demands={
            "the old model scores again": in_service,
            "the registry is back, by the guard's word": last is not None
            and (last.champion, last.author) == (first, "guard"),
            "an event says so": "rolled_back" in said,
            "the bad model judges at most 2,000 records": judged <= 2000,
            "nothing is lost": lost == 0,
            "every alert says what the model would that it names": wrong == 0,
        },
        recover_s=back_s,
        figures={"guard_records_of_the_bad_model": judged, "guard_lost": lost, "guard_wrong": wrong},
        notes=f"{len(flagged)} alerts of the bad model, on {judged} records, before it was sent away",
    )


def own_registry(stage: Stage) -> Registry:
    """The committed registry, writable, as the stage's daemons see it."""
    folder = stage.folder / "registry"
    folder.unlink()
    shutil.copytree(machines.REGISTRY, folder)
    return Registry(str(folder))


@contextmanager
def flow(stream: Stream, seed: int) -> Iterator[Load]:
    """Records at a steady rate into the one partition."""
    with under_load(stream, 1, per_s=1000, longest_s=90, seed=seed) as load:
        yield load


def outcomes(daemon: Daemon, outcome: str) -> float:
    """How many swaps ended so."""
    return daemon.metrics().get(f'ganwatch_model_swaps_total{{outcome="{outcome}"}}', 0.0)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


def _leave(file: Path) -> None:
    assert file.exists()
