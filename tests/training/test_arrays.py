"""Arrays all the way: from records of images without a schema to a model that names the cell that is odd."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from monitor.alerting.alert import alert_schema, without_payload
from monitor.errors import BundleError, ConfigError
from monitor.initialise import initialise
from monitor.model.bundle import FILES, Bundle, load_bundle, write_bundle
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.offline import score_file
from monitor.settings import load_settings
from monitor.stream.broker import Cluster
from monitor.stream.pipeline import Pipeline
from tests.images import SHAPE, images, write
from tests.monitor.records import batch_of, segment
from training.challenger import ChallengerPlan, train_challenger, training_plan
from training.history import read_history
from training.retrain_steps import Steps
from training.train import TrainingPlan, train_model

pytestmark = pytest.mark.training

ODD_ROW, ODD_CELL = 7, (3, 5, 0)
OPTIONS = {"steps": 60, "latent_dim": 2, "channels": [4], "encoder_widths": [16], "generator_widths": [16]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """features.toml as `ganwatch init` writes it, and a model, trained on nested images."""
    folder = tmp_path_factory.mktemp("arrays")
    rows = write(folder / "rows.jsonl", images(300, seed=1).tolist())
    initialise(
        str(rows), folder / "features.toml", name="parts", timezone=None, records=1000, force=False, config=None,
        bootstrap_servers=None,
    )  # fmt: skip
    schema = Schema.load(folder / "features.toml")
    history = read_history(str(rows), schema, load_settings(None), max_rows=10_000)
    plan = TrainingPlan(detector="autoencoder", options=OPTIONS)
    train_model(history, schema, Registry(str(folder / "registry")), plan)
    return folder


def champion(folder: Path) -> Bundle:
    registry = Registry(str(folder / "registry"))
    return registry.load("parts", registry.champion("parts"), expected_schema=Schema.load(folder / "features.toml"))


def test_init_recognises_images_and_their_model_is_convolutional(folder: Path) -> None:
    schema = Schema.load(folder / "features.toml")
    assert (schema.id, schema.image_shape) == ("part", SHAPE)
    bundle = champion(folder)
    assert bundle.manifest.configuration["options"]["image_shape"] == list(SHAPE)
    assert bundle.manifest.metrics["export_difference"] <= 1e-4


def test_a_bundle_whose_transform_is_for_another_shape_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = champion(folder)
    contents = {name: (bundle.path / name).read_bytes() for name in FILES}
    preprocess = json.loads(contents["preprocess.json"])
    preprocess["columns"][0]["shape"] = [8, 4, 2]
    contents["preprocess.json"] = json.dumps(preprocess).encode()
    write_bundle(tmp_path / "bundle", bundle.manifest, contents)
    with pytest.raises(
        BundleError, match=r"expected image \(array of \(8, 8, 1\)\), found image \(array of \(8, 4, 2\)\)"
    ):
        load_bundle(tmp_path / "bundle")


def test_flat_images_are_scored_and_the_odd_cell_is_named(folder: Path) -> None:
    rows = images(40, seed=2)
    rows[(ODD_ROW, *ODD_CELL)] += 300.0
    settings = load_settings(
        None, flags={"registry": str(folder / "registry"), "schema_path": str(folder / "features.toml")}
    )
    flat = score_file(write(folder / "flat.jsonl", rows.reshape(40, -1).tolist()), settings, top=1)
    (first,) = flat.top[ODD_ROW]
    assert (first.feature, first.share) == ("image[3,5,0]", 1.0)
    assert first.value == rows[(ODD_ROW, *ODD_CELL)]
    assert isinstance(first.expected, float)
    assert abs(first.expected - 80) < 60
    nested = score_file(write(folder / "nested.jsonl", rows.tolist()), settings, top=0)
    assert nested.frame.equals(flat.frame)
    with pytest.raises(ConfigError, match=r"line 2: Expected 64 numbers, got 3 - at `image`"):
        score_file(write(folder / "bad.jsonl", [rows[0].tolist(), [1, 2, 3]]), settings)


def test_the_daemon_s_alert_names_the_cell_and_holds_the_image_in_its_payload_only(folder: Path) -> None:
    rows = images(30, seed=4)
    rows[(ODD_ROW, *ODD_CELL)] += 300.0
    values = [json.dumps({"part": f"p{row}", "image": image}).encode() for row, image in enumerate(rows.tolist())]
    settings = load_settings(None, flags={"target_alert_rate": 0.02})
    pipeline = Pipeline(champion(folder), settings, Cluster("c", "t"), now=lambda: datetime(2026, 3, 1, tzinfo=UTC))
    judged = pipeline.judge(batch_of(segment([*values, b'{"part":"p30"}', b'{"image":[1,2,3]}'])))
    documents = [json.loads(message.value or b"") for message in judged.messages]
    alerts = {alert["record"]["offset"]: alert for alert in documents if "record" in alert}
    assert {"image": [1, 2, 3]} in documents, "the dead letter, unchanged"
    alert = alerts[ODD_ROW]
    Draft202012Validator(alert_schema()).validate(alert)
    (why,) = alert["attribution"]
    assert (why["feature"], why["value"], why["share"]) == ("image[3,5,0]", rows[(ODD_ROW, *ODD_CELL)], 1.0)
    assert alert["payload"]["image"] == rows[ODD_ROW].tolist()
    assert len(without_payload(json.dumps(alert).encode())) < 1000


def test_a_challenger_takes_the_shape_that_the_schema_has_now(folder: Path) -> None:
    manifest = champion(folder).manifest
    plan = training_plan(manifest, ChallengerPlan(options={"steps": 5}))
    assert plan.detector == "autoencoder"
    assert "image_shape" not in plan.options
    feature = {"name": "image", "kind": "array", "shape": [4, 4, 1]}
    smaller = Schema.from_mapping({"name": "parts", "features": [feature]}, "tests")
    rows = write(folder / "smaller.jsonl", images(60, seed=3)[:, ::2, ::2].tolist())
    history = read_history(str(rows), smaller, load_settings(None), max_rows=1000)
    path = train_challenger(history, folder / "staging", schema=smaller, model="parts", plan=plan, step=Steps())
    options = json.loads((path / "manifest.json").read_bytes())["configuration"]["options"]
    assert options["image_shape"] == [4, 4, 1]


def test_a_champion_told_to_be_dense_stays_so(folder: Path) -> None:
    manifest = champion(folder).manifest
    manifest.configuration["options"]["image_shape"] = None
    plan = training_plan(manifest, ChallengerPlan())
    assert plan.options["image_shape"] is None
