"""What every detector promises, checked on each one that `DETECTORS` lists and on options that change how it scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from monitor.errors import ConfigError
from monitor.model.bundle import FORMAT, Manifest, load_bundle, write_bundle
from monitor.model.golden import Golden
from monitor.model.schema import Schema
from monitor.model.scorer import Scorer
from training.calibrate import fit_calibration, score_frame
from training.commands import train
from training.detectors import DETECTORS, Detector, find_detector
from training.export import export_scorer, verify_export
from training.preprocessing import fit_preprocessor
from training.train import as_records
from training.trainer import Progress

pytestmark = pytest.mark.training

SEED = 7


@dataclass(frozen=True)
class Material:
    """Rows of one kind; the column `constant` never changes in training."""

    make_rows: Callable[[int, np.random.Generator], np.ndarray]
    n_features: int
    constant: int
    steps: int
    is_images: bool = False

    def options(self, n_features: int) -> dict[str, Any]:
        """What a detector has to know about rows of that width."""
        if not self.is_images:
            return {}
        side = round(n_features**0.5)
        shape = (side, side, 1) if side * side == n_features else (n_features, 1, 1)
        return {"image_shape": shape, "channels": (8, 16)}

    @property
    def schema(self) -> Schema:
        """Of records that hold such a row: a number for each column, or one image."""
        features: list[dict[str, Any]] = [
            {"name": f"x{column}", "kind": "numeric"} for column in range(self.n_features)
        ]
        if self.is_images:
            shape = self.options(self.n_features)["image_shape"]
            features = [{"name": "image", "kind": "array", "shape": shape}]
        return Schema.from_mapping({"name": "contract", "features": features}, "tests")

    def frame(self, X: np.ndarray) -> pl.DataFrame:
        """Rows as the columns that the schema names."""
        values = X.astype(np.float64)
        if self.is_images:
            return pl.DataFrame({"image": pl.Series(values, dtype=pl.Array(pl.Float64, self.n_features))})
        return pl.DataFrame(values, schema=list(self.schema.feature_names))


def make_table(n: int, rng: np.random.Generator) -> np.ndarray:
    """Three hidden numbers seen through seven columns, one of them 0 or 1, and a constant column: float32 (n, 8)."""
    hidden = rng.standard_normal((n, 3))
    mixing = np.array(
        [[1.0, 0.6, 0.0, 1.0, -0.5, 0.3], [0.0, 0.8, 1.0, -1.0, 0.7, 0.2], [0.2, 0.0, 0.6, 0.4, 0.9, -1.0]]
    )
    numeric = hidden @ mixing + 0.05 * rng.standard_normal((n, 6))
    return np.insert(np.column_stack([numeric, hidden[:, 0] > 0]), 5, 0.0, axis=1).astype(np.float32)


def make_images(n: int, rng: np.random.Generator) -> np.ndarray:
    """Images of 8 x 8 pixels with a bright spot somewhere, values -1 … 1; the first pixel is dark: float32 (n, 64)."""
    place, size = rng.uniform(1.5, 5.5, (n, 2, 1, 1)), rng.uniform(1, 2, (n, 1, 1))
    rows, columns = np.mgrid[:8, :8]
    images = 2 * np.exp(-((rows - place[:, 0]) ** 2 + (columns - place[:, 1]) ** 2) / size**2) - 1
    images[:, 0, 0] = -1
    return images.reshape(n, 64).astype(np.float32)


TABLE = Material(make_table, n_features=8, constant=5, steps=1000)
IMAGES = Material(make_images, n_features=64, constant=0, steps=1000, is_images=True)


def break_relations(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same values column by column, shuffled apart."""
    return np.stack([rng.permutation(column) for column in X.T], axis=1)


@dataclass(frozen=True)
class Trained:
    """A detector after a short training, and what was seen of it."""

    detector: Detector
    material: Material
    X: np.ndarray
    reports: list[Progress]

    def score(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.detector.score(tf.constant(X)))

    def weights(self) -> list[np.ndarray]:
        return [np.asarray(weight) for network in self.detector.networks for weight in network.weights]


