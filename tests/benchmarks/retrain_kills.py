"""A retraining is killed at fifty random moments: the registry stays whole and the next run goes on.

`python -m tests.benchmarks.retrain_kills [--kills N] [--seed N]`. One registry bears all kills, so that what they leave behind
adds up. Half of the moments are spread evenly over a retraining's whole life, half over what is left of it when it begins to
register, which is short, but when most is written to the registry. The challenger is the committed network, calibrated anew
(`tests.challengers`); all else is the real thing.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.errors import GanwatchError
from monitor.model.registry import Registry
from tests.benchmarks.goals import Goals, report
from tests.benchmarks.kdd99_stream import say
from tests.training.retraining import STEPS, assert_whole, run
from training.retrain import RetrainResult

ROOT = Path(__file__).parents[2]
SINCE = ("read", "register")
_CHAMPION_SEED, _NEXT_SEED = 1_000, 2_000


@dataclass(frozen=True)
class Kill:
    """One kill and what came after it.

    Attributes:
        step: the last one that had begun.
        whole: every version that can be seen loads, and the log leads to one of them.
        sound: the champion is the one from before, or a complete new one.
        resumed: whether the next run took up what the dead one had registered.
        went_on: whether the next run promoted a challenger and left the registry whole.
    """

    step: str
    whole: bool
    sound: bool
    resumed: bool
    went_on: bool


def main() -> int:
    """Kills, prints a table and the figures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(f"{folder}/registry")
        run(registry, _CHAMPION_SEED)
        kills = kill_often(registry, arguments.kills, np.random.default_rng(arguments.seed))
    begun = Counter(kill.step for kill in kills)
    for step in STEPS:
        print(f"{step:<10}{begun[step]:>4} kills")
    figures = {
        "retrain_kills": len(kills),
        "retrain_kills_whole": sum(kill.whole for kill in kills),
        "retrain_kills_champion_sound": sum(kill.sound for kill in kills),
        "retrain_kills_next_went_on": sum(kill.went_on for kill in kills),
        "retrain_kills_next_resumed": sum(kill.resumed for kill in kills),
        "retrain_kills_steps_hit": len(begun),
    }
    goals: Goals = dict.fromkeys(list(figures)[:4], lambda times: times >= arguments.kills)
    return report(figures, goals)


def kill_often(registry: Registry, count: int, rng: np.random.Generator) -> list[Kill]:
    """So many kills, each at a random moment of a life; one that was over by then says how long lives are at present."""
    kills: list[Kill] = []
    life_s = {step: _life_s(registry, 0, step) for step in SINCE}
    while len(kills) < count:
        since = SINCE[len(kills) % len(SINCE)]
        moment_s = rng.uniform(0, life_s[since])
        kill = _kill(registry, len(kills), since, moment_s)
        if kill is None:
            life_s[since] = _life_s(registry, len(kills), since)
        else:
            kills.append(kill)
            say(f"{len(kills):>3} {1000 * moment_s:.1f} of {1000 * life_s[since]:.1f} ms after {since}: {kill}")
    return kills


def _life_s(registry: Registry, seed: int, since: str) -> float:
    """From the beginning of a step to the last word, nobody killing it."""
    process = _start(registry, seed, since)
    started = time.monotonic()
    assert process.stderr is not None
    said = any("retrain_done" in line for line in process.stderr)
    life_s = time.monotonic() - started
    process.communicate(timeout=60)
    assert said
    return life_s


def _kill(registry: Registry, seed: int, since: str, moment_s: float) -> Kill | None:
    """Kills one so long after the beginning of a step; None when it was over by then."""
    champion, versions = registry.champion("machines"), set(registry.versions("machines"))
    process = _start(registry, seed, since)
    time.sleep(moment_s)
    process.kill()
    _, err = process.communicate(timeout=60)
    if process.returncode != -signal.SIGKILL:
        return None
    begun = [since] + [json.loads(line)["step"] for line in err.splitlines() if "retrain_step_started" in line]
    whole, present = _is_whole(registry), registry.champion("machines")
    sound = present == champion or present in set(registry.versions("machines")) - versions
    following = _run_when_free(registry, _NEXT_SEED + seed)
    went_on = following.outcome == "promoted" and _is_whole(registry)
    return Kill(begun[-1], whole=whole, sound=sound, resumed=following.resumed, went_on=went_on)


def _start(registry: Registry, seed: int, since: str) -> subprocess.Popen[str]:
    """A retraining in a process of its own, in which that step has begun."""
    command = [sys.executable, "-m", "tests.training.retraining", registry.url, str(seed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(json.loads(line).get("step") == since for line in process.stderr), process.wait(60)
    return process


def _run_when_free(registry: Registry, seed: int) -> RetrainResult:
    """The next retraining, as soon as the dead one's lease lets it."""
    while (result := run(registry, seed)).outcome == "busy":
        time.sleep(0.1)
    return result


def _is_whole(registry: Registry) -> bool:
    try:
        assert_whole(registry)
    except (AssertionError, GanwatchError):
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
