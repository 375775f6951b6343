"""Rows 9 and 12: records that cannot be scored, a few of them, many of them, nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.broker.conftest import Stream
from tests.faults.oracle import Place, compare, expect, inputs_of
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, next_offsets, wait_until_committed
from tests.machines import as_json, readings
from tests.topics import headers_of, publish, read_all

MEGABYTES_10 = 10 * 2**20
RULES_TEST = Path(__file__).parents[2] / "deploy" / "prometheus" / "tests" / "availability.yml"
EVERY = 100


def poisons(good: bytes) -> list[tuple[bytes | None, str]]:
    """Every kind of poison, made of a good record where that is worse, and the reason that its dead letter must state."""

    def but(**changes: object) -> bytes:
        return json.dumps(json.loads(good) | changes).encode()

    return [
        (b"\xff\xfe" + good, "not_utf8"),
        (good[:-1] + b",}", "not_json"),
        (good[:-10], "not_json"),
        (good + good, "not_json"),
        (good + b"\n" + good, "not_json"),
        (good.replace(b'"machine":"', b'"machine":"\n'), "not_json"),
        (b" \n ", "empty"),
        (but(pieces="many"), "wrong_type"),
        (but(mode={"a": 1}), "wrong_type"),
        (good.replace(b'"pieces":', b'"pieces":NaN,"x":'), "not_json"),
        (good.replace(b'"pieces":', b'"pieces":-Infinity,"x":'), "not_json"),
        (but(load=10**400), "wrong_type"),
        (good.replace(b'"pieces":', b'"parts":'), "missing_field"),
        (b"[" + good + b"]", "not_one_object"),
        (None, "empty"),
        (b"", "empty"),
        (good[:-1] + b',"note":"' + b"x" * MEGABYTES_10 + b'"}', "too_large"),
    ]


def odd_but_good(good: bytes) -> list[bytes]:
    """Records that look as bad as those and have to be scored."""
    content = json.loads(good)
    return [
        json.dumps(content | {"load": 1e308}).encode(),
        json.dumps(content | {"extra": {"a": [None, "\n"]}}).encode(),
        json.dumps(content, indent=2).encode(),
        b"\t" + good + b"\r\n",
    ]


def poisoned(stage: Stage, seed: int, *, records: int = 10_000, all_poison: int = 3000) -> Outcome:
    """Row 9. One record in a hundred is poison, then all are; every good record's score is compared, not only the alerts'."""
    stream = stage.stream()
    _allow_large(stream)
    good = as_json(readings(records, seed=5000 + seed, anomalies=records // 100))
    good[50:54] = odd_but_good(good[50])
    bad = poisons(good[0])
    values: list[bytes | None] = []
    reasons: dict[Place, str] = {}
    for number, value in enumerate(good):
        if number % EVERY == 0:
            poison, reason = bad[number // EVERY % len(bad)]
            reasons[0, len(values)] = reason
            values.append(poison)
        values.append(value)
    small = [entry for entry in bad if len(entry[0] or b"") < MEGABYTES_10]
    for number in range(all_poison):
        poison, reason = small[number % len(small)]
        reasons[0, len(values)] = reason
        values.append(poison)
    publish(stream.kafka.bootstrap, stream.features, values)
    with stream.daemon(threshold=0.0, alert_payload=False, max_invalid_ratio=1.0, max_rows=500) as daemon:
        started = time.monotonic()
        wait_until_committed(daemon, stream, len(values))
        took_s = time.monotonic() - started
        code, _ = daemon.stop()
    inputs = inputs_of(stream)
    clean = {place: value for place, value in inputs.items() if place not in reasons}
    letters = read_all(stream.kafka.bootstrap, stream.dead_letters)
    stated = {(0, int(headers_of(letter)["offset"])): headers_of(letter)["reason"] for letter in letters}
    delivered = compare(stream, stage.bundle, inputs=inputs, threshold=0.0)
    without_poison = expect(stage.bundle, stream.features, clean, 0.0).alerts
    return Outcome(
        demands=delivered.exactly_once
        | {
            "no crash": code == 0,
            "every dead letter states the right reason": stated == reasons,
            "every good record has an alert, at a threshold of 0": delivered.alerts == len(clean),
            "their scores equal a run without poison": without_poison
            == expect(stage.bundle, stream.features, inputs, 0.0).alerts,
            "each dead letter names its topic": {headers_of(letter)["topic"] for letter in letters}
            == {stream.features},
        },
        delivered=delivered,
        figures={"poison_kinds": len(bad), "poison_records": len(reasons)},
        notes=f"{len(bad)} kinds, 1 % and then 100 % of the stream; {len(values)} records in {took_s:.1f} s",
    )


def _allow_large(stream: Stream) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=stream.kafka.bootstrap)
    limit = {"max.message.bytes": str(2 * MEGABYTES_10)}
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stream.features, limit)])
    admin.close()


def too_much_poison(stage: Stage, seed: int, *, records: int = 2000) -> Outcome:
    """Row 12. T: from the first bad record to the end of the daemon; `GanwatchDown` is what fires for one that is gone."""
    stream = stage.stream()
    good: Sequence[bytes] = as_json(readings(records, seed=6000 + seed))
    daemon = stream.daemon(max_rows=100, invalid_window_rows=500, max_invalid_ratio=0.2).start()
    publish(stream.kafka.bootstrap, stream.features, good)
    wait_until_committed(daemon, stream, records)
    published_at = time.monotonic()
    publish(stream.kafka.bootstrap, stream.features, [b'{"other": "schema"}'] * 300)
    code = daemon.wait()
    stopped_s = time.monotonic() - published_at
    committed = next_offsets(stream)
    inputs = {place: value for place, value in inputs_of(stream).items() if place[1] < committed}
    delivered = compare(stream, stage.bundle, inputs=inputs)
    return Outcome(
        demands=delivered.at_least_once
        | {
            "exit code 3": code == 3,
            "its own error, in one line": " of the last 500 records are invalid, more than max_invalid_ratio = 0.2"
            in daemon.output().splitlines()[-1],
            "nothing is committed from the batch on that was too much": committed <= records + 100,
            "nothing answers any more": daemon.get("/metrics")[0] == 0,
            "an alert fires for a daemon that is gone": _rules_fire(),
        },
        delivered=delivered,
        recover_s=stopped_s,
        notes="exit code 3; T is until the end of the daemon",
    )


def _rules_fire() -> bool:
    """Prometheus' own test of the rule for a daemon that does not answer."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not installed; it comes with the system's package prometheus"
    return (
        subprocess.run([promtool, "test", "rules", str(RULES_TEST)], capture_output=True, check=False).returncode == 0
    )