@dataclass(frozen=True)
class Variant:
    """A detector with options that change its networks or its score."""

    kind: type[Detector]
    changes: dict[str, Any] = field(default_factory=dict)
    material: Material = TABLE

    def make(self, n_features: int, seed: int = SEED, **changes: Any) -> Detector:
        options = {**self.material.options(n_features), **self.changes, **changes}
        return self.kind(n_features, self.kind.options_type(**options), seed)

    def train(self, X: np.ndarray, steps: int, seed: int = SEED) -> Trained:
        reports: list[Progress] = []
        detector = self.make(X.shape[1], seed, steps=steps)
        detector.fit(X, on_progress=reports.append)
        return Trained(detector, self.material, X, reports)


def list_variants(material: Material, search_steps: int) -> dict[str, Variant]:
    """Each detector, and options that change its networks or how it scores."""
    searching = {"search": "latent", "search_steps": search_steps}
    masked = {"mask_rate": 0.5, "conditional": 1.0, "members": 2, "masks": 4}
    return {name: Variant(kind, material=material) for name, kind in sorted(DETECTORS.items())} | {
        "anogan, latent search": Variant(DETECTORS["anogan"], searching, material),
        "efficient_gan, masked ensemble": Variant(DETECTORS["efficient_gan"], masked, material),
    }


VARIANTS = list_variants(TABLE, 60) | {f"{name}, images": one for name, one in list_variants(IMAGES, 20).items()}


def list_papers() -> dict[str, Variant]:
    """Each detector as its paper has it, but for the length of the training; a search is as short as elsewhere here."""
    shorter = {"anogan": {"search_steps": 60}}
    return {
        f"{name}, preset = paper": Variant(
            kind, {**kind.options_type.presets["paper"], "epochs": None, **shorter.get(name, {})}
        )
        for name, kind in sorted(DETECTORS.items())
        if "paper" in kind.options_type.presets
    }


SEARCHING = {"search": "latent", "search_steps": 60}
# Options that change what is computed, but not what a detector promises: these are trained for a moment only.
OPTIONS = list_papers() | {
    "autoencoder, l2": Variant(DETECTORS["autoencoder"], {"similarity": "l2"}),
    "autoencoder, cosine": Variant(DETECTORS["autoencoder"], {"similarity": "cosine"}),
    "autoencoder, kl_histogram": Variant(DETECTORS["autoencoder"], {"similarity": "kl_histogram"}),
    "autoencoder, l1, images": Variant(DETECTORS["autoencoder"], {"similarity": "l1"}, IMAGES),
    "ganomaly, encoder = generator": Variant(DETECTORS["ganomaly"], {"encoder": "generator"}),
    "ganomaly, distance = l1": Variant(DETECTORS["ganomaly"], {"distance": "l1"}),
    "alocc, broken_weight = 0": Variant(DETECTORS["alocc"], {"broken_weight": 0.0}),
    "anogan, latent search, cosine": Variant(DETECTORS["anogan"], {**SEARCHING, "similarity": "cosine"}),
    "anogan, latent search, kl_histogram": Variant(DETECTORS["anogan"], {**SEARCHING, "similarity": "kl_histogram"}),
    "efficient_gan, feature_matching": Variant(DETECTORS["efficient_gan"], {"loss": "feature_matching", "degree": 2}),
}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def kind(variant: Variant) -> type[Detector]:
    return variant.kind


@pytest.fixture(scope="module")
def trained(variant: Variant) -> Trained:
    material = variant.material
    return variant.train(material.make_rows(2000, np.random.default_rng(0)), steps=material.steps)


@pytest.fixture(scope="module")
def exported(trained: Trained) -> bytes:
    return export_scorer(trained.detector, trained.material.n_features)


@pytest.fixture(scope="module")
def served(trained: Trained, exported: bytes) -> Scorer:
    return Scorer(exported, trained.material.n_features, source="scorer.tflite")


def write_exported(folder: Path, exported: bytes, material: Material, detector: str, frame: pl.DataFrame) -> None:
    """The bundle of a detector that takes values as they are, made as `train_model` makes one."""
    schema = material.schema
    preprocessor = fit_preprocessor(frame, schema, scaling="none")
    scorer = Scorer(exported, preprocessor.n_columns, source="scorer.tflite")
    X = preprocessor.transform(frame).X
    contents = {
        "scorer.tflite": exported,
        "preprocess.json": preprocessor.to_json(),
        "calibration.npz": fit_calibration(score_frame(preprocessor, scorer, frame)).to_npz(),
        "golden.npz": Golden(tuple(as_records(frame)), X, scorer.score(X)).to_npz(),
    }
    manifest = Manifest(
        format=FORMAT,
        model=schema.name,
        detector=detector,
        created_at="2026-01-31T12:00:00+00:00",
        configuration={},
        data={},
        schema=schema.model_dump(mode="json"),
        schema_fingerprint=schema.fingerprint,
        metrics={},
        software={},
        source_revision=None,
        files={},
    )
    write_bundle(folder, manifest, contents)


