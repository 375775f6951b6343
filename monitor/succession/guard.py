"""Watches a newly promoted model on its first records, beside the model that scored before it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitor.stream.judged import Judged

# The odds against a sound model being sent away.
_FALSE_ALARM = 1e-6
# A model may flag this many times as much as both its target and its predecessor do.
_MOST_FLAGGED = 4.0
# Of normal records half have a p-value below a half. A model is out of tune when far more or fewer have;
_OUT_OF_TUNE = 0.4
# its predecessor must not be, or it is the records that have changed.
_IN_TUNE = 0.25

Verdict = Literal["watching", "sound", "bad"]


@dataclass
class Guard:
    """Compares a new champion with its predecessor on the same records, until one of the two is sure.

    A share k/n is too high when a true share at its limit would exceed it with a probability below 1e-6, by the Chernoff bound
    exp(-n KL(k/n ‖ limit)) (Hoeffding 1963, theorem 1). It is looked at after each micro-batch. That a model flags too little is
    not seen in its flags, of which some thousand records have too few to tell, but in its p-values as a whole.

    Attributes:
        version: of the watched model; micro-batches of other ones are passed over.
        target: share of normal records that is expected to be flagged.
        records: how many are watched; it is sound after them.
        seen: how many were.
        flagged: of these, by the watched model.
        flagged_before: of these, by its predecessor.
        low: of these, with a p-value below a half.
        low_before: the same of its predecessor.
    """

    version: str
    target: float
    records: int
    seen: int = 0
    flagged: int = 0
    flagged_before: int = 0
    low: int = 0
    low_before: int = 0
    verdict: Verdict = "watching"
    reason: str = ""

    def observe(self, judged: Judged) -> None:
        """Takes a micro-batch, in order; may end with a verdict."""
        if self.verdict != "watching" or judged.by.bundle.version != self.version or judged.beside is None:
            return
        self.seen += len(judged.scores)
        self.flagged += judged.n_flagged
        self.flagged_before += judged.beside.n_flagged
        self.low += int(np.count_nonzero(judged.p_values < 0.5))
        self.low_before += int(np.count_nonzero(judged.beside.p_values < 0.5))
        self.reason = self._complaint()
        if self.reason:
            self.verdict = "bad"
        elif self.seen >= self.records:
            self.verdict = "sound"

    def _complaint(self) -> str:
        """What is wrong with the model, if anything surely is."""
        n = self.seen
        if not n:
            return ""
        limit = min(1.0, _MOST_FLAGGED * max(self.target, self.flagged_before / n))
        if _surely_above(self.flagged, n, limit):
            return (
                f"flagged {self.flagged} of its first {n} records; its predecessor flags {self.flagged_before} of them, "
                f"the target is {self.target:g}"
            )
        before_in_tune = abs(self.low_before / n - 0.5) < _IN_TUNE
        surely_off = _surely_above(self.low, n, 0.5 + _OUT_OF_TUNE) or _surely_above(
            n - self.low, n, 0.5 + _OUT_OF_TUNE
        )
        if before_in_tune and surely_off:
            return (
                f"its scores are out of tune: {self.low} of its first {n} records have p < 0.5, "
                f"with its predecessor {self.low_before}"
            )
        return ""


def _surely_above(k: int, n: int, limit: float) -> bool:
    """Whether a share k/n is too high for a true share of `limit` or less."""
    share = k / n
    if share <= limit:
        return False
    divergence = share * math.log(share / limit)
    if share < 1.0:
        divergence += (1.0 - share) * math.log((1.0 - share) / (1.0 - limit))
    return n * divergence > -math.log(_FALSE_ALARM)
