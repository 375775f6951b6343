"""`ganwatch evaluate`: how good is the deployed bundle on labelled rows, measured with the serving code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from monitor.errors import ConfigError
from monitor.offline import score_file
from monitor.settings import Settings
from training.labels import has_label, list_labels, parse_labels, read_labels


@dataclass(frozen=True)
class Evaluation:
    """Figures of one bundle on one labelled file; shares are fractions.

    Attributes:
        rows: with a label; the others count for nothing here.
        unlabelled: rows without one.
        anomalies: labelled so.
        flagged: at or above the threshold.
        precision: share of flagged rows that are anomalies; None when nothing was flagged.
        recall: share of anomalies that were flagged.
        f1: harmonic mean of the two.
        auroc: area under the ROC curve of the raw score.
        average_precision: area under the precision-recall curve of the raw score.
        alert_rate_on_normals: share of normal rows that were flagged.
        target_alert_rate: what that share was to be; None where something else decides.
        threshold: least score that is flagged.
        model: version of the bundle.
        nothing_flagged_because: why no row can be flagged, whatever it holds; None where one can.
    """

    rows: int
    unlabelled: int
    anomalies: int
    flagged: int
    precision: float | None
    recall: float
    f1: float
    auroc: float
    average_precision: float
    alert_rate_on_normals: float
    target_alert_rate: float | None
    threshold: float
    model: str
    nothing_flagged_because: str | None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def evaluate_file(file: Path, label: str, settings: Settings, *, anomaly: Sequence[str] = ()) -> Evaluation:
    """Scores a labelled file and compares.

    Args:
        file: CSV, Parquet or JSON lines.
        label: its label column.
        settings: registry, schema and decision.
        anomaly: the labels that mean anomaly; see `training.labels.parse_labels`.

    Raises:
        ConfigError: the file does not fit the schema, lacks the label, or has rows of one kind only.
        BundleError: no usable model.
    """
    labels = read_labels(file, label)
    known = has_label(labels)
    y = parse_labels(labels, anomaly)[known]
    if not len(y) or y.all() or not y.any():
        kind = "anomalies" if y.any() else "normal"
        raise ConfigError(
            f"--label {label}",
            f"all {len(y)} labelled rows of {file} are {kind}; both kinds are needed. The labels are {list_labels(labels)}; "
            "--anomaly says which of them mean anomaly",
        )
    scores = score_file(file, settings, top=0)
    flagged = scores.frame.get_column("flagged").to_numpy()[known]
    raw_score = scores.frame.get_column("raw_score").to_numpy()[known]
    hits = int((flagged & y).sum())
    n_flagged, n_anomalies = int(flagged.sum()), int(y.sum())
    other_rule = settings.threshold is not None or settings.false_discovery_rate is not None
    return Evaluation(
        rows=len(y),
        unlabelled=int((~known).sum()),
        anomalies=n_anomalies,
        flagged=n_flagged,
        precision=hits / n_flagged if n_flagged else None,
        recall=hits / n_anomalies,
        f1=2 * hits / (n_flagged + n_anomalies),
        auroc=float(roc_auc_score(y, raw_score)),
        average_precision=float(average_precision_score(y, raw_score)),
        alert_rate_on_normals=float(np.mean(flagged[~y])),
        target_alert_rate=None if other_rule else settings.target_alert_rate,
        threshold=scores.threshold,
        model=scores.bundle.version,
        nothing_flagged_because=scores.nothing_flagged_because,
    )
