"""The training report: everything a person asks of a model is on one page, which loads nothing from elsewhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from monitor.model.bundle import Bundle, load_bundle, read_files, write_bundle
from monitor.model.calibration import threshold_of
from tests import machines
from tests.reports import GATE, eventful_bundle, evidence_of, full_page
from training.history import History
from training.report.evidence import Group, evidence_of_training
from training.report.page import brief, flat, write_report
from training.report.pictures import Pictures, make_sheet
from training.report.plots import plot_errors, plot_p_values, plot_raw_scores, plot_scores
from training.samples import Sample, pack_samples
from training.split import split_rows


class Page(HTMLParser):
    """Text, headings and addresses of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("h1", "h2", "h3") and data.strip():
            self.headings.append(data.strip())
        if self.tags and self.tags[-1] != "style":
            self.text += f" {data.strip()}" if data.strip() else ""


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> str:
    return full_page(tmp_path_factory.mktemp("report") / "bundle")


@pytest.fixture(scope="module")
def page(content: str) -> Page:
    return Page(content)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return eventful_bundle(tmp_path / "bundle")


def test_every_part_has_its_heading(page: Page) -> None:
    assert page.headings == [
        "machines", "Gate", "Training and scores", "Losses", "Choice of the weights", "Scores", "Raw scores",
        "Calibration of the p-values", "ROC curve", "Precision and recall", "Error by feature", "Thresholds",
        "Highest scores", "Newest rows", "Judged anomalies", "Data", "Configuration", "Measured", "Made with",
    ]  # fmt: skip


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(content: str, page: Page) -> None:
    assert all(address.startswith("#") for address in page.addresses)
    assert "script" not in page.tags
    assert "@import" not in content
    assert re.findall(r"url\((?!#)", content) == []


def test_what_happened_and_what_the_gate_said_can_be_read(page: Page) -> None:
    assert "Started anew: training: loss 'latent' is nan after 50 steps" in page.text
    assert "12 of 8,000 records could not be read" in page.text
    assert "refused by the gate" in page.text
    for check in GATE["checks"]:
        assert f"{check['name']} {check['limit']} {check['value']:.4g} {check['verdict']}" in page.text


def test_the_figures_are_those_of_the_evidence(page: Page, bundle: Bundle) -> None:
    evidence = evidence_of(bundle)
    assert evidence.anomalies is not None
    normal, anomalous = evidence.normal.raw_score, evidence.anomalies.raw_score
    labels = np.repeat([0, 1], [len(normal), len(anomalous)])
    assert (len(normal), len(anomalous)) == (3000, 60)
    assert f"AUROC {roc_auc_score(labels, np.concatenate([normal, anomalous])):.4f}" in page.text
    best = evidence.anomalies.examples[0]
    assert best.raw_score == anomalous.max()
    assert f"{best.score:.1f} {best.p_value:.1e} {best.raw_score:.4g} {best.attribution[0].feature}" in page.text
    assert f"0.001 {threshold_of(0.001):.1f}" in page.text
    # Anomalies break current and temperature, and the page says so.
    assert evidence.anomalies.errors[1:3].sum() > 10 * evidence.normal.errors[1:3].sum()


def test_figures_on_anomalies_that_chose_the_weights_are_marked_as_such(bundle: Bundle) -> None:
    evidence = evidence_of(bundle)
    sentence = (
        "AUROC, average precision and their curves are measured on the labelled anomalies that also chose the weights"
    )
    told = Page(write_report(bundle, replace(evidence, anomalies_chose_weights=True), 0.001).decode())
    assert sentence in told.text
    assert sentence not in Page(write_report(bundle, evidence, 0.001).decode()).text


@pytest.mark.parametrize("labelled", [True, False])
def test_labels_of_a_training_chose_its_weights(bundle: Bundle, *, labelled: bool) -> None:
    labels = np.arange(400) >= 380 if labelled else None
    history = History(machines.readings(400, seed=73, anomalies=20), source="test", times=None, labels=labels)
    evidence = evidence_of_training(bundle, history, split_rows(history, np.random.default_rng(0)))
    assert evidence.anomalies_chose_weights is labelled


def test_every_plot_is_whole_and_coloured_by_the_style_sheet_alone(content: str) -> None:
    plots = re.findall(r"<svg.*?</svg>", content, re.DOTALL)
    assert len(plots) == 8
    for plot in plots:
        ET.fromstring(plot)  # noqa: S314 - our own
    colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", "".join(plots)))
    assert {colour for colour in colours if not colour.startswith("var(--")} <= {"none"}
    defined = set(re.findall(r"(--[a-z]+):", content))
    assert {name.split(")")[0] for colour in colours for name in colour.split("var(")[1:]} <= defined


def test_without_labels_gate_and_losses_their_parts_are_left_out(tmp_path: Path) -> None:
    bare = eventful_bundle(tmp_path / "bundle", gate=None, course={}, restarts=[])
    page = Page(write_report(bare, evidence_of(bare, anomalies=0), 0.001).decode())
    left_out = {"Gate", "Losses", "Choice of the weights", "ROC curve", "Precision and recall", "Judged anomalies"}
    assert not left_out & set(page.headings)
    assert {"Scores", "Calibration of the p-values", "Newest rows"} <= set(page.headings)


def test_the_same_evidence_gives_the_same_page(content: str, tmp_path: Path) -> None:
    assert full_page(tmp_path / "bundle") == content


