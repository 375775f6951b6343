"""What became of a micro-batch, before anything of it was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.errors import InvalidRecord
from monitor.stream.batches import MicroBatch
from monitor.stream.sink import Message

if TYPE_CHECKING:
    from monitor.archive.sample import Sample
    from monitor.drift.psi import SampledRows
    from monitor.drift.watch import DriftWatch
    from monitor.model.bundle import Bundle
    from monitor.settings import Settings


class Judge(Protocol):
    """Turns micro-batches into messages; the result of a record is always the same."""

    @property
    def bundle(self) -> Bundle:
        """The model that scores."""

    @property
    def settings(self) -> Settings:
        """The decision settings."""

    @property
    def drift(self) -> DriftWatch | None:
        """Watches this model."""

    def judge(self, batch: MicroBatch) -> Judged:
        """Decodes, scores and decides; called by several threads."""


@dataclass(frozen=True)
class Beside:
    """What a model says that is tried beside the one in service; nothing of it is published.

    Attributes:
        version: which model.
        p_values: float64 (n_scored,).
        n_flagged: how many alerts there would be.
    """

    version: str
    p_values: NDArray[np.float64]
    n_flagged: int


@dataclass(frozen=True)
class Judged:
    """A judged micro-batch.

    Attributes:
        batch: the records.
        by: who judged it, and would judge a part of it alike.
        messages: alerts and dead letters, in the order of the records.
        scores: float64 (n_scored,).
        p_values: float64 (n_scored,).
        n_flagged: how many alerts there are.
        invalid: position in the batch and reason of each dead letter, ascending.
        imputed: replaced values by feature.
        timestamps_ms: int64 (n_rows,), Kafka's timestamps.
        stage_seconds: wall time by stage.
        beside: what another model says of the same rows, if one is asked.
        sample: rows for the archive, if there is one.
        inputs: rows for the drift watch, if there is one.
    """

    batch: MicroBatch
    by: Judge
    messages: list[Message]
    scores: NDArray[np.float64]
    p_values: NDArray[np.float64]
    n_flagged: int
    invalid: Sequence[tuple[int, InvalidRecord]]
    imputed: dict[str, int]
    timestamps_ms: NDArray[np.int64]
    stage_seconds: dict[str, float]
    beside: Beside | None = None
    sample: Sample | None = None
    inputs: SampledRows | None = None

    @property
    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(reason.reason for _, reason in self.invalid)
