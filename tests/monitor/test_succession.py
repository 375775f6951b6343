"""Who scores: promotions are followed between two batches, bad models refused or sent away, and nothing else changes."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from monitor.events import ModelEvent, event_schema
from monitor.model.bundle import FILES, MANIFEST, Bundle, read_manifest, write_bundle
from monitor.model.registry import Promotion, Registry
from monitor.settings import Settings
from monitor.stream.broker import Cluster
from monitor.stream.judged import Judged
from monitor.stream.pipeline import Pipeline
from monitor.succession.outcomes import Outcomes
from monitor.succession.succession import GUARDED_ROWS, Succession
from monitor.succession.watch import RegistryWatch
from monitor.telemetry.metrics import Metrics
from tests import machines
from tests.bundles import bundle_created
from tests.challengers import calibrated, touchy
from tests.machines import as_json, readings
from tests.monitor.records import batch_of, segment
from training.history import History

NOBODY = 65534


@dataclass
class Scene:
    """A registry, and what a daemon does with it, one step at a time."""

    folder: Path
    registry: Registry
    champion: str
    guard_records: int = 500
    events: list[ModelEvent] = field(default_factory=list)
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))

    def __post_init__(self) -> None:
        bundle = self.registry.load("machines", self.champion)
        outcomes = Outcomes(self.metrics, self.announce, "machines", "group")
        self.watch = RegistryWatch(self.registry, machines.SCHEMA, bundle, 60.0, outcomes)
        settings = Settings.model_validate({"target_alert_rate": 0.01})
        pipeline = Pipeline(bundle, settings, Cluster("c", "t"))
        self.succession = Succession(pipeline, self.watch, outcomes, self.guard_records)
        self._next_offset = 0

    def announce(self, event: ModelEvent) -> None:
        """Keeps an event that is what its schema says."""
        Draft202012Validator(event_schema()).validate(msgspec.json.decode(event.to_json()))
        self.events.append(event)

    @property
    def version(self) -> str:
        """Which model scores."""
        return self.succession.pipeline.bundle.version

    def turn(self) -> None:
        """Looks at the registry, then does what is to be done between two batches."""
        self.watch.look()
        self.succession.turn()

    def judge(self, n: int) -> Judged:
        """Judges n normal records as the daemon would."""
        values = as_json(readings(n, seed=self._next_offset))
        batch = batch_of(segment(values, first=self._next_offset))
        self._next_offset += n
        judged = self.succession.pipeline.judge(batch)
        self.succession.observe(judged)
        return judged

    def publish(self, folder: Path) -> str:
        """Registers a bundle."""
        return self.registry.publish(folder)

    def promote(self, version: str) -> None:
        """By hand."""
        self.registry.promote("machines", version, author="human", reason="for the test")

    def swaps(self, outcome: str) -> float:
        """The metric."""
        value = self.metrics.registry.get_sample_value("ganwatch_model_swaps_total", {"outcome": outcome})
        assert value is not None
        return value


def history(frame: pl.DataFrame) -> History:
    return History(frame=frame, source="tests", times=None)


@pytest.fixture
def scene(tmp_path: Path, machines_bundle: Bundle) -> Scene:
    return scene_in(tmp_path, machines_bundle)


def scene_in(folder: Path, bundle: Bundle, url: str | None = None) -> Scene:
    registry = Registry(url or str(folder / "registry"))
    version = registry.publish(bundle.path)
    registry.promote("machines", version, author="human", reason="the first")
    return Scene(folder, registry, version)


def sound(scene: Scene) -> str:
    return scene.publish(calibrated(history(readings(3000, seed=1)), scene.folder / "sound"))


def bad_one(scene: Scene) -> str:
    return scene.publish(touchy(history(readings(3000, seed=2)), scene.folder / "bad"))


def test_a_promoted_model_scores_from_the_next_batch_on_and_its_predecessor_is_asked_too(scene: Scene) -> None:
    new = sound(scene)
    scene.turn()
    assert scene.version == scene.champion
    scene.promote(new)
    scene.turn()
    assert scene.version == new
    assert scene.succession.most_rows == GUARDED_ROWS
    judged = scene.judge(100)
    assert judged.by.bundle.version == new
    assert judged.beside is not None
    assert judged.beside.version == scene.champion
    assert [(event.kind, event.version) for event in scene.events] == [("swapped", new)]
    assert scene.swaps("done") == 1


def test_a_sound_model_is_left_alone_after_its_first_records(scene: Scene) -> None:
    scene.promote(sound(scene))
    scene.turn()
    for _ in range(5):
        scene.judge(100)
    scene.turn()
    assert scene.succession.most_rows == scene.succession.pipeline.settings.max_rows
    assert scene.judge(10).beside is None
    assert scene.swaps("rolled_back") == 0


def test_a_bad_model_is_sent_away_and_the_registry_goes_back_by_the_word_of_the_guard(scene: Scene) -> None:
    bad = bad_one(scene)
    scene.promote(bad)
    scene.turn()
    scene.judge(128)
    scene.turn()
    assert scene.version == scene.champion
    scene.turn()
    last = scene.registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.author, last.action) == (scene.champion, "guard", "rollback")
    assert "flagged" in last.reason
    assert [event.kind for event in scene.events] == ["swapped", "rolled_back"]
    assert (scene.swaps("done"), scene.swaps("rolled_back")) == (1, 1)
    scene.turn()
    assert scene.version == scene.champion
    scene.promote(bad)  # somebody insists: it is tried again
    scene.turn()
    assert scene.version == bad


def assert_sent_away(scene: Scene) -> None:
    """By the guard, after a micro-batch, here and in the registry."""
    scene.judge(128)
    scene.turn()
    scene.turn()
    assert scene.version == scene.champion == scene.registry.champion("machines")
    assert [event.kind for event in scene.events] == ["swapped", "rolled_back"]


def test_a_bad_model_is_sent_away_although_a_challenger_was_named_meanwhile(scene: Scene) -> None:
    challenger = sound(scene)
    scene.promote(bad_one(scene))
    scene.turn()
    scene.registry.challenge("machines", challenger, author="gate", reason="to be tried")
    scene.turn()
    assert_sent_away(scene)


def test_a_bad_model_is_sent_away_wherever_the_registry_lies(
    tmp_path: Path, machines_bundle: Bundle, registry_url: str
) -> None:
    scene = scene_in(tmp_path, machines_bundle, registry_url)
    scene.promote(bad_one(scene))
    scene.turn()
    assert_sent_away(scene)


def judged_until_settled(scene: Scene) -> None:
    for _ in range(12):
        scene.judge(128)
        scene.turn()


def another_bad_one(scene: Scene) -> str:
    return scene.publish(touchy(history(readings(3000, seed=4)), scene.folder / "bad too"))


def test_of_two_bad_models_promoted_at_once_neither_stays(scene: Scene) -> None:
    for version in (bad_one(scene), another_bad_one(scene)):
        scene.promote(version)
    judged_until_settled(scene)
    assert scene.version == scene.champion == scene.registry.champion("machines")
    assert [event.kind for event in scene.events] == ["swapped", "rolled_back", "swapped", "rolled_back"]


def test_a_bad_model_promoted_while_another_is_on_trial_is_measured_by_the_sound_one(scene: Scene) -> None:
    scene.promote(bad_one(scene))
    scene.turn()
    other = another_bad_one(scene)
    scene.promote(other)
    scene.turn()
    judged = scene.judge(128)
    assert judged.by.bundle.version == other
    assert judged.beside is not None
    assert judged.beside.version == scene.champion
    judged_until_settled(scene)
    assert scene.version == scene.champion == scene.registry.champion("machines")


@contextmanager
def without_write_access(folder: Path) -> Iterator[None]:
    """Nothing below the folder can be written."""
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o555 if place.is_dir() else 0o444)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for place in (folder, *folder.rglob("*")):
            place.chmod(0o755 if place.is_dir() else 0o644)


def test_where_the_registry_is_read_only_the_old_model_scores_here_alone_and_it_says_so_once(
    machines_bundle: Bundle,
) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        scene = scene_in(folder, machines_bundle)
        bad = bad_one(scene)
        scene.promote(bad)
        scene.turn()
        scene.judge(128)
        with without_write_access(folder / "registry"):
            for _ in range(3):
                scene.turn()
            assert scene.version == scene.champion
        last = scene.registry.last_promotion("machines")
        assert last is not None
        assert last.champion == bad
        assert [event.kind for event in scene.events] == ["swapped", "fell_back"]
        scene.turn()  # the registry takes entries again
        scene.turn()
        last = scene.registry.last_promotion("machines")
        assert last is not None
        assert last.author == "guard"
    finally:
        shutil.rmtree(folder)


def test_where_the_registry_does_not_answer_it_says_so_once_and_goes_back_later(scene: Scene) -> None:
    scene.promote(bad_one(scene))
    scene.turn()
    scene.judge(128)
    entry = scene.folder / "registry" / "aliases" / "machines" / "000002.json"
    content = entry.read_bytes()
    entry.write_bytes(b"no json")
    scene.succession.turn()
    for _ in range(3):
        scene.turn()
    assert scene.version == scene.champion
    assert [event.kind for event in scene.events] == ["swapped", "fell_back"]
    entry.write_bytes(content)
    scene.turn()
    assert scene.registry.champion("machines") == scene.champion
    assert [event.kind for event in scene.events] == ["swapped", "fell_back", "rolled_back"]


def test_a_bad_model_promoted_while_no_monitor_ran_is_sent_away(scene: Scene) -> None:
    bad = bad_one(scene)
    scene.promote(bad)
    scene.registry.challenge("machines", sound(scene), author="gate", reason="to be tried")
    later = Scene(scene.folder, scene.registry, bad)
    later.turn()
    assert later.succession.most_rows == GUARDED_ROWS
    later.judge(128)
    later.turn()
    later.turn()
    assert later.version == scene.champion == later.registry.champion("machines")
    assert [event.kind for event in later.events] == ["rolled_back"]
    again = Scene(scene.folder, scene.registry, scene.champion)
    again.turn()
    assert again.succession.most_rows > GUARDED_ROWS, "one that was gone back to needs no guard"


def test_a_champion_of_long_ago_is_not_watched_at_the_start(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.succession.watch.FRESH", timedelta(0))
    new = sound(scene)
    scene.promote(new)
    later = Scene(scene.folder, scene.registry, new)
    later.turn()
    assert later.succession.most_rows > GUARDED_ROWS


def damaged(scene: Scene, version: str) -> str:
    file = scene.folder / "registry" / "models" / "machines" / version / "scorer.tflite"
    file.write_bytes(file.read_bytes()[:-100])
    return version


def half_written(scene: Scene, version: str) -> str:
    (scene.folder / "registry" / "models" / "machines" / version / "golden.npz").unlink()
    return version


def of_another_schema(scene: Scene, version: str) -> str:
    source = scene.folder / "registry" / "models" / "machines" / version
    manifest, _ = read_manifest(source)
    schema = machines.SCHEMA.model_copy(update={"features": machines.SCHEMA.features[:-1]})
    contents = {name: (source / name).read_bytes() for name in FILES}
    other = msgspec.structs.replace(
        manifest, schema=schema.model_dump(mode="json"), schema_fingerprint=schema.fingerprint
    )
    write_bundle(scene.folder / "other", other, contents)
    return scene.publish(scene.folder / "other")


def of_an_older_format(scene: Scene, version: str) -> str:
    folder = scene.folder / "registry" / "models" / "machines" / version
    content = (folder / MANIFEST).read_bytes().replace(b"ganwatch.bundle/1", b"ganwatch.bundle/0")
    import hashlib

    digest = hashlib.sha256(content).hexdigest()[:8]
    renamed = folder.with_name(f"{version[:-8]}{digest}")
    folder.rename(renamed)
    (renamed / MANIFEST).write_bytes(content)
    return renamed.name


@pytest.mark.parametrize("spoil", [damaged, half_written, of_another_schema, of_an_older_format])
def test_a_bundle_that_cannot_be_used_is_refused_once_and_the_old_model_stays(scene: Scene, spoil) -> None:  # type: ignore[no-untyped-def]
    version = spoil(scene, sound(scene))
    aliases = scene.folder / "registry" / "aliases" / "machines"
    last = scene.registry.last_promotion("machines")
    assert last is not None
    entry = msgspec.structs.replace(last, champion=version, id="by-hand")  # `promote` itself would refuse some of them
    (aliases / "000002.json").write_bytes(msgspec.json.encode(entry))
    for _ in range(3):
        scene.turn()
    assert scene.version == scene.champion
    assert scene.swaps("refused") == 1
    assert [event.kind for event in scene.events] == ["refused"]
    good = scene.publish(
        bundle_created("2027-01-01T00:00:00+00:00", scene.folder / "good", scene.succession.pipeline.bundle)
    )
    scene.promote(good)
    scene.turn()
    assert scene.version == good


def test_a_challenger_is_asked_beside_the_champion_and_its_alerts_are_not_published(scene: Scene) -> None:
    challenger = bad_one(scene)
    scene.registry.challenge("machines", challenger, author="gate", reason="to be tried")
    scene.turn()
    judged = scene.judge(200)
    assert judged.by.bundle.version == scene.champion
    assert judged.beside is not None
    assert judged.beside.version == challenger
    assert judged.beside.n_flagged > 50
    assert judged.n_flagged < 20
    assert len(judged.messages) == judged.n_flagged
    scene.registry.challenge("machines", None, author="gate", reason="was tried")
    scene.turn()
    assert scene.judge(10).beside is None


def test_a_challenger_that_cannot_be_used_is_refused_and_the_new_champion_scores(scene: Scene) -> None:
    new = sound(scene)
    other = calibrated(history(readings(3000, seed=3)), scene.folder / "challenger")
    challenger = damaged(scene, scene.publish(other))
    scene.promote(new)
    scene.registry.challenge("machines", new, author="gate", reason="to be tried")
    last = scene.registry.last_promotion("machines")
    assert last is not None
    entry = msgspec.structs.replace(last, challenger=challenger, id="by-hand")  # `challenge` itself looks at the files
    (scene.folder / "registry" / "aliases" / "machines" / "000003.json").write_bytes(msgspec.json.encode(entry))
    for _ in range(3):
        scene.turn()
    assert scene.version == new
    assert [(event.kind, event.version) for event in scene.events] == [("refused", challenger), ("swapped", new)]


def test_the_watch_goes_on_whatever_goes_wrong(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    last_promotion, failed = scene.registry.last_promotion, threading.Event()

    def fail_once(model: str) -> Promotion | None:
        if failed.is_set():
            return last_promotion(model)
        failed.set()
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(scene.registry, "last_promotion", fail_once)
    new = sound(scene)
    scene.promote(new)
    scene.watch._poll_s = 0.05
    scene.watch.start()
    deadline = time.monotonic() + 10
    while scene.version != new:
        assert time.monotonic() < deadline
        scene.succession.turn()
        time.sleep(0.01)
    scene.watch.stop()
    assert failed.is_set()


def test_a_registry_that_does_not_answer_changes_nothing_and_is_shown(scene: Scene) -> None:
    scene.turn()
    assert scene.metrics.registry.get_sample_value("ganwatch_registry_up") == 1
    aliases = scene.folder / "registry" / "aliases" / "machines"
    (aliases / "000001.json").write_bytes(b"no json")
    scene.turn()
    assert scene.metrics.registry.get_sample_value("ganwatch_registry_up") == 0
    assert scene.version == scene.champion
    assert scene.events == []


def test_the_watch_looks_by_itself_and_ends_when_told(scene: Scene) -> None:
    scene.watch._poll_s = 0.05
    scene.watch.start()
    new = sound(scene)
    scene.promote(new)
    deadline = time.monotonic() + 10
    while scene.version != new:
        assert time.monotonic() < deadline
        time.sleep(0.01)
        scene.succession.turn()
    scene.watch.stop()
    scene.watch._thread.join(timeout=5)
    assert not scene.watch._thread.is_alive()


def test_what_the_drift_watch_has_learned_is_kept_unless_the_target_changes(scene: Scene) -> None:
    learned, settings = scene.succession.pipeline.drift, scene.succession.pipeline.settings
    assert learned is not None
    scene.succession.decide_by(settings.model_copy(update={"log_level": "debug", "attribution_top_k": 2}))
    assert scene.succession.pipeline.drift is learned
    assert scene.succession.pipeline.settings.attribution_top_k == 2
    scene.succession.decide_by(settings.model_copy(update={"target_alert_rate": 0.02}))
    assert scene.succession.pipeline.drift is not learned


def test_that_nothing_can_be_flagged_is_warned_of_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    settings = scene.succession.pipeline.settings
    rare = settings.model_copy(update={"target_alert_rate": 1e-4})
    for chosen in (settings, rare, rare.model_copy(update={"attribution_top_k": 2}), settings, rare):
        scene.succession.decide_by(chosen)
    warnings = [record for record in caplog.records if record.getMessage() == "nothing_can_be_flagged"]
    assert [record.__dict__["version"] for record in warnings] == [scene.version] * 2
    assert "target_alert_rate = 0.0001 asks for a p-value" in warnings[0].__dict__["reason"]
