"""Since when a stream is as it is now, by the p-values that were recorded while it was scored.

After an abrupt change the rows before it say nothing of the scores that are to be expected, and a split by time would leave the
rows after it to calibration alone: the model would learn what is normal now only when they are most of its history.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from monitor.drift.sequential import SequentialTest

# Half of the rows since the change calibrate, and among those so many flags are to be expected: with ten, the realised alert rate
# is within [0.5, 2] times its target in 96 of 100 cases.
LEAST_FLAGS = 10


def find_change(
    times: NDArray[np.float64], p_values: NDArray[np.float64], versions: NDArray[np.str_], target_alert_rate: float
) -> float | None:
    """The time of the newest abrupt change after which there are rows enough to calibrate on half of them.

    Args:
        times: float64 (n,), seconds since 1970, ascending.
        p_values: float64 (n,), of the same records.
        versions: str (n,), the models that gave them; each has a test of its own, from its first record on.
        target_alert_rate: the share of normal rows that is to be flagged.
    """
    starts = [
        int(places[min(change.since, len(places) - 1)])
        for version in np.unique(versions)
        for places in [np.flatnonzero(versions == version)]
        for change in SequentialTest(target_alert_rate).observe(p_values[places])
    ]
    least = math.ceil(2 * LEAST_FLAGS / target_alert_rate)
    return max((float(times[start]) for start in starts if len(times) - start >= least), default=None)