def test_is_listed_under_its_own_name(kind: type[Detector]) -> None:
    assert DETECTORS[kind.name] is kind


def test_the_command_line_names_every_detector() -> None:
    option = get_type_hints(train, include_extras=True)["detector"].__metadata__[0]
    assert option.help == f"One of {', '.join(sorted(DETECTORS))}."


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"efficient_gan.*got 'efficientgan'"):
        find_detector("efficientgan")


def test_unknown_options_are_refused_with_the_known_ones(kind: type[Detector]) -> None:
    with pytest.raises(ConfigError, match=r"'no_such_option'; known are .*latent_dim, .*trim"):
        kind.options_type(no_such_option=1)


def test_has_presets_that_survive_the_manifest_of_a_bundle(kind: type[Detector]) -> None:
    for preset in kind.options_type.presets:
        options = kind.options_type.preset(preset)
        assert kind.options_type(**options.model_dump(mode="json")) == options


def test_an_unknown_preset_is_refused(kind: type[Detector]) -> None:
    with pytest.raises(ConfigError, match="papper"):
        kind.options_type.preset("papper")


def test_scores_are_finite_float32_one_a_row(trained: Trained) -> None:
    scores = trained.score(trained.X)
    assert scores.dtype == np.float32
    assert scores.shape == (len(trained.X),)
    assert np.isfinite(scores).all()


def test_scores_stay_finite_for_values_far_outside_of_the_training_rows(trained: Trained) -> None:
    assert np.isfinite(trained.score(np.full((1, trained.material.n_features), 1e6, np.float32))).all()


