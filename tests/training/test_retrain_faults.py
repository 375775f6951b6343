"""Retrainings that are killed or run out of disk: the registry stays whole, and the next run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from monitor.model.registry import Registry
from tests.training.retraining import STEPS, assert_whole, run

# They take as long as those with TensorFlow: each starts a process of its own and waits for the lease of a dead one.
pytestmark = pytest.mark.training

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One with a first champion, made by a first retraining."""
    registry = Registry(str(tmp_path / "registry"))
    assert run(registry, 60).outcome == "promoted"
    return registry


def start(registry: Registry, seed: int, *step: str) -> subprocess.Popen[str]:
    """A retraining in a process of its own; dies at the step."""
    command = [sys.executable, "-m", "tests.training.retraining", registry.url, str(seed), *step]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("step", STEPS)
def test_killed_when_a_step_begins_it_leaves_the_registry_whole_and_the_next_run_goes_on(
    registry: Registry, step: str
) -> None:
    champion = registry.champion("machines")
    process = start(registry, 61, step)
    _, err = process.communicate(timeout=120)
    assert process.returncode == -9, err
    begun = [json.loads(line)["step"] for line in err.splitlines() if "retrain_step_started" in line]
    assert begun == list(STEPS[: STEPS.index(step) + 1])
    assert_whole(registry)
    assert registry.champion("machines") == champion
    time.sleep(1.0)  # the dead one's lease
    result = run(registry, 61)
    assert (result.outcome, result.resumed) == ("promoted", step in {"gate", "promote"})
    assert_whole(registry)


def test_killed_at_random_times_it_leaves_the_registry_whole(registry: Registry) -> None:
    rng, killed = np.random.default_rng(0), 0
    for attempt in range(6):
        process = start(registry, 70 + attempt)
        assert process.stderr is not None
        process.stderr.readline()  # it is at work from here on
        time.sleep(rng.uniform(0, 0.25))
        process.kill()
        killed += process.communicate(timeout=60)[0] == ""
        assert_whole(registry)
        time.sleep(1.0)
    assert killed
    assert run(registry, 80).outcome == "promoted"
    assert_whole(registry)


FULL_DISK = """
import resource, signal, sys
from monitor.errors import BundleError
from tests.training import retraining
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop()), resource.RLIM_INFINITY))
try:
    retraining.main()
except BundleError as error:
    print(error)
"""


@pytest.mark.parametrize("most_bytes", ["100", "3000", "10000", "20000"])
def test_a_disk_that_takes_no_more_ends_it_with_an_error_of_ours_and_a_whole_registry(
    registry: Registry, most_bytes: str
) -> None:
    champion = registry.champion("machines")
    command = [sys.executable, "-c", FULL_DISK, registry.url, "61", most_bytes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be written: File too large" in done.stdout
    assert_whole(registry)
    assert registry.champion("machines") == champion
    time.sleep(1.0)
    assert run(registry, 61).outcome == "promoted"
