"""How far a replay has come, partition by partition; kept in Kafka beside the committed offsets of the replay's own group."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec
import numpy as np

from monitor.stream.batches import Segment
from monitor.stream.judged import Judged


class PartitionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a replay; the metadata of its committed offset, in JSON.

    Attributes:
        start: first offset of the range.
        end: next-after-last offset of the range, fixed when the replay began.
        scored: records that were scored.
        flagged: records whose alert was delivered.
        invalid: records that cannot be scored, by reason; the live group has made dead letters of them.
        skipped: records that the broker had deleted before they were read.
        sha256: of the model that scores.
        written: bytes of the file that alerts go to; 0 where they go to a topic.
    """

    start: int
    end: int
    scored: int = 0
    flagged: int = 0
    invalid: dict[str, int] = {}
    skipped: int = 0
    sha256: str = ""
    written: int = 0

    def to_metadata(self) -> str:
        """What is committed with the offset."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_metadata(cls, metadata: str) -> PartitionProgress | None:
        """What was committed; None when it is not ours."""
        try:
            return msgspec.json.decode(metadata, type=cls)
        except msgspec.DecodeError:
            return None

    @property
    def n_records(self) -> int:
        """Records that are done."""
        return self.scored + sum(self.invalid.values())


def counted(progress: PartitionProgress, own: PartitionProgress) -> PartitionProgress:
    """Both together."""
    reasons = {*progress.invalid, *own.invalid}
    return msgspec.structs.replace(
        progress,
        scored=progress.scored + own.scored,
        flagged=progress.flagged + own.flagged,
        invalid={reason: progress.invalid.get(reason, 0) + own.invalid.get(reason, 0) for reason in sorted(reasons)},
        skipped=progress.skipped + own.skipped,
    )


def outcome_by_partition(judged: Judged) -> dict[int, PartitionProgress]:
    """What became of a micro-batch's records in each partition; all its messages are alerts."""
    segments = judged.batch.segments
    partition_of_row = np.repeat([segment.partition for segment in segments], [len(segment) for segment in segments])
    invalid: dict[int, dict[str, int]] = {}
    for row, reason in judged.invalid:
        counts = invalid.setdefault(int(partition_of_row[row]), {})
        counts[reason.reason] = counts.get(reason.reason, 0) + 1
    flagged = [message.lane for message in judged.messages]
    found = {}
    for partition, n_rows in zip(
        *(part.tolist() for part in np.unique(partition_of_row, return_counts=True)), strict=True
    ):
        bad = invalid.get(partition, {})
        found[partition] = PartitionProgress(
            start=0, end=0, scored=n_rows - sum(bad.values()), flagged=flagged.count(partition), invalid=bad
        )
    return found


def until(segment: Segment, end: int) -> Segment | None:
    """A segment without the records from an offset on; None when nothing is left."""
    n_rows = sum(
        len(batch) if batch.offsets[-1] < end else bisect_left(batch.offsets, end) for batch in segment.batches
    )
    return segment.split(n_rows)[0] if n_rows else None


def next_offsets(segments: Sequence[Segment]) -> dict[int, int]:
    """The offset to commit for each partition once these segments are done."""
    return {segment.partition: segment.next_offset for segment in segments}
