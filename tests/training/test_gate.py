"""The gate: sound challengers pass; each way to be bad is refused by the check that is there for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from monitor.model.bundle import Bundle
from monitor.model.scorer import Explanation, Scorer
from tests import machines
from tests.challengers import as_bundle
from training.expectations import expectation_error
from training.gate import GateLimits, GateResult, Trial, alert_rate_limits, has_drifted, is_off_target, judge
from training.suite import make_suite

TARGET = 0.02
NORMAL = machines.readings(4000, seed=50)
FROZEN = make_suite(machines.readings(1500, seed=51), machines.SCHEMA, np.random.default_rng(0))


def trial(window: pl.DataFrame | None = None) -> Trial:
    rows = machines.readings(1500, seed=52) if window is None else window
    recent = make_suite(rows, machines.SCHEMA, np.random.default_rng(1))
    return Trial(frozen=FROZEN, window=rows, newest=rows, recent=recent)


def hotter(n: int, seed: int) -> pl.DataFrame:
    """Readings of another season."""
    return machines.readings(n, seed=seed).with_columns(pl.col("motor.temperature_c") + 12.0)


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return as_bundle(NORMAL, tmp_path_factory.mktemp("champion") / "bundle")


def verdicts(result: GateResult) -> dict[str, str]:
    return {check.name: check.verdict for check in result.checks}


def decide(
    challenger: Bundle,
    champion: Bundle | None,
    rows: Trial,
    limits: GateLimits = GateLimits(),  # noqa: B008 - frozen
    anchor: Bundle | None = None,
) -> GateResult:
    return judge(challenger, champion, anchor or champion, rows, target_alert_rate=TARGET, limits=limits)


@pytest.mark.parametrize(
    ("flagged", "n", "off"),
    [
        (29, 1440, False),
        (50, 1440, False),  # 1.7 times the target is no chance, but within the band
        (65, 1440, True),  # 2.3 times: too many, though a model at twice the target may show it
        (13, 1440, False),  # 0.45 times may be chance
        (8, 1440, True),
        (0, 1440, True),
        (13, 288, False),  # 2.3 times, but of few rows
        (20, 288, True),
        (0, 288, False),
        (0, 0, False),
    ],
)
def test_a_champion_is_off_target_outside_of_the_band_and_beyond_chance(flagged: int, n: int, *, off: bool) -> None:
    p_value = np.where(np.arange(n) < flagged, TARGET, 0.5)
    assert is_off_target(p_value, TARGET, (0.5, 2.0)) is off


def test_a_challenger_like_the_champion_passes_every_check(champion: Bundle, tmp_path: Path) -> None:
    result = decide(as_bundle(machines.readings(4000, seed=53), tmp_path / "b"), champion, trial())
    assert (result.verdict, result.drift, result.refused) == ("passed", False, ())
    assert set(verdicts(result).values()) == {"passed"}
    assert [check.name for check in result.checks] == [
        "alert rate on reference normals",
        "alert rate on the last window",
        "AUROC on recent anomalies",
        "AUROC on recent anomalies against the champion",
        "AUROC on the frozen suite against the champion",
        "rank correlation with the champion",
        "error of expected values against the champion",
        "AUROC on the frozen suite against the anchor",
        "AUROC on swapped rows against the anchor",
        "AUROC on shifted rows against the anchor",
        "AUROC on foreign rows against the anchor",
    ]


@pytest.mark.parametrize(("wrong", "value"), [("too many", 0.0), ("too few", 60.0)])
def test_a_challenger_that_alerts_too_often_or_too_rarely_is_refused(
    champion: Bundle, tmp_path: Path, wrong: str, value: float
) -> None:
    score = champion.scorer.score(champion.preprocessor.transform(NORMAL).X)
    chosen = score < np.quantile(score, 0.9) if wrong == "too many" else score > np.quantile(score, 0.9)
    challenger = as_bundle(NORMAL.filter(pl.Series(chosen)), tmp_path / "b")
    result = decide(challenger, champion, trial())
    assert result.verdict == "refused"
    assert {check.name for check in result.refused} == {
        "alert rate on reference normals",
        "alert rate on the last window",
    }


def test_a_challenger_that_is_blind_to_a_feature_is_refused(champion: Bundle, tmp_path: Path) -> None:
    result = decide(as_bundle(NORMAL, tmp_path / "b", "motor.temperature_c", "load"), champion, trial())
    assert result.verdict == "refused"
    found = verdicts(result)
    assert found["AUROC on the frozen suite against the champion"] == "refused"
    assert found["AUROC on shifted rows against the anchor"] == "refused"
    assert found["alert rate on the last window"] == "passed"


class Clueless(Scorer):
    """The same scores; but what it says was to be expected is the mean of everything."""

    def __init__(self, own: Scorer) -> None:
        self.score = own.score  # type: ignore[method-assign]

    def explain(self, X: NDArray[np.float32]) -> Explanation:
        x_hat = np.broadcast_to(X.mean(axis=0), X.shape)
        return Explanation(x_hat, np.abs(X - x_hat))


def test_a_challenger_that_scores_as_well_and_expects_nonsense_is_refused(champion: Bundle) -> None:
    clueless = replace(champion, scorer=Clueless(champion.scorer))
    assert [check.name for check in decide(clueless, champion, trial()).refused] == [
        "error of expected values against the champion"
    ]
    assert decide(champion, clueless, trial()).verdict == "passed"


def test_the_error_of_expected_values_is_one_for_the_mean_and_small_for_a_trained_network(champion: Bundle) -> None:
    rows = machines.readings(3000, seed=59)
    assert expectation_error(replace(champion, scorer=Clueless(champion.scorer)), rows) == pytest.approx(1.0, rel=1e-6)
    assert 0.0 < expectation_error(champion, rows) < 0.5
    assert expectation_error(champion, rows.clear()) == 0.0


def test_what_the_champion_lost_already_only_the_anchor_tells(champion: Bundle, tmp_path: Path) -> None:
    walked_away = as_bundle(NORMAL, tmp_path / "a", "motor.temperature_c", "load")
    challenger = as_bundle(machines.readings(4000, seed=54), tmp_path / "b", "motor.temperature_c", "load")
    assert decide(challenger, walked_away, trial(), GateLimits(anchor_fall=None), champion).verdict == "passed"
    result = decide(challenger, walked_away, trial(), GateLimits(), champion)
    assert result.verdict == "refused"
    assert all("against the anchor" in check.name for check in result.refused)


def test_after_a_drift_likeness_to_the_past_is_waived_and_the_rest_is_not(champion: Bundle, tmp_path: Path) -> None:
    new = trial(hotter(1500, seed=55))
    recalibrated = as_bundle(hotter(4000, seed=56), tmp_path / "b")
    result = decide(recalibrated, champion, new)
    assert result.drift
    found = verdicts(result)
    assert found["alert rate on the last window"] == "passed"
    assert found["alert rate on reference normals"] == "waived"
    assert result.verdict == "passed"
    stale = decide(as_bundle(machines.readings(4000, seed=57), tmp_path / "c"), champion, new)
    assert [check.name for check in stale.refused] == ["alert rate on the last window"]


def test_labelled_records_are_one_more_check(champion: Bundle, tmp_path: Path) -> None:
    rows = machines.readings(400, seed=58, anomalies=40)
    labelled = replace(trial(), labelled=rows, labels=np.arange(400) >= 360)
    name = "AUROC on labelled records against the champion"
    sound = as_bundle(NORMAL, tmp_path / "b")
    assert verdicts(decide(sound, champion, labelled))[name] == "passed"
    blind = as_bundle(NORMAL, tmp_path / "c", "motor.temperature_c", "motor.current_a")
    assert verdicts(decide(blind, champion, labelled))[name] == "refused"
    assert name not in verdicts(decide(sound, champion, trial()))


def test_a_first_model_is_held_against_absolute_limits_only(champion: Bundle) -> None:
    result = decide(champion, None, trial())
    assert (result.verdict, result.champion, result.anchor) == ("passed", None, None)
    assert len(result.checks) == 3
    assert decide(champion, None, trial(), GateLimits(least_auroc=0.999)).verdict == "refused"


def test_the_manifest_s_account_holds_limit_value_and_verdict_of_each_check(champion: Bundle) -> None:
    result = decide(champion, champion, trial())
    account = result.as_dict()
    assert (account["verdict"], account["champion"], account["anchor"]) == (
        "passed",
        champion.version,
        champion.version,
    )
    assert all(set(check) == {"name", "limit", "value", "verdict"} for check in account["checks"])
    rate = account["checks"][0]
    assert rate["value"] == pytest.approx(TARGET, abs=0.015)
    assert rate["limit"] == "{:.2g} to {:.2g}".format(*alert_rate_limits(1500, TARGET, (0.5, 2.0)))


def test_the_band_of_alert_rates_is_widened_by_the_luck_of_the_draw_only() -> None:
    low, high = alert_rate_limits(1_000_000, 0.001, (0.5, 2.0))
    assert (low, high) == (pytest.approx(0.0005, rel=0.12), pytest.approx(0.002, rel=0.06))
    assert alert_rate_limits(1000, 0.001, (0.5, 2.0)) == (0.0, 0.006)
    rng = np.random.default_rng(0)
    limits = alert_rate_limits(2000, 0.01, (1.0, 1.0))
    rates = rng.binomial(2000, 0.01, 5000) / 2000
    assert np.mean((rates < limits[0]) | (rates > limits[1])) <= 0.021


def test_drift_is_told_by_distance_from_uniform_and_not_by_the_number_of_rows() -> None:
    rng = np.random.default_rng(0)
    assert not has_drifted(np.zeros(0))
    assert not has_drifted(rng.random(100_000) ** 1.05)
    assert not has_drifted(rng.random(20) ** 1.5)
    assert has_drifted(rng.random(2000) ** 1.5)
