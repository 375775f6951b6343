"""The fault table: its rows in order, each with the function that plays it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import (
    clocks,
    gaps,
    history,
    kills,
    models,
    outages,
    poison,
    refusals,
    replicas,
    soak,
    stalls,
    topic_changes,
    trainings,
)
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage


@dataclass(frozen=True)
class Row:
    """A fault and how it is tried.

    Attributes:
        number: in the table.
        fault: in a few words.
        play: tries it, with a seed for random choices.
    """

    number: int
    fault: str
    play: Callable[[Stage, int], Outcome]


ROWS = (
    Row(1, "kill -9 at random points, at-least-once", kills.killed_at_least_once),
    Row(2, "kill -9 at random points, exactly-once", kills.killed_exactly_once),
    Row(3, "rolling restarts by SIGTERM, three replicas", replicas.rolling_restarts),
    Row(4, "broker down for a minute in mid-batch", outages.broker_down),
    Row(5, "broker dead during `commit_transaction`", outages.broker_dead_during_commit),
    Row(6, "a batch slower than `max_poll_interval_s`", stalls.slow_batch),
    Row(7, "SIGSTOP for twice the session time-out", stalls.zombie),
    Row(8, "scale 1 → 4 → 2 → 3 under load", replicas.scaling),
    Row(9, "poison among sound records", poison.poisoned),
    Row(10, "corrupt batch, missing codec", gaps.unreadable_batches),
    Row(11, "dead-letter topic takes nothing", refusals.dead_letters_refused),
    Row(12, "invalid ratio over its limit", poison.too_much_poison),
    Row(13, "alert topic down, slow, record too large", refusals.alerts_refused),
    Row(14, "offset out of range", gaps.offsets_lost),
    Row(15, "hot swaps under load, bundles that cannot be used", models.swaps),
    Row(16, "retraining killed, disk full, two trainers", trainings.retraining_faults),
    Row(17, "a bad challenger promoted by hand", models.bad_challenger),
    Row(18, "clock jumps by an hour, records from the future", clocks.clock_jumps),
    Row(19, "soak", soak.soak),
    Row(20, "tenfold burst", soak.burst),
    Row(21, "replay beside the live group", history.replayed),
    Row(22, "partitions added, topic deleted and created anew", topic_changes.topic_changes),
)
