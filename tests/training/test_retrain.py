"""One retraining from rows to a promotion: what it writes, what it refuses, and that a killed one harms nothing."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from monitor.errors import ConfigError
from monitor.model.calibration import tie_breakers
from monitor.model.detection import detect
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from tests import machines
from tests.challengers import calibrated
from tests.training.retraining import PLAN, STEPS, assert_whole, of_frame, rows, run
from training.gate import GateLimits
from training.history import History
from training.incumbents import find_waiting
from training.material import RetrainingData, prepare
from training.retrain import RetrainResult

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One with a first champion, made by a first retraining."""
    registry = Registry(str(tmp_path / "registry"))
    assert run(registry, 60).outcome == "promoted"
    return registry


def warmed(seed: int) -> pl.DataFrame:
    """Readings after an abrupt drift, of which the champion takes nearly all for anomalies."""
    return machines.readings(4000, seed=seed).with_columns(pl.col("motor.temperature_c") + 12.0)


def dying_at(fatal: str) -> Callable[[str], None]:
    """The trainer is killed when this step begins."""

    def on_step(step: str) -> None:
        if step == fatal:
            raise KeyboardInterrupt

    return on_step


def blind(history: History, folder: Path) -> Path:
    """Trains a network that the gate refuses."""
    return calibrated(history, folder, "motor.temperature_c", "load")


def test_a_sound_challenger_becomes_champion_by_word_of_the_gate(registry: Registry) -> None:
    first = registry.champion("machines")
    result = run(registry, 61)
    assert (result.outcome, result.resumed) == ("promoted", False)
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.anchor, last.author) == (result.version, first, "gate")
    assert last.reason == "11 of 11 checks passed"
    assert list(result.seconds) == list(STEPS)
    assert_whole(registry)


def test_it_works_wherever_the_registry_lies(registry_url: str) -> None:
    registry = Registry(registry_url)
    first, second = run(registry, 60), run(registry, 61)
    assert [first.outcome, second.outcome] == ["promoted", "promoted"]
    assert run(registry, 62, train=blind).outcome == "refused"
    assert registry.champion("machines") == second.version
    assert_whole(registry)


def test_old_versions_go_when_only_some_are_to_be_kept(registry: Registry) -> None:
    for seed in (61, 62, 63):
        assert run(registry, seed, plan=replace(PLAN, keep=1)).outcome == "promoted"
    log = registry.promotions("machines")
    assert registry.versions("machines") == sorted({entry.champion for entry in (log[0], log[-2], log[-1])})
    assert all(registry.load("machines", version) for version in registry.versions("machines"))


