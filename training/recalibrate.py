"""The champion's network, calibrated on new rows: what the gate is offered when it refused the network that was trained on them.

A drift leaves the champion's threshold behind: it alerts on far more, or far fewer, records than it should. A network trained on
the rows of now may not be let pass, for it forgot the anchor's anomalies. The old network still ranks what it always ranked, and
with the scores of the rows of now it alerts as often as it should, until a better one is found.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from monitor.model.bundle import Bundle, read_files, write_bundle
from training.account import describe_tail
from training.calibrate import fit_calibration, score_frame
from training.history import History, describe_window
from training.split import split_rows


def recalibrate(champion: Bundle, history: History, folder: Path) -> Path:
    """Writes the bundle into a new folder.

    Args:
        champion: whose network, transform and configuration are kept.
        history: rows with times, as the retrained network got them: the newest ones calibrate. They are newer than those that
            the champion was trained on, which were the oldest of an earlier reading.
        folder: of the bundle.

    Returns:
        The folder.
    """
    rows = split_rows(history, np.random.default_rng(0)).calibrate  # by time, so nothing is random
    calibration = fit_calibration(score_frame(champion.preprocessor, champion.scorer, history.frame[rows]))
    first, last = describe_window(None if history.times is None else history.times[rows])
    old = champion.manifest
    manifest = msgspec.structs.replace(
        old,
        created_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        data=old.data
        | {
            "network_of": old.data.get("network_of", champion.version),
            "calibration_rows": len(rows),
            "calibrated_on": {"source": history.source, "first": first, "last": last},
        },
        metrics=old.metrics | {"calibration_tail": describe_tail(calibration)},
    )
    write_bundle(folder, manifest, read_files(champion.path, old) | {"calibration.npz": calibration.to_npz()})
    return folder