def test_a_rows_score_does_not_depend_on_its_neighbours(trained: Trained) -> None:
    rows = trained.X[:20]
    alone = np.concatenate([trained.score(rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_allclose(trained.score(rows), alone, rtol=1e-4)


def test_scoring_twice_gives_the_same_and_changes_no_weight(trained: Trained) -> None:
    before = trained.weights()
    first, second = trained.score(trained.X), trained.score(trained.X)
    np.testing.assert_array_equal(first, second)
    for old, new in zip(before, trained.weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_rows_of_another_width_raise(trained: Trained) -> None:
    with pytest.raises(ValueError, match="shape"):
        trained.score(np.zeros((2, trained.material.n_features + 1), np.float32))


def test_anomalies_score_higher(trained: Trained) -> None:
    rng = np.random.default_rng(1)
    normal = trained.material.make_rows(1000, rng)
    scores = trained.score(np.concatenate([normal, break_relations(normal, rng)]))
    assert roc_auc_score(np.repeat([0, 1], 1000), scores) > 0.9


def test_a_constant_column_that_changes_raises_the_score_and_stays_finite(trained: Trained) -> None:
    usual = trained.material.make_rows(1, np.random.default_rng(2))
    changed = usual.copy()
    changed[0, trained.material.constant] = 3.0
    assert np.isfinite(trained.score(changed)).all()
    assert trained.score(changed)[0] > trained.score(usual)[0]


def test_explanations_have_the_shape_of_the_rows_and_are_not_negative(trained: Trained) -> None:
    x_hat, residual = (np.asarray(part) for part in trained.detector.explain(tf.constant(trained.X)))
    assert x_hat.shape == residual.shape == trained.X.shape
    assert (residual >= 0).all()


def test_the_column_that_was_changed_has_the_largest_residual(trained: Trained) -> None:
    rows = trained.material.make_rows(100, np.random.default_rng(3))
    changed = rows.copy()
    changed[:, trained.material.constant] = 3.0
    _, residual = (np.asarray(part) for part in trained.detector.explain(tf.constant(changed)))
    assert np.mean(residual.argmax(axis=1) == trained.material.constant) > 0.95


def test_the_exported_detector_gives_the_same_scores_and_explanations(trained: Trained, served: Scorer) -> None:
    rows = np.concatenate([trained.X[:500], 10 * trained.X[:500]])
    np.testing.assert_allclose(served.score(rows), trained.score(rows), rtol=1e-4)
    explained = served.explain(rows)
    x_hat, residual = (np.asarray(part) for part in trained.detector.explain(tf.constant(rows)))
    np.testing.assert_allclose(explained.x_hat, x_hat, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(explained.residual, residual, rtol=1e-4, atol=1e-4)


def test_a_served_score_is_bit_equal_whatever_the_batch(trained: Trained, served: Scorer) -> None:
    rows = trained.X[:70]
    together = served.score(rows)
    for size in (1, 9, 64):
        parts = [served.score(rows[start : start + size]) for start in range(0, len(rows), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def test_a_written_bundle_gives_records_the_bits_that_were_seen_before(
    trained: Trained, exported: bytes, served: Scorer, tmp_path: Path
) -> None:
    material, rows = trained.material, np.concatenate([trained.X[:70], 10 * trained.X[:30]])
    frame = material.frame(rows)
    write_exported(tmp_path / "bundle", exported, material, trained.detector.name, frame)
    bundle = load_bundle(tmp_path / "bundle", expected_schema=material.schema)  # recomputes the golden records
    decoded = bundle.decoder().decode(as_records(frame))
    assert not decoded.invalid
    X = bundle.preprocessor.transform(decoded.frame).X
    np.testing.assert_array_equal(X, rows)
    np.testing.assert_array_equal(bundle.scorer.score(X), served.score(rows))
    np.testing.assert_array_equal(bundle.calibration.scores, np.sort(served.score(rows)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_served_as_it_was_trained_and_trains_alike_again(option: str) -> None:
    variant = OPTIONS[option]
    X = variant.material.make_rows(200, np.random.default_rng(0))
    first, again = variant.train(X, steps=50), variant.train(X, steps=50)
    np.testing.assert_array_equal(first.score(X), again.score(X))
    served = Scorer(export_scorer(first.detector, X.shape[1]), X.shape[1], source="scorer.tflite")
    assert verify_export(first.detector, served, X) <= 1e-4


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_thousands_of_columns_are_trained_and_served(name: str) -> None:
    X = np.random.default_rng(0).standard_normal((300, 2000)).astype(np.float32)
    trained = Variant(DETECTORS[name], {"members": 1}).train(X, steps=10)
    assert np.isfinite(trained.score(X)).all()
    served = Scorer(export_scorer(trained.detector, 2000), 2000, source="scorer.tflite")
    assert verify_export(trained.detector, served, X[:50]) <= 1e-4


def test_the_same_seed_gives_the_same_scores(variant: Variant) -> None:
    X = variant.material.make_rows(300, np.random.default_rng(0))
    np.testing.assert_array_equal(variant.train(X, steps=60).score(X), variant.train(X, steps=60).score(X))


def test_another_seed_gives_other_networks(variant: Variant) -> None:
    first, second = (variant.make(variant.material.n_features, seed).networks[0].weights[0] for seed in (1, 2))
    assert not np.array_equal(np.asarray(first), np.asarray(second))


def test_training_changes_the_weights_and_reports_its_progress(variant: Variant, trained: Trained) -> None:
    untrained = variant.make(variant.material.n_features)
    spreads = [float(np.std(np.asarray(one.networks[0].weights[0]))) for one in (untrained, trained.detector)]
    assert spreads[0] != pytest.approx(spreads[1], rel=1e-3)
    assert trained.reports[-1].step == trained.reports[-1].steps == trained.material.steps
    assert all(np.isfinite(loss) for report in trained.reports for loss in report.losses.values())


@pytest.mark.parametrize("shape", [(1, 1), (5, 2)])
def test_few_rows_and_a_single_column_can_be_learnt(variant: Variant, shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert np.isfinite(variant.train(X, steps=20).score(X)).all()


def test_rows_that_are_all_equal_can_be_learnt(variant: Variant) -> None:
    trained = variant.train(np.zeros((200, 3), np.float32), steps=20)
    assert np.isfinite(trained.score(np.array([[0, 0, 0], [0, 0, 9]], np.float32))).all()