def test_an_old_version_that_cannot_be_deleted_does_not_undo_the_promotion(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    second = run(registry, 61).version
    assert registry.store.folder is not None
    report = registry.store.folder / f"models/machines/{second}/report.html"
    report.unlink()
    (report / "of somebody else").mkdir(parents=True)  # deleted like a file, a folder is an error
    for seed in (62, 63):
        last = run(registry, seed, plan=replace(PLAN, keep=1))
        assert (last.outcome, registry.champion("machines")) == ("promoted", last.version)
    (record,) = [record for record in caplog.records if record.getMessage() == "prune_failed"]
    assert f"models/machines/{second}/report.html" in vars(record)["error"]


def test_the_manifest_and_the_report_hold_every_check(registry: Registry) -> None:
    champion = registry.champion("machines")
    result = run(registry, 61)
    assert result.version is not None
    manifest = registry.fetch_manifest("machines", result.version)
    gate = manifest.metrics["gate"]
    assert (gate["verdict"], gate["decided_against"]) == ("passed", champion)
    assert manifest.data["window_rows"] > 0
    assert manifest.data["replay_rows"] > 0
    content = registry.store.read(f"models/machines/{result.version}/report.html")
    assert content is not None
    report = content.decode()
    assert '<span class="passed">passed by the gate</span>' in report
    for check in gate["checks"]:
        row = f'<td>{check["name"]}</td><td>{check["limit"]}</td><td class="number">{check["value"]:.4g}</td>'
        assert f'{row}\n<td class="passed">passed</td>' in report


def test_a_refused_challenger_is_registered_with_its_verdict_and_never_promoted(registry: Registry) -> None:
    champion = registry.champion("machines")
    result = run(registry, 61, train=lambda history, folder: calibrated(history, folder, "motor.temperature_c", "load"))
    assert result.outcome == "refused"
    assert "AUROC on the frozen suite against the anchor is 0." in result.reason
    assert ", not at least 0." in result.reason
    assert result.version in registry.versions("machines")
    assert registry.champion("machines") == champion
    assert find_waiting(registry, "machines", machines.SCHEMA) is None
    assert len(registry.promotions("machines")) == 1


def test_rows_of_the_trial_are_not_trained_on(registry: Registry) -> None:
    data = rows(4000, 62)
    material = prepare(data, machines.SCHEMA, None, np.random.default_rng(0))
    held_out = pl.concat([material.trial.window, material.trial.frozen.normals])
    learned = material.history.frame
    own = learned.tail(learned.height - material.described["replay_rows"])
    assert own.join(held_out, on=["motor.current_a", "motor.temperature_c"], how="semi").height == 0
    assert own.height + held_out.height == 4000
    assert material.trial.window.height == 192


def test_the_window_is_of_the_newest_rows_and_replayed_ones_are_dated_before_all_others() -> None:
    data = rows(4000, 62)
    shuffled = np.random.default_rng(3).permutation(4000)
    history = data.history
    assert history.times is not None
    mixed = replace(history, frame=history.frame[shuffled], times=history.times[shuffled])
    material = prepare(RetrainingData(mixed), machines.SCHEMA, None, np.random.default_rng(0))
    newest = history.frame.tail(1300)
    assert material.trial.window.join(newest, on="motor.current_a", how="semi").height == material.trial.window.height
    times, n_replay = material.history.times, material.described["replay_rows"]
    assert times is not None
    assert n_replay > 500
    assert times[:n_replay].max() <= times[n_replay:].min()


def test_labelled_anomalies_are_never_learned_and_are_judged_on(registry: Registry) -> None:
    frame = machines.readings(4000, seed=63, anomalies=100)
    labels = np.arange(4000) >= 3900
    history = replace(of_frame(frame).history, labels=labels)
    material = prepare(RetrainingData(history), machines.SCHEMA, None, np.random.default_rng(0))
    assert material.history.labels is None
    assert material.history.frame.join(frame.tail(100), on="motor.current_a", how="semi").height == 0
    assert material.trial.labels is not None
    assert int(material.trial.labels.sum()) == 100
    result = run(registry, 0, read=lambda: RetrainingData(history))
    assert result.version is not None
    gate = registry.fetch_manifest("machines", result.version).metrics["gate"]
    assert "AUROC on labelled records against the champion" in [check["name"] for check in gate["checks"]]


def test_after_an_abrupt_drift_the_new_world_is_learned(registry: Registry) -> None:
    result = run(registry, 0, read=lambda: of_frame(warmed(64)))
    assert result.outcome == "promoted"
    assert "waived because the data drifted: " in result.reason


def test_what_was_confirmed_since_the_reference_was_frozen_is_not_replayed() -> None:
    frozen = prepare(rows(4000, 61), machines.SCHEMA, None, np.random.default_rng(0)).reference
    confirmed = frozen.replay.head(5)
    data = replace(rows(4000, 62), labelled=confirmed, labels=np.ones(5, dtype=bool))
    learned = prepare(data, machines.SCHEMA, frozen, np.random.default_rng(0)).history.frame
    assert learned.join(frozen.replay, on="motor.current_a", how="semi").height > 500
    assert learned.join(confirmed, on="motor.current_a", how="semi").height == 0


def test_too_few_labelled_anomalies_to_judge_on_are_a_remark_in_the_report(registry: Registry) -> None:
    frame = machines.readings(4000, seed=61, anomalies=3)
    labels = np.arange(4000) >= 3997
    result = run(registry, 61, read=lambda: RetrainingData(replace(of_frame(frame).history, labels=labels)))
    content = registry.store.read(f"models/machines/{result.version}/report.html")
    assert content is not None
    assert "3 labelled anomalies are too few to compare models on them; 10 are needed" in content.decode()


def test_when_a_network_is_refused_and_the_champion_is_off_target_its_own_is_calibrated_anew(
    registry: Registry,
) -> None:
    first = registry.champion("machines")
    result = run(registry, 0, read=lambda: of_frame(warmed(64)), train=blind)
    assert result.outcome == "promoted"
    assert result.reason.startswith(f"the network of {first}, calibrated on new rows: ")
    assert "recalibrate" in result.seconds
    old, new = (registry.load("machines", version) for version in (first, result.version))
    assert new.manifest.files["scorer.tflite"] == old.manifest.files["scorer.tflite"]
    assert new.manifest.data["network_of"] == first
    rows = warmed(65)
    breakers = tie_breakers(new.sha256, "", 0, np.arange(rows.height))
    rates = [float(np.mean(detect(model, rows, breakers).p_value <= PLAN.target_alert_rate)) for model in (old, new)]
    assert rates[0] > 0.5
    assert rates[1] == pytest.approx(PLAN.target_alert_rate, rel=0.5)
    page = registry.store.read(f"models/machines/{result.version}/report.html")
    assert page is not None
    assert f"The network is that of {first}, calibrated on newer rows" in page.decode()
    (refused,) = set(registry.versions("machines")) - {first, result.version}
    assert registry.fetch_manifest("machines", refused).metrics["gate"]["verdict"] == "refused"
    assert_whole(registry)
    again = run(registry, 0, read=lambda: of_frame(warmed(66).with_columns(pl.col("load") * 3)), train=blind)
    assert again.version is not None
    assert registry.fetch_manifest("machines", again.version).data["network_of"] == first


@pytest.mark.parametrize(("deadly", "resumed"), [("recalibrate", False), ("gate", True), ("promote", True)])
def test_killed_with_a_second_challenger_the_next_run_goes_on(
    registry: Registry, deadly: str, *, resumed: bool
) -> None:
    first = registry.champion("machines")

    def again(on_step: Callable[[str], None] | None = None) -> RetrainResult:
        return run(registry, 0, read=lambda: of_frame(warmed(64)), train=blind, on_step=on_step)

    with pytest.raises(KeyboardInterrupt):
        again(dying_at(deadly))
    assert_whole(registry)
    assert registry.champion("machines") == first
    result = again()
    assert (result.outcome, result.resumed) == ("promoted", resumed)
    assert result.reason.startswith(f"the network of {first}, ")
    assert_whole(registry)


def test_a_champion_that_flags_three_times_its_target_is_off_target_too(registry: Registry) -> None:
    mixed = pl.concat([machines.readings(3840, seed=68), warmed(64).head(160)])
    order = np.random.default_rng(0).permutation(mixed.height)
    result = run(registry, 0, read=lambda: of_frame(mixed[order]), train=blind)
    assert result.outcome == "promoted"
    assert "recalibrate" in result.seconds


def test_rows_that_the_champion_just_lets_pass_do_not_raise_its_threshold(registry: Registry) -> None:
    champion = registry.load("machines", registry.champion("machines"))
    pool = machines.readings(40_000, seed=67)
    p_value = detect(champion, pool, tie_breakers(champion.sha256, "", 0, np.arange(pool.height))).p_value
    just_passed = pool.filter((p_value > 0.02) & (p_value < 0.06)).head(1200)
    mixed = pl.concat([machines.readings(4000 - just_passed.height, seed=68), just_passed])
    order = np.random.default_rng(0).permutation(mixed.height)
    result = run(registry, 0, read=lambda: of_frame(mixed[order]), train=blind)
    assert result.outcome == "refused"
    assert result.version is not None
    gate = registry.fetch_manifest("machines", result.version).metrics["gate"]
    assert (gate["drift"], gate["champion_off_target"]) == (True, False)
    assert "recalibrate" not in result.seconds


def test_without_times_or_where_the_champion_is_right_nothing_is_calibrated_anew(registry: Registry) -> None:
    timeless = RetrainingData(History(frame=warmed(64), source="a file", times=None))
    for data in (timeless, rows(4000, 64)):
        result = run(registry, 0, read=lambda data=data: data, train=blind)
        assert result.outcome == "refused"
        assert "recalibrate" not in result.seconds
    assert len(registry.versions("machines")) == 3


def test_when_neither_network_is_good_enough_the_new_one_is_what_is_told_of(registry: Registry) -> None:
    champion = registry.champion("machines")
    strict = replace(PLAN, limits=GateLimits(least_auroc=1.1))
    result = run(registry, 0, plan=strict, read=lambda: of_frame(warmed(64)), train=blind)
    assert result.outcome == "refused"
    assert result.version is not None
    assert "network_of" not in registry.fetch_manifest("machines", result.version).data
    assert registry.champion("machines") == champion
    assert len(registry.versions("machines")) == 3


def test_a_model_for_another_schema_starts_anew_and_is_its_own_anchor(registry: Registry) -> None:
    features = [feature.model_copy(update={"missing": "impute"}) for feature in machines.SCHEMA.features]
    schema = Schema(name="machines", key="machine", features=tuple(features))
    assert schema.fingerprint != machines.SCHEMA.fingerprint
    result = run(
        registry,
        61,
        plan=replace(PLAN, schema=schema),
        train=lambda history, folder: calibrated(history, folder, schema=schema),
    )
    assert result.outcome == "promoted"
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.anchor, last.reason) == (result.version, result.version, "3 of 3 checks passed")


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        (History(machines.readings(150, seed=1), "few", None), "150 rows are too few to retrain; at least 200"),
        (
            History(
                machines.readings(3000, seed=1).with_columns(load=pl.lit(None, dtype=pl.Float64)), "dead sensor", None
            ),
            "feature 'load' is missing in 100% of the rows, in the reference in 2%; mend its source",
        ),
    ],
)
def test_unfit_rows_stop_it_before_anything_is_trained(registry: Registry, history: History, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        run(registry, 0, read=lambda: RetrainingData(history))
    assert len(registry.versions("machines")) == 1
    assert run(registry, 61).outcome == "promoted"


def test_too_many_unreadable_records_stop_it(registry: Registry) -> None:
    data = rows(3000, 1)
    data.history.invalid.update({"not_json": 1000, "wrong_type": 100})
    with pytest.raises(ConfigError, match=r"1100 of 4100 records are invalid \(not_json 1000, wrong_type 100\)"):
        run(registry, 0, read=lambda: data)


def test_a_champion_that_was_changed_meanwhile_is_not_overruled(registry: Registry) -> None:
    first = registry.champion("machines")
    second = run(registry, 61).version

    def someone_rolls_back(step: str) -> None:
        if step == "gate":
            registry.rollback("machines", author="human", reason="too many alerts")

    result = run(registry, 62, on_step=someone_rolls_back)
    assert result.outcome == "superseded"
    assert result.reason == f"another version than {second} is champion by now"
    assert registry.champion("machines") == first


def test_of_two_trainers_at_once_one_works_and_the_other_says_who(registry: Registry) -> None:
    reached, go_on = threading.Event(), threading.Event()
    results: list[RetrainResult] = []

    def wait(step: str) -> None:
        if step == "train":
            reached.set()
            go_on.wait(20)

    plan = replace(PLAN, lease_s=3.0)
    worker = threading.Thread(target=lambda: results.append(run(registry, 61, plan=plan, on_step=wait)))
    worker.start()
    assert reached.wait(20)
    time.sleep(3.5)  # longer than the lease, which is renewed
    other = run(registry, 62)
    go_on.set()
    worker.join()
    assert other.outcome == "busy"
    assert f":{os.getpid()} retrains machines and holds the lease until 20" in other.reason
    assert [result.outcome for result in results] == ["promoted"]
    assert len(registry.versions("machines")) == 2


def losing_the_lease(registry: Registry) -> Callable[[str], None]:
    """The lease is gone when the challenger is about to be promoted."""

    def on_step(step: str) -> None:
        if step == "promote":
            for path in registry.store.files("leases/machines"):
                registry.store.remove(path)

    return on_step


def test_one_that_lost_its_lease_promotes_nothing(registry: Registry) -> None:
    champion = registry.champion("machines")

    result = run(registry, 61, on_step=losing_the_lease(registry))
    assert result.outcome == "lease_lost"
    assert registry.champion("machines") == champion


def test_a_challenger_is_tried_beside_the_champion_before_it_is_promoted(registry: Registry) -> None:
    first = registry.champion("machines")
    result = run(registry, 61, plan=replace(PLAN, shadow_s=0.05))
    assert result.outcome == "promoted"
    log = registry.promotions("machines")
    assert [(entry.action, entry.champion, entry.challenger) for entry in log[1:]] == [
        ("challenge", first, result.version),
        ("promote", result.version, None),
    ]


def test_a_challenger_that_is_withdrawn_while_it_is_tried_is_not_promoted(registry: Registry) -> None:
    first = registry.champion("machines")
    results: list[RetrainResult] = []
    plan = replace(PLAN, shadow_s=1.0)
    worker = threading.Thread(target=lambda: results.append(run(registry, 61, plan=plan)))
    worker.start()
    deadline = time.monotonic() + 20
    while len(registry.promotions("machines")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    registry.promote("machines", first, author="human", reason="not this one")
    worker.join()
    assert results[0].outcome == "superseded"
    assert registry.champion("machines") == first
    assert find_waiting(registry, "machines", machines.SCHEMA) is None


def test_killed_while_a_challenger_is_tried_it_is_tried_again_by_the_next_run(registry: Registry) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(registry, 61, plan=replace(PLAN, shadow_s=0.05), on_step=dying_at("promote"))
    last = registry.last_promotion("machines")
    assert last is not None
    assert last.action == "challenge"
    other = Schema(name="machines", key="machine", features=machines.SCHEMA.features[1:])
    assert find_waiting(registry, "machines", other) is None
    result = run(registry, 61, plan=replace(PLAN, shadow_s=0.05))
    assert (result.outcome, result.resumed, result.version) == ("promoted", True, last.challenger)
    assert [entry.action for entry in registry.promotions("machines")[1:]] == ["challenge", "challenge", "promote"]


def test_one_that_is_not_promoted_after_it_was_tried_is_no_longer_named(registry: Registry) -> None:
    assert (
        run(registry, 61, plan=replace(PLAN, shadow_s=0.05), on_step=losing_the_lease(registry)).outcome == "lease_lost"
    )
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.action, last.challenger) == ("challenge", None)


def test_it_is_not_tried_beside_another_champion_than_it_was_judged_against(registry: Registry) -> None:
    def overtake(step: str) -> None:
        if step == "shadow":
            other = registry.publish(calibrated(rows(4000, 64).history, Path(registry.url) / "other"))
            registry.promote("machines", other, author="human", reason="this one")

    result = run(registry, 61, plan=replace(PLAN, shadow_s=60.0), on_step=overtake)
    assert result.outcome == "superseded"
    assert [entry.action for entry in registry.promotions("machines")] == ["promote", "promote"]


def test_one_that_waits_and_is_damaged_does_not_stand_in_the_way_of_the_next(registry: Registry) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(registry, 61, on_step=dying_at("promote"))
    waiting = find_waiting(registry, "machines", machines.SCHEMA)
    assert waiting is not None
    registry.store.write(f"models/machines/{waiting}/scorer.tflite", b"half of")
    result = run(registry, 62)
    assert (result.outcome, result.resumed) == ("promoted", False)
    assert result.version != waiting


def test_nothing_of_it_stays_in_the_folder_for_temporary_files(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    run(registry, 61)
    assert list(folder.iterdir()) == []
