"""Writes the report: gathers what the bundle says of itself and what was measured, and fills the page with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup
from sklearn.metrics import average_precision_score, roc_auc_score

from monitor.model.bundle import Bundle, Manifest
from monitor.model.decision import decision_threshold, explain_no_flags, raw_cut
from monitor.model.registry import Registry
from monitor.model.stored_bundles import report_path
from monitor.settings import Settings
from training.history import History
from training.report import plots
from training.report.evidence import Evidence, evidence_of_training
from training.report.pictures import SHOWN
from training.split import Split

_RATES = (1e-2, 1e-3, 1e-4)
_CHOSE_WEIGHTS = (
    "AUROC, average precision and their curves are measured on the labelled anomalies that also chose the weights, so on new "
    "anomalies they may be worse."
)


@dataclass(frozen=True)
class Plot:
    """A plot and what to see in it."""

    title: str
    text: str
    svg: Markup


@dataclass(frozen=True)
class Cut:
    """Where records are flagged for one target rate; raw scores are the detector's own."""

    rate: float
    score: float
    quantile: float
    pot: float


def write_report(bundle: Bundle, evidence: Evidence, target_alert_rate: float, remarks: Sequence[str] = ()) -> bytes:
    """The page.

    Args:
        bundle: as it is in the registry, with the gate's verdict if there is one.
        evidence: of this bundle.
        target_alert_rate: of the deployment; the threshold that the plots show.
        remarks: of the validation of the rows.
    """
    manifest = bundle.manifest
    gate = manifest.metrics.get("gate")
    page = _environment().get_template("page.html")
    return page.render(
        manifest=manifest,
        version=bundle.version,
        gate=gate,
        facts=list(_facts(bundle, evidence)),
        caveat=_CHOSE_WEIGHTS if evidence.anomalies_chose_weights else None,
        warnings=[*_warnings(manifest), *remarks],
        plots=list(_plots(bundle, evidence, target_alert_rate)),
        cuts=[_cut(bundle, rate) for rate in _RATES],
        target=target_alert_rate,
        groups=evidence.groups,
        tables={
            "Data": manifest.data,
            "Configuration": manifest.configuration | {"detector": manifest.detector},
            "Measured": {name: value for name, value in manifest.metrics.items() if name not in ("gate", "course")},
            "Made with": manifest.software,
        },
    ).encode()


def publish_report(
    registry: Registry, bundle: Bundle, evidence: Evidence, target_alert_rate: float, remarks: Sequence[str] = ()
) -> None:
    """Writes the page into the folder of the bundle.

    Raises:
        BundleError: the registry cannot be written to.
    """
    path = report_path(bundle.manifest.model, bundle.version)
    registry.store.write(path, write_report(bundle, evidence, target_alert_rate, remarks))


