"""Row 16: a retraining is killed at any point, the disk is full, two trainers work at once; the registry stays whole."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from monitor.model.registry import Registry
from tests.faults.outcome import Outcome
from tests.faults.stage import Stage
from tests.training.retraining import STEPS, assert_whole, run

ROOT = Path(__file__).parents[2]
# The lease of a dead trainer keeps the next one away for that long.
LEASE_S = 1.0
FULL_DISK = """
import resource, signal, sys
from tests.training import retraining
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop()), resource.RLIM_INFINITY))
retraining.main()
"""


def retraining_faults(stage: Stage, seed: int, *, random_kills: int = 6) -> Outcome:
    """Row 16. A retraining without TensorFlow: the committed network, calibrated anew; all else is the real thing."""
    registry = Registry(str(stage.folder / "trained"))
    assert run(registry, seed).outcome == "promoted"
    champion = registry.champion("machines")
    whole: dict[str, bool] = {}
    for step in STEPS:
        process = _start(registry, seed + 1, step)
        killed = process.wait(timeout=120) == -signal.SIGKILL
        whole[f"killed when {step} begins"] = (
            killed and _is_whole(registry) and registry.champion("machines") == champion
        )
        time.sleep(LEASE_S)
    for number, moment_s in enumerate(np.random.default_rng(seed).uniform(0, 0.3, random_kills)):
        process = _start(registry, seed + 2 + number)
        assert process.stderr is not None
        process.stderr.readline()  # it is at work from here on
        time.sleep(moment_s)
        process.kill()
        process.communicate(timeout=60)
        whole[f"killed {1000 * moment_s:.0f} ms after its start"] = _is_whole(registry)
        time.sleep(LEASE_S)
    champion = registry.champion("machines")
    for most_bytes in (100, 3000, 20_000):
        command = [sys.executable, "-c", FULL_DISK, registry.url, str(seed + 50), str(most_bytes)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        said = "cannot be written: File too large" in done.stderr
        whole[f"disk full after {most_bytes} bytes"] = (
            said and _is_whole(registry) and registry.champion("machines") == champion
        )
        time.sleep(LEASE_S)
    outcomes = _two_at_once(registry, seed + 60)
    whole["two at once"] = outcomes == ["busy", "promoted"] and _is_whole(registry)
    whole["the next one goes on"] = run(registry, seed + 70).outcome == "promoted" and _is_whole(registry)
    return Outcome(
        demands={f"the registry is whole: {fault}": held for fault, held in whole.items()},
        figures={"trainings_hit": len(whole) - 1},
        notes=f"{len(STEPS)} kills at a step, {random_kills} at random, 3 full disks, two at once: {' and '.join(outcomes)}",
    )


def _start(registry: Registry, seed: int, *step: str) -> subprocess.Popen[str]:
    """A retraining in a process of its own; dies at the step."""
    command = [sys.executable, "-m", "tests.training.retraining", registry.url, str(seed), *step]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _two_at_once(registry: Registry, seed: int) -> list[str]:
    """What the second one says, which is started when the first one begins to train, and what the first one says."""
    said = []

    def meanwhile(step: str) -> None:
        if step == "train":
            said.append(_outcome_of(_start(registry, seed + 1)))

    said.append(run(registry, seed, on_step=meanwhile).outcome)
    return said


def _outcome_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.strip()


def _is_whole(registry: Registry) -> bool:
    try:
        assert_whole(registry)
    except AssertionError:
        return False
    return True