def test_names_of_others_are_shown_and_never_run(tmp_path: Path) -> None:
    bundle = eventful_bundle(tmp_path / "bundle")
    remark = "column <script>alert(1)</script> & 'others' hold nothing"
    page = Page(write_report(bundle, evidence_of(bundle), 0.01, [remark]).decode())
    assert remark in page.text
    assert "script" not in page.tags


def test_errors_by_feature_are_called_deviations_because_not_every_score_is_their_sum(page: Page) -> None:
    assert "How far each feature is on average from what the model expects, in the model's own units" in page.text
    assert "mean deviation, in the model's own units" in page.text
    assert "to the raw score" not in page.text


def test_features_may_have_any_name(bundle: Bundle) -> None:
    names = [r"$\frac$", "温度", "<b>", "a$b$", "x" * 100, "plain"]
    shown = Page(plot_errors(names, evidence_of(bundle))).text
    for name in (*names[:4], "x" * 25 + "…", "plain"):
        assert name in shown


def image_bundle(folder: Path) -> Bundle:
    """The machines' model, which takes its rows for images of one line."""
    source = eventful_bundle(folder / "source")
    options = {"image_shape": [1, source.preprocessor.n_columns, 1]}
    manifest = msgspec.structs.replace(source.manifest, configuration={"preset": "default", "options": options})
    write_bundle(folder / "bundle", manifest, read_files(source.path, source.manifest))
    return load_bundle(folder / "bundle")


def test_rows_that_are_images_are_shown_with_their_reconstructions(tmp_path: Path) -> None:
    bundle = image_bundle(tmp_path)
    evidence = evidence_of(bundle)
    assert evidence.anomalies is not None
    pictures = evidence.anomalies.pictures
    assert pictures is not None
    assert pictures.original.shape == pictures.expected.shape == (16, 1, bundle.preprocessor.n_columns, 1)
    raw_score = bundle.scorer.score(pictures.original.reshape(16, -1))
    assert raw_score[8] == raw_score.max() == evidence.anomalies.raw_score.max()
    page = Page(write_report(bundle, evidence, 0.001).decode())
    assert {"Images: newest rows", "Images: judged anomalies"} <= set(page.headings)
    assert "script" not in page.tags
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)


def test_images_that_were_generated_on_the_way_are_shown_with_their_steps(tmp_path: Path) -> None:
    bundle = image_bundle(tmp_path)
    rows = np.random.default_rng(0).random((8, bundle.preprocessor.n_columns), dtype=np.float32)
    metrics = bundle.manifest.metrics
    samples = pack_samples([Sample(50, rows / 2), Sample(1200, rows)])
    told = msgspec.structs.replace(
        bundle.manifest, metrics=metrics | {"course": metrics["course"] | {"samples": samples}}
    )
    write_bundle(tmp_path / "told", told, read_files(bundle.path, bundle.manifest))
    told_bundle = load_bundle(tmp_path / "told")
    page = Page(write_report(told_bundle, evidence_of(told_bundle), 0.001).decode())
    assert "Images on the way" in page.headings
    assert "step 1,200" in page.text
    assert "Images on the way" not in Page(write_report(bundle, evidence_of(bundle), 0.001).decode()).headings


def test_a_sheet_has_a_line_each_for_images_reconstructions_and_differences() -> None:
    original = np.array([[[[-1.0]]], [[[1.0]]]], np.float32)
    expected = np.array([[[[0.0]]], [[[2.0]]]], np.float32)
    sheet = make_sheet(Pictures(original, expected))
    assert sheet.shape == (9, 6, 3)
    lines = [[0.0, 1.0], [0.5, 1.0], [0.5, 0.5]]  # what is brighter than every original is shown as bright as these
    np.testing.assert_array_equal(sheet[::3, ::3], np.repeat(np.array(lines)[..., None], 3, axis=-1))
    assert (sheet[1] == 1).all()


def test_images_of_three_channels_keep_their_colours() -> None:
    original = np.array([[[[0.0, 0.5, 1.0]]]], np.float32)
    sheet = make_sheet(Pictures(original, original))
    np.testing.assert_array_equal(sheet[0, 0], [0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    "raw_score", [[0.0, 0.0, 0.0], [-7.0, -6.0, -5.0], [1.0, 2.0, float(np.finfo(np.float32).max)]]
)
def test_any_scores_can_be_drawn(raw_score: list[float]) -> None:
    scores = np.array(raw_score, dtype=np.float32)
    group = Group("rows", scores, np.array([1.0, 0.5, 1e-12]), np.zeros(1), ())
    for plot in (plot_raw_scores([group], max(raw_score)), plot_scores([group], 50.0), plot_p_values(group.p_value)):
        ET.fromstring(plot)  # noqa: S314 - our own


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (False, "no"), (1234567, "1,234,567"), (0.000123456, "0.0001235"), ({}, "none"), ([], "none"),
     ([1, "a"], '[1,"a"]'), ("a", "a"), (0, "0")],
)  # fmt: skip
def test_values_are_written_for_people(value: object, text: str) -> None:
    assert brief(value) == text


def test_nested_tables_become_one_with_readable_names() -> None:
    content = msgspec.json.decode(b'{"preset":"default","options":{"latent_dim":3,"widths":[16]},"left_out":{}}')
    assert list(flat(content)) == [
        ("preset", "default"), ("options: latent dim", 3), ("options: widths", [16]), ("left out", {}),
    ]  # fmt: skip
