"""Rows of the fault table that no other test plays, at a size of seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import clocks, gaps, kills, replicas, stalls, topic_changes
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage, open_stage

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def stage_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("faults")) as stage:
        yield stage


@pytest.fixture
def stage(stage_of_all: Stage, request: pytest.FixtureRequest) -> Stage:
    return stage_of_all.cleared(request.node.name)


def assert_passed(outcome: Outcome) -> None:
    assert outcome.missed == []
    assert outcome.passed


def test_nothing_is_lost_when_the_daemon_is_killed_while_it_lags(stage: Stage) -> None:
    assert_passed(kills.killed_at_least_once(stage, 0, kills=4, records=8000))


def test_nothing_is_lost_repeated_or_reordered_with_exactly_once_when_it_is_killed_while_it_lags(stage: Stage) -> None:
    # Too few kills to demand a share of them at the worst moment; the whole row does.
    assert_passed(kills.killed_exactly_once(stage, 0, kills=4, records=8000))


def test_a_batch_that_cannot_be_read_is_found_at_once_and_skipped_or_ends_the_daemon(stage: Stage) -> None:
    assert_passed(gaps.unreadable_batches(stage, 0))


def test_a_batch_slower_than_max_poll_interval_s_costs_no_membership(stage: Stage) -> None:
    assert_passed(stalls.slow_batch(stage, 0, records=1000))


def test_replicas_scale_from_one_to_four_to_two_to_three_under_load(stage: Stage) -> None:
    assert_passed(replicas.scaling(stage, 0, pause_s=1.0))


def test_a_rolling_restart_loses_nothing_and_repeats_nothing(stage: Stage) -> None:
    assert_passed(replicas.rolling_restarts(stage, 0, rounds=1))


def test_a_clock_that_is_set_back_an_hour_hangs_nothing(stage: Stage) -> None:
    assert_passed(clocks.clock_jumps(stage, 0, records=200, jumps=(-clocks.HOUR_S,)))


def test_a_topic_that_was_created_anew_is_noticed_and_read_from_its_start(stage: Stage) -> None:
    delivered, demands, _ = topic_changes.created_anew(stage, 0, 200)
    assert_passed(Outcome(delivered.exactly_once | demands))