def report_training(registry: Registry, bundle: Bundle, history: History, split: Split, settings: Settings) -> None:
    """Publishes the report of a training by itself; it says where the deployment's settings let nothing be flagged.

    Raises:
        BundleError: the registry cannot be written to.
    """
    silence = explain_no_flags(settings, bundle.calibration)
    remarks = [] if silence is None else [f"With the settings of this training {silence}."]
    evidence = evidence_of_training(bundle, history, split)
    publish_report(registry, bundle, evidence, settings.target_alert_rate, remarks)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("training", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["brief"] = brief
    environment.filters["flat"] = flat
    return environment


def brief(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if value in ({}, [], ()):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a nested table; names of inner ones follow that of their table."""
    for name, value in content.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{name}".replace("_", " "), value


def _facts(bundle: Bundle, evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What is said first."""
    data, metrics = bundle.manifest.data, bundle.manifest.metrics
    if "train_rows" in data:
        yield "rows trained on", brief(data["train_rows"])
    yield "rows that calibrate", brief(len(bundle.calibration.scores))
    if "best_step" in metrics:
        yield "weights of step", f"{metrics['best_step']:,} of {metrics['steps']:,}"
    if evidence.anomalies is not None:
        truth = plots.truth(evidence)
        yield "AUROC", f"{roc_auc_score(*truth):.4f}"
        yield "average precision", f"{average_precision_score(*truth):.4f}"
    if "train_seconds" in metrics:
        yield "training", f"{metrics['train_seconds']:,.0f} s"


def _warnings(manifest: Manifest) -> Iterator[str]:
    metrics = manifest.metrics
    if "network_of" in manifest.data:
        yield (
            f"The network is that of {manifest.data['network_of']}, calibrated on newer rows, because the one that was "
            "trained on those was refused. Rows trained on, losses and configuration are of the old training."
        )
    yield from (f"Started anew: {restart}" for restart in metrics.get("restarts", ()))
    if metrics.get("collapse"):
        yield f"The last attempt collapsed, too: {metrics['collapse']}."
    if metrics.get("trimmed_rows"):
        yield (
            f"{metrics['trimmed_rows']:,} training rows, those with the sparsest surroundings, were left out. The rows that calibrate "
            "were not: anomalies among them raise the threshold."
        )
    for name, value in manifest.data.get("extreme_features", {}).items():
        yield f"{name} holds numbers out of all proportion, such as {value:g}, which the scaling did not count."
    if metrics.get("calibration_tail", ()) is None:
        yield (
            "No tail could be fitted to the held-out scores: p-values end at 1 / (rows that calibrate + 1). By conformal p-values "
            "nothing is flagged at a smaller target_alert_rate."
        )


def _cut(bundle: Bundle, rate: float) -> Cut:
    quantile, pot = (
        Settings.model_validate({"target_alert_rate": rate, "threshold_method": method})
        for method in ("quantile", "pot")
    )
    conformal = Settings.model_validate({"target_alert_rate": rate})
    return Cut(
        rate,
        decision_threshold(conformal, bundle.calibration),
        float(raw_cut(quantile, bundle.calibration) or 0.0),
        float(raw_cut(pot, bundle.calibration) or 0.0),
    )


def _plots(bundle: Bundle, evidence: Evidence, target_alert_rate: float) -> Iterator[Plot]:
    metrics, cut = bundle.manifest.metrics, _cut(bundle, target_alert_rate)
    course = metrics.get("course", {})
    if course.get("losses"):
        yield _plot("Losses", "Mean over the last steps, by part of the network.", plots.plot_losses(course))
    if course.get("evaluations"):
        text = "Measured on rows kept out of training; the weights of the best step are kept."
        yield _plot("Choice of the weights", text, plots.plot_quality(course, metrics["best_step"]))
    if course.get("samples"):
        text = (
            "What the generator makes of the same noise on the way; where there is none, what becomes of the same rows."
        )
        shape = bundle.manifest.configuration["options"]["image_shape"]
        yield _plot("Images on the way", text, plots.plot_samples(course["samples"], shape))
    yield _plot(
        "Scores",
        f"From 0 to 100. The threshold is that of target_alert_rate = {target_alert_rate:g}.",
        plots.plot_scores(evidence.groups, cut.score),
    )
    yield _plot("Raw scores", "On the detector's own scale.", plots.plot_raw_scores(evidence.groups, cut.quantile))
    text = f"Of {len(evidence.p_value):,} rows: {evidence.p_value_source}. Above the diagonal there are more alerts than promised."
    yield _plot("Calibration of the p-values", text, plots.plot_p_values(evidence.p_value))
    if evidence.anomalies is not None:
        yield _plot("ROC curve", "At every threshold on the raw score.", plots.plot_roc(evidence))
        text = f"With {len(evidence.anomalies.raw_score):,} anomalies among the rows."
        yield _plot("Precision and recall", text, plots.plot_precision_recall(evidence))
    text = (
        "How far each feature is on average from what the model expects, in the model's own units; many features: those that deviate "
        "most."
    )
    yield _plot("Error by feature", text, plots.plot_errors(bundle.schema.feature_names, evidence))
    text = (
        "From above: as they came, as the model expects them, and the difference. "
        f"Left {SHOWN} of any score, right those of the highest scores."
    )
    for group in evidence.groups:
        if group.pictures is not None:
            yield _plot(f"Images: {group.name}", text, plots.plot_pictures(group.pictures))


def _plot(title: str, text: str, svg: str) -> Plot:
    return Plot(title, text, Markup(svg))  # noqa: S704 - drawn by ourselves; matplotlib escapes the text in it
