"""Public data sets for tests and benchmarks: KDD Cup 1999 and the split of the EfficientGAN authors.

Polarity is ours: label 1 = anomaly. In this protocol the *attacks* are the inliers and `normal.` is the anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from monitor.errors import ConfigError
from monitor.model.columns import dtype_of
from monitor.model.schema import Feature, Kind, Schema

_FILE = Path("kdd99") / "kddcup.data_10_percent.gz"
KDD99_FIELDS = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment", "urgent",
    "hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted", "num_root",
    "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds", "is_host_login", "is_guest_login",
    "count", "srv_count", "serror_rate", "srv_serror_rate", "rerror_rate", "srv_rerror_rate", "same_srv_rate",
    "diff_srv_rate", "srv_diff_host_rate", "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate", "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate",
    "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate",
)  # fmt: skip
KDD99_CATEGORICAL = ("protocol_type", "service", "flag", "land", "logged_in", "is_host_login", "is_guest_login")
KDD99_LABEL = "label"
_ANOMALY = "normal."


def kdd99_schema() -> Schema:
    """The 41 fields as features; the seven that the authors one-hot encode are categorical."""
    return Schema(name="kdd99", features=tuple(Feature(name=name, kind=_kdd99_kind(name)) for name in KDD99_FIELDS))


def _kdd99_kind(name: str) -> Kind:
    return "categorical" if name in KDD99_CATEGORICAL else "numeric"


def load_kdd99(folder: str | Path) -> pd.DataFrame:
    """Reads the 10 % file: 494,021 rows with the 41 named fields and `label` (text that ends with a dot).

    Args:
        folder: the folder of data sets; the file lies in its sub-folder `kdd99`.

    Raises:
        ConfigError: the file is not there.
    """
    path = Path(folder) / _FILE
    if not path.is_file():
        raise ConfigError(
            str(path), "no such file; it is the 10 % file of KDD Cup 1999 (UCI), also to be had from scikit-learn"
        )
    text = dict.fromkeys((*KDD99_CATEGORICAL, KDD99_LABEL), "string")
    return pd.read_csv(path, header=None, names=[*KDD99_FIELDS, KDD99_LABEL], dtype=text)


def to_feature_frame(frame: pd.DataFrame, schema: Schema) -> pl.DataFrame:
    """The features of a table as the preprocessor wants them: Float64, String, Boolean or Array of Float64 by kind.

    Args:
        frame: a column for each feature of the schema; others are left out.
        schema: which features, in which order.
    """
    columns = {feature.name: dtype_of(feature) for feature in schema.features}
    return pl.from_pandas(frame[list(columns)]).cast(columns)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Split:
    """Row positions of a table.

    Attributes:
        train: int64 (n_train,), inliers only.
        train_anomalies: int64 (n,), the anomalies of the training half, which the protocol leaves out.
        test: int64 (n_test,).
        y_test: int64 (n_test,), 1 = anomaly.
    """

    train: NDArray[np.int64]
    train_anomalies: NDArray[np.int64]
    test: NDArray[np.int64]
    y_test: NDArray[np.int64]


def split_kdd99(frame: pd.DataFrame) -> Split:
    """The authors' split: half the rows drawn with seed 42, trained on inliers, at most 20 % anomalies to test.

    The cut is theirs and has no effect on the 10 % file, whose other half holds 19.7 % anomalies.
    """
    is_anomaly = (frame[KDD99_LABEL] == _ANOMALY).to_numpy(dtype=bool)
    positions = pd.Series(np.arange(len(frame)))
    train = positions.sample(frac=0.5, random_state=42).to_numpy()
    test = np.setdiff1d(positions.to_numpy(), train)
    inliers, anomalies = test[~is_anomaly[test]], test[is_anomaly[test]]
    keep = np.random.default_rng(42).permutation(len(anomalies))[: len(inliers) // 4]
    test = np.sort(np.concatenate([inliers, anomalies[keep]]))
    return Split(train[~is_anomaly[train]], train[is_anomaly[train]], test, is_anomaly[test].astype(np.int64))


@dataclass(frozen=True)
class Detection:
    """How well scores separate labelled rows.

    Attributes:
        f1: of the protocol's decision, at a threshold that flags the share of anomalies that the protocol assumes.
        precision: of the same decision.
        recall: of the same decision.
        auroc: area under the receiver operating characteristic.
        ap: average precision.
    """

    f1: float
    precision: float
    recall: float
    auroc: float
    ap: float


def measure_detection(score: NDArray[np.floating], y: NDArray[np.int64], *, flagged: float = 0.2) -> Detection:
    """Applies the protocol's threshold, the (1 - flagged) quantile of the test scores, with `score >= threshold`.

    Args:
        score: float (n,), higher is more anomalous.
        y: int64 (n,), 1 = anomaly.
        flagged: share of the test rows above the threshold, in (0, 1).
    """
    threshold = np.quantile(score, 1 - flagged)
    precision, recall, f1, _ = precision_recall_fscore_support(
        y, score >= threshold, average="binary", zero_division=0.0
    )
    return Detection(
        float(f1),
        float(precision),
        float(recall),
        float(roc_auc_score(y, score)),
        float(average_precision_score(y, score)),
    )
